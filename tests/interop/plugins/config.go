// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/hcl"
	"github.com/spiffe/spire-plugin-sdk/pluginsdk"
	metricsv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/hostservice/common/metrics/v1"
	agentstorev1 "github.com/spiffe/spire-plugin-sdk/proto/spire/hostservice/server/agentstore/v1"
	identityproviderv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/hostservice/server/identityprovider/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fault says what goes wrong in a call.
type fault struct {
	Do    string `hcl:"do"`    // exit, panic, hang, error, flood, stdout, oversize, anything else: a lie of the method
	After int    `hcl:"after"` // number of calls that go well first
	Once  string `hcl:"once"`  // file that is made at the first time, and prevents a second
	Text  string `hcl:"text"`
	Code  int    `hcl:"code"` // gRPC code of an error
	MS    int    `hcl:"ms"`   // how long a flood lasts
}

type config struct {
	Journal string           `hcl:"journal"`
	Name    string           `hcl:"name"`   // the plugin's own name, or the node's
	Faults  map[string]fault `hcl:"fault"`  // by method
	Reject  string           `hcl:"reject"` // refuse this configuration with this text
	Notes   []string         `hcl:"notes"`  // what Validate says of it
	Chatter bool             `hcl:"chatter"`

	Secret      string   `hcl:"secret"` // NodeAttestor: key of the challenge
	Rounds      int      `hcl:"rounds"` // NodeAttestor: how many challenges
	CanReattest bool     `hcl:"can_reattest"`
	Selectors   []string `hcl:"selectors"`    // WorkloadAttestor, NodeAttestor
	Keys        string   `hcl:"keys"`         // KeyManager: file
	Folder      string   `hcl:"folder"`       // SVIDStore
	Path        string   `hcl:"path"`         // BundlePublisher: file
	Root        string   `hcl:"root"`         // UpstreamAuthority: PEM of certificate and key
	NextRoot    string   `hcl:"next_root"`    // UpstreamAuthority: PEM of a certificate, looked for all the time
	NextKey     string   `hcl:"next_key"`     // UpstreamAuthority: PEM of a public key, looked for all the time
	NoJWT       bool     `hcl:"no_jwt"`       // UpstreamAuthority: does not do JWT keys
	WholeBundle bool     `hcl:"whole_bundle"` // UpstreamAuthority: offers SubscribeToLocalBundle
	OU          string   `hcl:"ou"`           // CredentialComposer
	OID         string   `hcl:"oid"`          // CredentialComposer
	Claim       string   `hcl:"claim"`        // CredentialComposer
}

// The plugin's own standard output and error: go-plugin puts pipes of its own in place of os.Stdout and os.Stderr,
// whose content goes to the host through a gRPC service.
var rawOut, rawErr = os.NewFile(1, "stdout"), os.NewFile(2, "stderr")

// base is what all kinds share: configuration, log, journal, host services, faults.
type base struct {
	configv1.UnimplementedConfigServer

	log      hclog.Logger
	identity identityproviderv1.IdentityProviderServiceClient
	agents   agentstorev1.AgentStoreServiceClient
	metrics  metricsv1.MetricsServiceClient

	mu          sync.Mutex
	cfg         config
	trustDomain string
	calls       map[string]int
}

func (b *base) SetLogger(log hclog.Logger) { b.log = log }

func (b *base) BrokerHostServices(broker pluginsdk.ServiceBroker) error {
	broker.BrokerClient(&b.identity)
	broker.BrokerClient(&b.agents)
	broker.BrokerClient(&b.metrics)
	return nil
}

func parse(text string) (*config, error) {
	cfg := new(config)
	if err := hcl.Decode(cfg, text); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "unable to decode configuration: %v", err)
	}
	if cfg.Journal == "" {
		return nil, status.Error(codes.InvalidArgument, "journal must be set")
	}
	return cfg, nil
}

func (b *base) Configure(ctx context.Context, req *configv1.ConfigureRequest) (*configv1.ConfigureResponse, error) {
	cfg, err := parse(req.HclConfiguration)
	if err != nil {
		return nil, err
	}
	if cfg.Reject != "" {
		return nil, status.Error(codes.InvalidArgument, cfg.Reject)
	}
	b.mu.Lock()
	b.cfg = *cfg
	b.trustDomain = req.CoreConfiguration.GetTrustDomain()
	b.mu.Unlock()
	if _, err := b.enter("Configure", map[string]any{
		"trust_domain": b.trustDomain, "identity": b.identity.IsInitialized(), "agents": b.agents.IsInitialized(),
		"metrics": b.metrics.IsInitialized(),
	}); err != nil {
		return nil, err
	}
	if cfg.Chatter {
		b.chatter()
	}
	return &configv1.ConfigureResponse{}, nil
}

func (b *base) Validate(ctx context.Context, req *configv1.ValidateRequest) (*configv1.ValidateResponse, error) {
	cfg, err := parse(req.HclConfiguration)
	if err != nil {
		return &configv1.ValidateResponse{Notes: []string{status.Convert(err).Message()}}, nil
	}
	if cfg.Reject != "" {
		return nil, status.Error(codes.InvalidArgument, cfg.Reject)
	}
	return &configv1.ValidateResponse{Valid: len(cfg.Notes) == 0, Notes: cfg.Notes}, nil
}

func (b *base) Close() error {
	_, err := b.enter("Close", nil)
	return err
}

