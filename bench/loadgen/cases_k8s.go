package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

const (
	podCount = 500
	podUID   = "a2830d0d-b0f0-4ff0-81b5-%012x"
)

// Pods with and without a sidecar, as kubelets list them; NUMBER, UID and
// CONTAINER stand for what differs.
//
//go:embed pods.json
var podTemplates []byte

const k8sPlugin = `WorkloadAttestor "k8s" {
        plugin_data {
            kubelet_secure_port = %d
            kubelet_ca_path = "%[2]s/kubelet.pem"
            token_path = "%[2]s/token"
            poll_retry_interval = "%s"
        }
    }`

func podList() ([]byte, error) {
	var templates []json.RawMessage
	if err := json.Unmarshal(podTemplates, &templates); err != nil {
		return nil, err
	}
	var list bytes.Buffer
	list.WriteString(`{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[`)
	for i := range podCount {
		if i > 0 {
			list.WriteByte(',')
		}
		text := strings.NewReplacer("NUMBER", strconv.Itoa(i), "UID", fmt.Sprintf(podUID, i),
			"CONTAINER", fmt.Sprintf("%064x", i)).Replace(string(templates[i%len(templates)]))
		if err := json.Compact(&list, []byte(text)); err != nil {
			return nil, err
		}
	}
	list.WriteString("]}\n")
	return list.Bytes(), nil
}

// kubelet serves the list over TLS on a free port, as the kubelet does it: in Go,
// with one write. It leaves its certificate and a token in dir.
func kubelet(list []byte, dir string) (*httptest.Server, *atomic.Int64, error) {
	var asked atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/pods" || r.Header.Get("Authorization") != "Bearer token" {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.Write(list)
	}))
	key := newKey()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubelet"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	err = errors.Join(os.WriteFile(filepath.Join(dir, "token"), []byte("token"), 0o600),
		os.WriteFile(filepath.Join(dir, "kubelet.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	if err != nil {
		return nil, nil, err
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	return s, &asked, nil
}

// enterCgroup moves this process into a cgroup of that path in each hierarchy; the
// function it returns moves it back.
func enterCgroup(path string) (func(), error) {
	const mounts = "/sys/fs/cgroup"
	pid := []byte(strconv.Itoa(os.Getpid()))
	lines, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var back []func()
	leave := func() {
		for _, f := range back {
			f()
		}
	}
	for line := range strings.Lines(string(lines)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		top := filepath.Join(mounts, strings.TrimPrefix(part[1], "name="))
		if part[1] == "" { // version 2: alone, or beside the others
			if _, err := os.Stat(mounts + "/cgroup.procs"); err != nil {
				top = mounts + "/unified"
			}
		}
		if _, err := os.Stat(top + "/cgroup.procs"); err != nil {
			continue
		}
		made := top
		for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
			above := made
			made = filepath.Join(made, name)
			if os.Mkdir(made, 0o755) == nil {
				back = append([]func(){func() { os.Remove(filepath.Join(above, name)) }}, back...)
			}
			for _, f := range []string{"cpuset.cpus", "cpuset.mems"} { // empty ones let nobody in
				if v, err := os.ReadFile(filepath.Join(above, f)); err == nil {
					os.WriteFile(filepath.Join(made, f), v, 0o644)
				}
			}
		}
		if err := os.WriteFile(made+"/cgroup.procs", pid, 0o644); err != nil {
			leave()
			return nil, fmt.Errorf("entering a cgroup, which root may: %w", err)
		}
		back = append([]func(){func() { os.WriteFile(filepath.Join(top, part[2], "cgroup.procs"), pid, 0o644) }}, back...)
	}
	if len(back) == 0 {
		return nil, errors.New("no cgroups at " + mounts)
	}
	return leave, nil
}

// k8sCase: what attesting a process of one of many pods adds to a call of the
// Workload API, with a list of pods for each call, and from one that is kept.
func k8sCase(b *bench) error {
	list, err := podList()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.work, "pods.json"), list, 0o644); err != nil {
		return err
	}
	k, asked, err := kubelet(list, b.work)
	if err != nil {
		return err
	}
	defer k.Close()
	s, err := b.startServer()
	if err != nil {
		return err
	}
	b.put("list_bytes", len(list))
	plugin := func(keep string) string {
		return fmt.Sprintf(k8sPlugin, k.Listener.Addr().(*net.TCPAddr).Port, b.work, keep)
	}
	var without load
	for i, each := range []struct {
		name    string
		plugins []string
		calls   int
	}{{"without", nil, 1000}, {"new_list", []string{plugin("1ms")}, 60}, {"kept_list", []string{plugin("1h")}, 1000}} {
		agent, socket, path, _, err := b.startAgent(s, each.plugins...)
		if err != nil {
			return err
		}
		// what the agent gives does not depend on the pod, so only attestation differs
		if _, err := s.createEntries(b.ctx, path, i, i+1, &types.Selector{Type: "unix", Value: fmt.Sprintf("uid:%d", os.Getuid())}); err != nil {
			return err
		}
		for deadline := time.Now().Add(30 * time.Second); ; b.sleep(200 * time.Millisecond) {
			if err = fetchOnce(b.ctx, socket, 1); err == nil {
				break
			}
			if time.Now().After(deadline) {
				return agent.fail(fmt.Errorf("no SVIDs: %w", err))
			}
		}
		before := asked.Load()
		with, err := fetchInPod(b, agent, socket, each.calls)
		if err != nil {
			return agent.fail(err)
		}
		lists := asked.Load() - before
		if want := map[string]int64{"new_list": int64(with.calls) + 1, "kept_list": 1}[each.name]; lists != want {
			return fmt.Errorf("%s: the kubelet was asked %d times, want %d", each.name, lists, want)
		}
		if each.name == "without" {
			without = with
		} else {
			b.put(each.name+"_agent_cpu_ms", with.cpuMS(1)-without.cpuMS(1))
			b.put(each.name+"_agent_pairs", (with.cpuMS(1)-without.cpuMS(1))/with.floor)
			b.put(each.name+"_p50_ms", with.quantile(.5))
			b.putMem(each.name+"_agent_", agent)
		}
		agent.stop()
	}
	return nil
}

// fetchInPod calls from within the last pod, once more than it measures.
func fetchInPod(b *bench, agent *proc, socket string, calls int) (load, error) {
	leave, err := enterCgroup(fmt.Sprintf("/kubepods/burstable/pod"+podUID+"/%064x", podCount-1, podCount-1))
	if err != nil {
		return load{}, err
	}
	defer leave()
	fetch := func(_, _ int) error { return fetchOnce(b.ctx, socket, 1) }
	if err := fetch(0, 0); err != nil { // connects to the kubelet
		return load{}, err
	}
	return hammer(b.ctx, agent, 1, calls, 40*time.Second, fetch)
}
