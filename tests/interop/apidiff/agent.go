package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func csr(key crypto.Signer, t x509.CertificateRequest) []byte {
	raw, err := x509.CreateCertificateRequest(rand.Reader, &t, key)
	if err != nil {
		panic(err)
	}
	return raw
}

func uriCSR(key crypto.Signer, uris ...string) []byte {
	var t x509.CertificateRequest
	for _, u := range uris {
		p, _ := url.Parse(u)
		t.URIs = append(t.URIs, p)
	}
	return csr(key, t)
}

func broken(der []byte) []byte {
	der = slices.Clone(der)
	der[len(der)-3] ^= 0x55
	return der
}

// attest runs AttestAgent with one request and gives the answer.
func attest(ctx context.Context, s *side, req *agentv1.AttestAgentRequest) (*agentv1.AttestAgentResponse, error) {
	stream, err := agentv1.NewAgentClient(s.anon).AttestAgent(ctx)
	if err != nil {
		return nil, err
	}
	if req != nil {
		if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	} else if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	r, err := stream.Recv()
	if err == nil {
		_, end := stream.Recv()
		if end != io.EOF {
			return nil, fmt.Errorf("after the result: %v", end)
		}
	}
	return r, err
}

func tokenRequest(token string, der []byte) *agentv1.AttestAgentRequest {
	return &agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{Params: &agentv1.AttestAgentRequest_Params{
		Data:   &types.AttestationData{Type: "join_token", Payload: []byte(token)},
		Params: &agentv1.AgentX509SVIDParams{Csr: der}}}}
}

func (s *side) keep(name string, svid *types.X509SVID) error {
	cert := &tls.Certificate{Certificate: svid.CertChain, PrivateKey: ecKey}
	conn, err := dialTCP(s.addr, cert)
	s.agents[name], s.certs[name] = conn, cert
	return err
}

func (d *diff) join(name string, alias *types.SPIFFEID) {
	d.call("CreateJoinToken "+name, func(ctx context.Context, s *side) (any, error) {
		return agentv1.NewAgentClient(s.admin).CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 600, Token: name, AgentId: alias})
	})
	d.call("AttestAgent "+name, func(ctx context.Context, s *side) (any, error) {
		r, err := attest(ctx, s, tokenRequest(name, csr(ecKey, x509.CertificateRequest{})))
		if err != nil {
			return nil, err
		}
		return r, s.keep(name, r.GetResult().Svid)
	})
}

