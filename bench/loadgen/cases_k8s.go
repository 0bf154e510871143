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

// k8sCase: attesting a process of one of many pods, with a list of pods for each
// attestation, and from one that is kept.
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
	for i, each := range []struct{ name, keep string }{{"new_list", "1ms"}, {"kept_list", "1h"}} {
		agent, socket, path, _, err := b.startAgent(s, fmt.Sprintf(k8sPlugin, k.Listener.Addr().(*net.TCPAddr).Port, b.work, each.keep))
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
		if err := k8sAttest(b, agent, socket, each.name, asked); err != nil {
			return agent.fail(err)
		}
		agent.stop()
	}
	return nil
}

// k8sAttest puts what a call costs from within a pod beyond what it costs from
// outside of pods.
func k8sAttest(b *bench, agent *proc, socket, name string, asked *atomic.Int64) error {
	const calls = 60
	fetch := func(_, _ int) error { return fetchOnce(b.ctx, socket, 1) }
	outside, err := hammer(b.ctx, agent, 1, calls, 20*time.Second, fetch)
	if err != nil {
		return err
	}
	leave, err := enterCgroup(fmt.Sprintf("/kubepods/burstable/pod"+podUID+"/%064x", podCount-1, podCount-1))
	if err != nil {
		return err
	}
	defer leave()
	if err := fetch(0, 0); err != nil { // connects to the kubelet
		return err
	}
	before := asked.Load()
	inside, err := hammer(b.ctx, agent, 1, calls, 40*time.Second, fetch)
	if err != nil {
		return err
	}
	lists := asked.Load() - before
	if want := map[string]int64{"new_list": int64(inside.calls)}[name]; lists != want {
		return fmt.Errorf("the kubelet was asked %d times in %d attestations, want %d", lists, inside.calls, want)
	}
	b.put(name+"_agent_cpu_ms", inside.cpuMS(1)-outside.cpuMS(1))
	b.put(name+"_agent_pairs", (inside.cpuMS(1)-outside.cpuMS(1))/inside.floor)
	b.put(name+"_p50_ms", inside.quantile(.5))
	b.putMem(name+"_agent_", agent)
	return nil
}