// chatter writes a log line of every level and of every form.
func (b *base) chatter() {
	b.log.Trace("chatter of level trace")
	b.log.Debug("chatter of level debug", "number", 7, "text", "two words")
	b.log.Info("chatter of level info", "flag", true, "list", []string{"a", "b"})
	b.log.Warn("chatter of level warn", "error", fmt.Errorf("no \"such\" thing\nsecond line"))
	b.log.Error("chatter of level error", "float", 1.5, "level", "mine", "msg", "mine")
	b.log.Named("sub").With("fixed", "yes").Info("chatter of a sub-logger")
	fmt.Fprintln(rawErr, "chatter without form")
	fmt.Fprintln(rawErr, "[WARN] chatter with a mark")
	fmt.Fprintln(rawErr, `{"@level":"info","@message":"chatter without time","deep":{"a":[1,2]}}`)
	fmt.Fprintln(rawErr, `{"broken": `)
	fmt.Fprintln(rawErr, "chatter\x1b[31m with \x00 control \xff characters")
}

func appendLine(path string, what map[string]any) {
	line, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return // before a configuration there is none
	}
	defer f.Close()
	f.Write(append(line, '\n'))
}

// enter notes a call in the journal and lets it go wrong as configured; the text it returns is a lie that the
// method is to tell.
func (b *base) enter(method string, fields map[string]any) (string, error) {
	b.mu.Lock()
	if b.calls == nil {
		b.calls = map[string]int{}
	}
	b.calls[method]++
	n, cfg := b.calls[method], b.cfg
	b.mu.Unlock()

	line := map[string]any{"call": method, "name": cfg.Name, "pid": os.Getpid()}
	for k, v := range fields {
		line[k] = v
	}
	appendLine(cfg.Journal, line)
	f, ok := cfg.Faults[method]
	if !ok || n <= f.After {
		return "", nil
	}
	if f.Once != "" {
		made, err := os.OpenFile(f.Once, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return "", nil
		}
		made.Close()
	}
	return b.goWrong(&f)
}

func (b *base) goWrong(f *fault) (string, error) {
	switch f.Do {
	case "exit":
		fmt.Fprintln(rawErr, "last words before the exit")
		os.Exit(7)
	case "panic":
		go panic("panic on purpose: " + f.Text)
		time.Sleep(time.Minute)
	case "hang":
		time.Sleep(time.Hour)
	case "error":
		code := codes.Internal
		if f.Code != 0 {
			code = codes.Code(f.Code)
		}
		return "", status.Error(code, f.Text)
	case "flood":
		flood(rawErr, time.Duration(f.MS)*time.Millisecond)
	case "flood stdio":
		flood(os.Stderr, time.Duration(f.MS)*time.Millisecond)
	case "stdout":
		fmt.Fprintln(rawOut, "words on standard output after the handshake")
		flood(rawOut, time.Duration(f.MS)*time.Millisecond)
	default:
		return f.Do, nil
	}
	return "", nil
}

// flood writes as fast as it is taken: short lines, then lines without end.
func flood(to *os.File, long time.Duration) {
	text := strings.Repeat(`{"@level":"info","@message":"flood","@timestamp":"2026-01-01T00:00:00Z","n":1}`+"\n", 500)
	end := time.Now().Add(long / 2)
	for time.Now().Before(end) {
		to.WriteString(text)
	}
	endless := strings.Repeat("no end of line ", 4096)
	end = time.Now().Add(long / 2)
	for time.Now().Before(end) {
		to.WriteString(endless)
	}
	to.WriteString("\nend of the flood\n")
}

// host asks the host services and tells what they said.
func (b *base) host(ctx context.Context, agentID string) map[string]any {
	said := map[string]any{}
	if b.identity.IsInitialized() {
		resp, err := b.identity.FetchX509Identity(ctx, &identityproviderv1.FetchX509IdentityRequest{})
		said["identity"] = identityText(resp, err)
	}
	if b.agents.IsInitialized() && agentID != "" {
		resp, err := b.agents.GetAgentInfo(ctx, &agentstorev1.GetAgentInfoRequest{AgentId: agentID})
		if err != nil {
			said["agent"] = err.Error()
		} else {
			said["agent"] = resp.GetInfo().GetAgentId()
		}
	}
	if b.metrics.IsInitialized() {
		said["metrics"] = b.measure(ctx)
	}
	return said
}

func (b *base) measure(ctx context.Context) string {
	labels := []*metricsv1.Label{{Name: "colour", Value: "blue"}}
	key := []string{"interop", "calls"}
	_, err1 := b.metrics.IncrCounter(ctx, &metricsv1.IncrCounterRequest{Key: key, Val: 1, Labels: labels})
	_, err2 := b.metrics.SetGauge(ctx, &metricsv1.SetGaugeRequest{Key: key, Val: 2.5, Labels: labels})
	_, err3 := b.metrics.AddSample(ctx, &metricsv1.AddSampleRequest{Key: key, Val: 3, Labels: labels})
	_, err4 := b.metrics.EmitKey(ctx, &metricsv1.EmitKeyRequest{Key: key, Val: 4})
	_, err5 := b.metrics.MeasureSince(ctx, &metricsv1.MeasureSinceRequest{Key: key, Time: time.Now().UnixNano(), Labels: labels})
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			return err.Error()
		}
	}
	return "ok"
}