func (d *diff) agents() {
	client := func(s *side) agentv1.AgentClient { return agentv1.NewAgentClient(s.admin) }
	for name, req := range sorted(map[string]*agentv1.CreateJoinTokenRequest{
		"no ttl": {Token: "t"}, "negative ttl": {Ttl: -1}, "generated": {Ttl: 5}, "bad agent id": {Ttl: 5, AgentId: id("x")},
		"reserved agent id": {Ttl: 5, AgentId: id("/spire/agent/x")}, "foreign agent id": {Ttl: 5, AgentId: &types.SPIFFEID{TrustDomain: "o.test", Path: "/a"}},
		"empty agent id": {Ttl: 5, AgentId: &types.SPIFFEID{}}, "odd token and id": {Ttl: 5, Token: "a b", AgentId: id("/odd")},
	}) {
		d.call("CreateJoinToken "+name, func(ctx context.Context, s *side) (any, error) { return client(s).CreateJoinToken(ctx, req) })
	}
	for range 2 {
		d.call("CreateJoinToken same", func(ctx context.Context, s *side) (any, error) {
			return client(s).CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 600, Token: "same"})
		})
	}
	empty := &agentv1.AttestAgentRequest_Params{}
	data := &types.AttestationData{Type: "join_token", Payload: []byte("t")}
	good := csr(ecKey, x509.CertificateRequest{})
	params := &agentv1.AgentX509SVIDParams{Csr: good}
	for name, p := range sorted(map[string]*agentv1.AttestAgentRequest_Params{
		"empty": empty, "no params": {Data: data}, "no data": {Params: params}, "no csr": {Data: data, Params: &agentv1.AgentX509SVIDParams{}},
		"no type": {Data: &types.AttestationData{Payload: []byte("x")}, Params: params}, "no payload": {Data: &types.AttestationData{Type: "join_token"}, Params: params},
		"unknown type":  {Data: &types.AttestationData{Type: "nope", Payload: []byte("x")}, Params: params},
		"unknown token": {Data: data, Params: params},
		"odd token":     {Data: &types.AttestationData{Type: "join_token", Payload: []byte("a b")}, Params: params},
	}) {
		d.call("AttestAgent "+name, func(ctx context.Context, s *side) (any, error) {
			return attest(ctx, s, &agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{Params: p}})
		})
	}
	d.call("AttestAgent without a step", func(ctx context.Context, s *side) (any, error) { return attest(ctx, s, &agentv1.AttestAgentRequest{}) })
	d.call("AttestAgent challenge response first", func(ctx context.Context, s *side) (any, error) {
		return attest(ctx, s, &agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_ChallengeResponse{ChallengeResponse: []byte("x")}})
	})
	d.join("one", nil)
	d.join("two", id("/cluster"))
	d.join("three", nil)
	d.call("AttestAgent used token", func(ctx context.Context, s *side) (any, error) { return attest(ctx, s, tokenRequest("one", good)) })
	for name, mask := range sorted(map[string]*types.AgentMask{"all": nil, "none": {}, "selectors": {Selectors: true}, "banned": {Banned: true, CanReattest: true},
		"serial": {X509SvidSerialNumber: true, X509SvidExpiresAt: true}, "type": {AttestationType: true, AgentVersion: true}}) {
		d.call("GetAgent mask "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).GetAgent(ctx, &agentv1.GetAgentRequest{Id: id("/spire/agent/join_token/one"), OutputMask: mask})
		})
		d.call("ListAgents mask "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).ListAgents(ctx, &agentv1.ListAgentsRequest{OutputMask: mask})
		})
	}
	for name, x := range sorted(map[string]*types.SPIFFEID{"nil": nil, "workload": id("/w"), "unknown": id("/spire/agent/x"), "bad": id("x"), "empty": {}, "foreign": {TrustDomain: "o.test", Path: "/spire/agent/x"},
		"no path": id(""), "server": id("/spire/server")}) {
		d.call("GetAgent "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).GetAgent(ctx, &agentv1.GetAgentRequest{Id: x})
		})
		d.call("DeleteAgent "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).DeleteAgent(ctx, &agentv1.DeleteAgentRequest{Id: x})
		})
		d.call("BanAgent "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).BanAgent(ctx, &agentv1.BanAgentRequest{Id: x})
		})
	}
	d.agentFilters(client)
}

func (d *diff) agentFilters(client func(s *side) agentv1.AgentClient) {
	past, future := time.Now().Add(-time.Hour).Format("2006-01-02 15:04:05 -0700 -07"), time.Now().Add(100*time.Hour).Format("2006-01-02 15:04:05 -0700 -07")
	filters := map[string]*agentv1.ListAgentsRequest_Filter{
		"empty": {}, "type": {ByAttestationType: "join_token"}, "other type": {ByAttestationType: "x"}, "banned": {ByBanned: wrapperspb.Bool(true)},
		"not banned": {ByBanned: wrapperspb.Bool(false)}, "can": {ByCanReattest: wrapperspb.Bool(true)}, "cannot": {ByCanReattest: wrapperspb.Bool(false)},
		"past": {ByExpiresBefore: past}, "future": {ByExpiresBefore: future}, "bad time": {ByExpiresBefore: "x"},
		"selectors": {BySelectorMatch: &types.SelectorMatch{Selectors: sel("a:b")}}, "no selectors": {BySelectorMatch: &types.SelectorMatch{}},
		"bad selector": {BySelectorMatch: &types.SelectorMatch{Selectors: sel("a:")}},
		"any":          {BySelectorMatch: &types.SelectorMatch{Selectors: sel("a:b"), Match: types.SelectorMatch_MATCH_ANY}},
	}
	for name, f := range sorted(filters) {
		d.call("ListAgents by "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).ListAgents(ctx, &agentv1.ListAgentsRequest{Filter: f})
		})
		d.call("CountAgents by "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).CountAgents(ctx, &agentv1.CountAgentsRequest{Filter: &agentv1.CountAgentsRequest_Filter{ByAttestationType: f.ByAttestationType,
				BySelectorMatch: f.BySelectorMatch, ByBanned: f.ByBanned, ByCanReattest: f.ByCanReattest, ByExpiresBefore: f.ByExpiresBefore}})
		})
	}
	for _, token := range []string{"", "1", "2", "x", "99"} {
		d.call("ListAgents page of 1, token "+token, func(ctx context.Context, s *side) (any, error) {
			return client(s).ListAgents(ctx, &agentv1.ListAgentsRequest{PageSize: 1, PageToken: token})
		})
	}
}

// entriesOf waits until the agent sees n entries: upstream's cache follows after up to five seconds.
func entriesOf(ctx context.Context, s *side, agent string, n int) (*entryv1.GetAuthorizedEntriesResponse, error) {
	for {
		r, err := entryv1.NewEntryClient(s.agents[agent]).GetAuthorizedEntries(ctx, &entryv1.GetAuthorizedEntriesRequest{})
		if err != nil || len(r.Entries) == n || ctx.Err() != nil {
			return r, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func sortEntries(e []*types.Entry) {
	key := func(i int) string { return scrubText(e[i].Id) + render(e[i]) }
	sort.Slice(e, func(i, k int) bool { return key(i) < key(k) })
}

func (d *diff) asAgent() {
	d.call("entries for agents", func(ctx context.Context, s *side) (any, error) {
		return createEntries(ctx, s, nil,
			&types.Entry{Id: "a1", SpiffeId: id("/a1"), ParentId: id("/spire/agent/join_token/one"), Selectors: sel("unix:uid:1"), DnsNames: []string{"a.test", "b.test"}, X509SvidTtl: 600},
			&types.Entry{Id: "a2", SpiffeId: id("/a2"), ParentId: id("/a1"), Selectors: sel("unix:uid:2"), Hint: "h"},
			&types.Entry{Id: "a3", SpiffeId: id("/a3"), ParentId: id("/a2"), Selectors: sel("unix:uid:3"), JwtSvidTtl: 120,
				AdditionalAttributes: &types.Entry_AdditionalAttributes{JwtSvidIncludeJti: true}},
			&types.Entry{Id: "loop", SpiffeId: id("/a1"), ParentId: id("/a3"), Selectors: sel("unix:uid:4")},
			&types.Entry{Id: "c1", SpiffeId: id("/c1"), ParentId: id("/cluster"), Selectors: sel("unix:uid:1")},
			&types.Entry{Id: "alias", SpiffeId: id("/alias"), ParentId: id("/spire/server"), Selectors: sel("a:b")},
			&types.Entry{Id: "under-alias", SpiffeId: id("/ua"), ParentId: id("/alias"), Selectors: sel("unix:uid:1")},
			&types.Entry{Id: "admin", SpiffeId: id("/admin"), ParentId: id("/spire/agent/join_token/one"), Selectors: sel("unix:uid:5"), Admin: true},
			&types.Entry{Id: "downstream", SpiffeId: id("/downstream"), ParentId: id("/spire/agent/join_token/one"), Selectors: sel("unix:uid:6"), Downstream: true})
	})
	have := map[string]int{"one": 9, "two": 2, "three": 0}
	for _, name := range []string{"one", "two", "three"} {
		d.call("GetAuthorizedEntries "+name, func(ctx context.Context, s *side) (any, error) {
			ctx, cancel := context.WithTimeout(ctx, 12*time.Second)
			defer cancel()
			r, err := entriesOf(ctx, s, name, have[name])
			if err == nil {
				sortEntries(r.Entries)
			}
			return r, err
		})
	}
	for name, mask := range sorted(map[string]*types.EntryMask{"none": {}, "id": {SpiffeId: true, RevisionNumber: true}, "dns": {DnsNames: true}}) {
		d.call("GetAuthorizedEntries mask "+name, func(ctx context.Context, s *side) (any, error) {
			r, err := entryv1.NewEntryClient(s.agents["one"]).GetAuthorizedEntries(ctx, &entryv1.GetAuthorizedEntriesRequest{OutputMask: mask})
			if err == nil {
				sortEntries(r.Entries)
			}
			return r, err
		})
	}
	d.sync()
	d.call("GetFederatedBundle as agent", func(ctx context.Context, s *side) (any, error) {
		return bundlev1.NewBundleClient(s.agents["one"]).GetFederatedBundle(ctx, &bundlev1.GetFederatedBundleRequest{TrustDomain: "none.test"})
	})
	for name, v := range sorted(map[string]string{"nothing": "", "version": "1.2.3", "too long": strings.Repeat("v", 256)}) {
		d.call("PostStatus "+name, func(ctx context.Context, s *side) (any, error) {
			return agentv1.NewAgentClient(s.agents["three"]).PostStatus(ctx, &agentv1.PostStatusRequest{AgentVersion: v})
		})
	}
	d.call("GetAgent after PostStatus", func(ctx context.Context, s *side) (any, error) {
		return agentv1.NewAgentClient(s.admin).GetAgent(ctx, &agentv1.GetAgentRequest{Id: id("/spire/agent/join_token/three")})
	})
}

// syncEntries plays requests on a stream and gives all answers.
func syncEntries(ctx context.Context, s *side, agent string, reqs ...*entryv1.SyncAuthorizedEntriesRequest) (any, error) {
	stream, err := entryv1.NewEntryClient(s.agents[agent]).SyncAuthorizedEntries(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, req := range reqs {
		if err := stream.Send(req); err != nil {
			break
		}
		for more := true; more; {
			r, err := stream.Recv()
			if err == io.EOF {
				return out, nil
			}
			if err != nil {
				return nil, err
			}
			sortEntries(r.Entries)
			if len(r.EntryRevisions) > 0 {
				out = append(out, fmt.Sprintf("%d revisions more %v", len(r.EntryRevisions), r.More))
			} else {
				out = append(out, render(r))
			}
			more = r.More
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	if _, err := stream.Recv(); err != io.EOF {
		return nil, err
	}
	return out, nil
}

func (d *diff) sync() {
	type req = entryv1.SyncAuthorizedEntriesRequest
	mask := &types.EntryMask{SpiffeId: true, RevisionNumber: true}
	for name, reqs := range sorted(map[string][]*req{"no mask": {{}}, "mask": {{OutputMask: mask}}, "ids first": {{Ids: []string{"a1"}}},
		"no revision": {{OutputMask: &types.EntryMask{SpiffeId: true}}}, "short list, more requests": {{OutputMask: mask}, {Ids: []string{"a1"}}}, "nothing sent": {}}) {
		d.call("SyncAuthorizedEntries "+name, func(ctx context.Context, s *side) (any, error) { return syncEntries(ctx, s, "one", reqs...) })
	}
	d.call("entries for a long list", func(ctx context.Context, s *side) (any, error) {
		for i := range 1200 {
			e := &types.Entry{Id: fmt.Sprintf("long-%04d", i), SpiffeId: id(fmt.Sprintf("/long/%d", i)), ParentId: id("/spire/agent/join_token/three"), Selectors: sel("unix:uid:1")}
			if _, err := createEntries(ctx, s, &types.EntryMask{}, e); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	d.call("waiting for a long list", func(ctx context.Context, s *side) (any, error) {
		r, err := entriesOf(ctx, s, "three", 1200)
		if err != nil {
			return nil, err
		}
		return len(r.Entries), nil
	})
	var all []string
	for i := range 1200 {
		all = append(all, fmt.Sprintf("long-%04d", 1199-i))
	}
	for name, reqs := range sorted(map[string][]*req{
		"revisions only": {{OutputMask: mask}}, "no mask": {{}, {Ids: []string{"long-0001"}}}, "none of mine": {{OutputMask: mask}, {Ids: []string{"a1", "", "zzz"}}},
		"no ids": {{OutputMask: mask}, {}}, "twice the same id": {{OutputMask: mask}, {Ids: []string{"long-0007", "long-0007"}}},
		"all": {{OutputMask: mask}, {Ids: all}}, "mask later is ignored": {{OutputMask: mask}, {Ids: all[:3], OutputMask: &types.EntryMask{Hint: true}}, {Ids: all[5:7]}},
		"exactly one page": {{OutputMask: mask}, {Ids: all[:500]}}, "one more than a page": {{OutputMask: mask}, {Ids: all[:501]}},
	}) {
		d.call("SyncAuthorizedEntries long list, "+name, func(ctx context.Context, s *side) (any, error) { return syncEntries(ctx, s, "three", reqs...) })
	}
}

func (d *diff) svids() {
	client := func(s *side) svidv1.SVIDClient { return svidv1.NewSVIDClient(s.admin) }
	u := "spiffe://" + trustDomain
	for name, der := range sorted(map[string][]byte{
		"none": nil, "rubbish": []byte("rubbish"), "no uri": uriCSR(ecKey), "two uris": uriCSR(ecKey, u+"/a", u+"/b"), "not spiffe": uriCSR(ecKey, "https://x/y"),
		"foreign": uriCSR(ecKey, "spiffe://o.test/a"), "reserved": uriCSR(ecKey, u+"/spire/agent/a"), "no path": uriCSR(ecKey, u), "bad signature": broken(uriCSR(ecKey, u+"/a")),
		"good": uriCSR(ecKey, u+"/a"), "rsa": uriCSR(rsaKey, u+"/a"),
	}) {
		d.call("MintX509SVID "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).MintX509SVID(ctx, &svidv1.MintX509SVIDRequest{Csr: der, Ttl: 1000})
		})
	}
	p, _ := url.Parse(u + "/dns")
	for name, t := range sorted(map[string]x509.CertificateRequest{
		"dns": {DNSNames: []string{"a.test", "b.test"}}, "bad dns": {DNSNames: []string{"a..b"}}, "overlap": {DNSNames: []string{"*.a.test", "x.a.test"}},
		"subject":         {Subject: pkix.Name{Country: []string{"DE"}, Organization: []string{"O1", "O2"}, CommonName: "cn"}},
		"subject and dns": {Subject: pkix.Name{Organization: []string{"O"}, CommonName: "cn"}, DNSNames: []string{"d.test"}},
		"ip and email":    {IPAddresses: []net.IP{net.IPv4(1, 2, 3, 4)}, EmailAddresses: []string{"a@b.test"}},
	}) {
		t.URIs = []*url.URL{p}
		der := csr(ecKey, t)
		d.call("MintX509SVID "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).MintX509SVID(ctx, &svidv1.MintX509SVIDRequest{Csr: der})
		})
	}
	for name, req := range sorted(map[string]*svidv1.MintJWTSVIDRequest{
		"empty": {}, "no audience": {Id: id("/a")}, "empty audience": {Id: id("/a"), Audience: []string{""}}, "good": {Id: id("/a"), Audience: []string{"x", "", "y"}, Ttl: 100},
		"default ttl": {Id: id("/a"), Audience: []string{"x"}}, "reserved": {Id: id("/spire/a"), Audience: []string{"x"}}, "foreign": {Id: &types.SPIFFEID{TrustDomain: "o.test", Path: "/a"}, Audience: []string{"x"}},
		"negative ttl": {Id: id("/a"), Audience: []string{"x"}, Ttl: -1},
	}) {
		d.call("MintJWTSVID "+name, func(ctx context.Context, s *side) (any, error) { return client(s).MintJWTSVID(ctx, req) })
	}
	d.call("MintWITSVID", func(ctx context.Context, s *side) (any, error) {
		return client(s).MintWITSVID(ctx, &svidv1.MintWITSVIDRequest{Id: id("/a"), PublicKey: pkixOf(ecKey.Public()), SigningAlgorithm: "ES256"})
	})
	d.agentSVIDs()
}

func (d *diff) agentSVIDs() {
	good := uriCSR(ecKey, "spiffe://other.test/ignored")
	for name, params := range sorted(map[string][]*svidv1.NewX509SVIDParams{
		"nothing": nil,
		"batch": {{EntryId: "a1", Csr: good}, {}, {EntryId: "a1"}, {EntryId: "c1", Csr: good}, {EntryId: "unknown", Csr: good}, {EntryId: "a2", Csr: []byte("x")},
			{EntryId: "a3", Csr: broken(good)}, {EntryId: "a3", Csr: csr(rsaKey, x509.CertificateRequest{})}, {EntryId: "loop", Csr: good}, {EntryId: "alias", Csr: good}, {EntryId: "under-alias", Csr: good}},
	}) {
		d.call("BatchNewX509SVID "+name, func(ctx context.Context, s *side) (any, error) {
			return svidv1.NewSVIDClient(s.agents["one"]).BatchNewX509SVID(ctx, &svidv1.BatchNewX509SVIDRequest{Params: params})
		})
	}
	var many []*svidv1.NewX509SVIDParams
	for range 501 {
		many = append(many, &svidv1.NewX509SVIDParams{})
	}
	d.call("BatchNewX509SVID past the limit", func(ctx context.Context, s *side) (any, error) {
		return svidv1.NewSVIDClient(s.agents["one"]).BatchNewX509SVID(ctx, &svidv1.BatchNewX509SVIDRequest{Params: many})
	})
	for name, req := range sorted(map[string]*svidv1.NewJWTSVIDRequest{
		"empty": {}, "no audience": {EntryId: "a1"}, "not mine": {EntryId: "c1", Audience: []string{"x"}}, "good": {EntryId: "a1", Audience: []string{"x", "y"}},
		"jti": {EntryId: "a3", Audience: []string{"x"}}, "empty audience": {EntryId: "a1", Audience: []string{""}},
	}) {
		d.call("NewJWTSVID "+name, func(ctx context.Context, s *side) (any, error) {
			return svidv1.NewSVIDClient(s.agents["one"]).NewJWTSVID(ctx, req)
		})
	}
	for name, req := range sorted(map[string]*svidv1.BatchNewWITSVIDRequest{"empty": {}, "batch": {Params: []*svidv1.NewWITSVIDParams{{}, {EntryId: "a1"}, {EntryId: "c1", PublicKey: []byte("x")},
		{EntryId: "a1", PublicKey: []byte("x")}, {EntryId: "a1", PublicKey: pkixOf(ecKey.Public())}, {EntryId: "a1", PublicKey: pkixOf(ecKey.Public()), SigningAlgorithm: "ES256"},
		{EntryId: "a1", PublicKey: pkixOf(rsaKey.Public()), SigningAlgorithm: "ES256"}, {EntryId: "a1", PublicKey: pkixOf(rsaKey.Public()), SigningAlgorithm: "PS512"}}}}) {
		d.call("BatchNewWITSVID "+name, func(ctx context.Context, s *side) (any, error) {
			return svidv1.NewSVIDClient(s.agents["one"]).BatchNewWITSVID(ctx, req)
		})
	}
	// Identities that may do more than others, taken from their entries.
	for _, name := range []string{"admin", "downstream", "a1"} {
		d.call("identity "+name, func(ctx context.Context, s *side) (any, error) {
			r, err := svidv1.NewSVIDClient(s.agents["one"]).BatchNewX509SVID(ctx, &svidv1.BatchNewX509SVIDRequest{Params: []*svidv1.NewX509SVIDParams{{EntryId: name, Csr: good}}})
			if err != nil {
				return nil, err
			}
			return r, s.keep(name, r.Results[0].Svid)
		})
	}
	for name, req := range sorted(map[string]*svidv1.NewDownstreamX509CARequest{"no csr": {}, "rubbish": {Csr: []byte("x")}, "bad signature": {Csr: broken(good)},
		"good": {Csr: good}, "ttl": {Csr: good, PreferredTtl: 600}}) {
		d.call("NewDownstreamX509CA "+name, func(ctx context.Context, s *side) (any, error) {
			return svidv1.NewSVIDClient(s.agents["downstream"]).NewDownstreamX509CA(ctx, req)
		})
	}
	for name, key := range sorted(map[string]*types.JWTKey{"none": nil, "bad": {PublicKey: []byte("x"), KeyId: "kid-2"}, "no kid": {PublicKey: pkixOf(ecKey.Public())},
		"good": {PublicKey: pkixOf(ecKey.Public()), KeyId: "kid-2", ExpiresAt: 4000000001}}) {
		d.call("PublishJWTAuthority "+name, func(ctx context.Context, s *side) (any, error) {
			return bundlev1.NewBundleClient(s.agents["downstream"]).PublishJWTAuthority(ctx, &bundlev1.PublishJWTAuthorityRequest{JwtAuthority: key})
		})
	}
	d.call("PublishWITAuthority", func(ctx context.Context, s *side) (any, error) {
		return bundlev1.NewBundleClient(s.agents["downstream"]).PublishWITAuthority(ctx, &bundlev1.PublishWITAuthorityRequest{})
	})
}

// permissions calls every method as every kind of caller with an empty request.
func (d *diff) permissions() {
	callers := map[string]func(s *side) *grpc.ClientConn{
		"local": func(s *side) *grpc.ClientConn { return s.admin }, "anyone": func(s *side) *grpc.ClientConn { return s.anon },
		"agent": func(s *side) *grpc.ClientConn { return s.agents["one"] }, "admin": func(s *side) *grpc.ClientConn { return s.agents["admin"] },
		"downstream": func(s *side) *grpc.ClientConn { return s.agents["downstream"] }, "workload": func(s *side) *grpc.ClientConn { return s.agents["a1"] },
	}
	services := []grpc.ServiceDesc{agentv1.Agent_ServiceDesc, bundlev1.Bundle_ServiceDesc, entryv1.Entry_ServiceDesc, svidv1.SVID_ServiceDesc, grpc_health_v1.Health_ServiceDesc}
	for who, conn := range sorted(callers) {
		for _, svc := range services {
			for _, m := range svc.Methods {
				path := "/" + svc.ServiceName + "/" + m.MethodName
				d.call(path+" as "+who, func(ctx context.Context, s *side) (any, error) {
					return nil, conn(s).Invoke(ctx, path, nothing{}, nothing{}, grpc.ForceCodec(emptyCodec{}))
				})
			}
			for _, m := range svc.Streams {
				path := "/" + svc.ServiceName + "/" + m.StreamName
				if who == "local" && m.StreamName == "AttestAgent" {
					continue // answers only to messages
				}
				d.call(path+" as "+who, func(ctx context.Context, s *side) (any, error) {
					stream, err := conn(s).NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, path, grpc.ForceCodec(emptyCodec{}))
					if err == nil {
						err = stream.SendMsg(nothing{})
					}
					if err == nil && !m.ClientStreams {
						err = stream.CloseSend()
					}
					if err == nil || errors.Is(err, io.EOF) {
						err = stream.RecvMsg(nothing{})
					}
					return nil, err
				})
			}
		}
		d.call("unknown method as "+who, func(ctx context.Context, s *side) (any, error) {
			return nil, conn(s).Invoke(ctx, "/spire.api.server.entry.v1.Entry/Nope", nothing{}, nothing{}, grpc.ForceCodec(emptyCodec{}))
		})
		d.call("unknown service as "+who, func(ctx context.Context, s *side) (any, error) {
			return nil, conn(s).Invoke(ctx, "/a.b.C/Nope", nothing{}, nothing{}, grpc.ForceCodec(emptyCodec{}))
		})
	}
	d.call("malformed request", func(ctx context.Context, s *side) (any, error) {
		err := s.admin.Invoke(ctx, "/spire.api.server.entry.v1.Entry/GetEntry", nothing{}, nothing{}, grpc.ForceCodec(brokenCodec{}))
		if err != nil && strings.Contains(err.Error(), "unmarshal") {
			err = errors.New(strings.Split(err.Error(), "unmarshal")[0])
		}
		return nil, err
	})
	d.call("health with a service", func(ctx context.Context, s *side) (any, error) {
		return grpc_health_v1.NewHealthClient(s.admin).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "x"})
	})
}

type nothing struct{}
type emptyCodec struct{}

func (emptyCodec) Marshal(any) ([]byte, error) { return nil, nil }
func (emptyCodec) Unmarshal([]byte, any) error { return nil }
func (emptyCodec) Name() string                { return "proto" }

type brokenCodec struct{ emptyCodec }

func (brokenCodec) Marshal(any) ([]byte, error) { return []byte{0x0a, 0x05, 1}, nil }

// lifecycle renews, bans and evicts.
func (d *diff) lifecycle() {
	renew := func(name, agent string, req *agentv1.RenewAgentRequest, keep string) {
		d.call("RenewAgent "+name, func(ctx context.Context, s *side) (any, error) {
			r, err := agentv1.NewAgentClient(s.agents[agent]).RenewAgent(ctx, req)
			if err == nil && keep != "" {
				err = s.keep(keep, r.Svid)
			}
			return r, err
		})
	}
	good := &agentv1.RenewAgentRequest{Params: &agentv1.AgentX509SVIDParams{Csr: csr(ecKey, x509.CertificateRequest{})}}
	renew("without params", "one", &agentv1.RenewAgentRequest{}, "")
	renew("without csr", "one", &agentv1.RenewAgentRequest{Params: &agentv1.AgentX509SVIDParams{}}, "")
	renew("with rubbish", "one", &agentv1.RenewAgentRequest{Params: &agentv1.AgentX509SVIDParams{Csr: []byte("x")}}, "")
	renew("once", "one", good, "one-b")
	bundle := func(name, agent string) {
		d.call("GetFederatedBundle as "+name, func(ctx context.Context, s *side) (any, error) {
			return bundlev1.NewBundleClient(s.agents[agent]).GetFederatedBundle(ctx, &bundlev1.GetFederatedBundleRequest{TrustDomain: "none.test"})
		})
	}
	bundle("old SVID after renewal", "one")
	bundle("new SVID", "one-b")
	bundle("old SVID after the new one was used", "one")
	d.call("GetAgent after renewal", func(ctx context.Context, s *side) (any, error) {
		return agentv1.NewAgentClient(s.admin).GetAgent(ctx, &agentv1.GetAgentRequest{Id: id("/spire/agent/join_token/one")})
	})
	d.call("BanAgent", func(ctx context.Context, s *side) (any, error) {
		return agentv1.NewAgentClient(s.admin).BanAgent(ctx, &agentv1.BanAgentRequest{Id: id("/spire/agent/join_token/one")})
	})
	bundle("banned agent", "one-b")
	d.call("GetBundle as banned agent", func(ctx context.Context, s *side) (any, error) {
		return bundlev1.NewBundleClient(s.agents["one-b"]).GetBundle(ctx, &bundlev1.GetBundleRequest{OutputMask: &types.BundleMask{}})
	})
	d.call("GetAgent banned", func(ctx context.Context, s *side) (any, error) {
		return agentv1.NewAgentClient(s.admin).GetAgent(ctx, &agentv1.GetAgentRequest{Id: id("/spire/agent/join_token/one")})
	})
	d.call("attest again as banned agent", func(ctx context.Context, s *side) (any, error) {
		if _, err := agentv1.NewAgentClient(s.admin).CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 600, Token: "one"}); err != nil {
			return nil, err
		}
		return attest(ctx, s, tokenRequest("one", good.Params.Csr))
	})
	d.call("DeleteAgent", func(ctx context.Context, s *side) (any, error) {
		return agentv1.NewAgentClient(s.admin).DeleteAgent(ctx, &agentv1.DeleteAgentRequest{Id: id("/spire/agent/join_token/two")})
	})
	bundle("evicted agent", "two")
	d.call("entry of the evicted agent's token", func(ctx context.Context, s *side) (any, error) {
		return entryv1.NewEntryClient(s.admin).ListEntries(ctx, &entryv1.ListEntriesRequest{Filter: &entryv1.ListEntriesRequest_Filter{ByParentId: id("/spire/agent/join_token/two")}})
	})
}

// limits shows the rate limit on attestation: one per second and address; who is early waits its turn,
// who cannot wait is refused at once.
func (d *diff) limits() {
	req := tokenRequest("none", csr(ecKey, x509.CertificateRequest{}))
	d.call("three attestations at once", func(ctx context.Context, s *side) (any, error) {
		start := time.Now()
		took := make(chan string)
		for range 3 {
			go func() {
				_, err := attest(ctx, s, req)
				took <- fmt.Sprintf("%.0f s: %s", time.Since(start).Seconds(), answer(nil, err))
			}()
		}
		all := []string{<-took, <-took, <-took}
		sort.Strings(all)
		return all, nil
	})
	d.call("attestation that cannot wait", func(ctx context.Context, s *side) (any, error) {
		attest(ctx, s, req) // takes the token there is
		ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := attest(ctx, s, req)
		if err == nil || time.Since(start) > 250*time.Millisecond {
			return nil, fmt.Errorf("not refused at once: %v", err)
		}
		return nil, err
	})
}
