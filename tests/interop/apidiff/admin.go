package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var (
	ecKey     = mustKey(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	rsaKey, _ = rsa.GenerateKey(rand.Reader, 2048)
	fedRoot   = mustCert("spiffe://fed.test")
)

func mustKey(k *ecdsa.PrivateKey, err error) *ecdsa.PrivateKey {
	if err != nil {
		panic(err)
	}
	return k
}

func mustCert(uri string) []byte {
	u, _ := url.Parse(uri)
	t := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: time.Now(), NotAfter: time.Now().Add(240 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, URIs: []*url.URL{u},
		Subject: pkix.Name{CommonName: "fed"}}
	raw, err := x509.CreateCertificate(rand.Reader, t, t, ecKey.Public(), ecKey)
	if err != nil {
		panic(err)
	}
	return raw
}

func pkixOf(key any) []byte {
	raw, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return raw
}

func id(path string) *types.SPIFFEID { return &types.SPIFFEID{TrustDomain: trustDomain, Path: path} }

func sel(s ...string) (out []*types.Selector) {
	for _, x := range s {
		t, v, _ := strings.Cut(x, ":")
		out = append(out, &types.Selector{Type: t, Value: v})
	}
	return
}

func (d *diff) bundles() {
	client := func(s *side) bundlev1.BundleClient { return bundlev1.NewBundleClient(s.admin) }
	all := &types.BundleMask{X509Authorities: true, JwtAuthorities: true, RefreshHint: true, SequenceNumber: true}
	for name, mask := range sorted(map[string]*types.BundleMask{"all": nil, "none": {}, "jwt": {JwtAuthorities: true}, "hint": {RefreshHint: true}}) {
		d.call("GetBundle mask "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).GetBundle(ctx, &bundlev1.GetBundleRequest{OutputMask: mask})
		})
	}
	count := func(name string) {
		d.call("CountBundles "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).CountBundles(ctx, &bundlev1.CountBundlesRequest{})
		})
	}
	count("at first")
	jwt := &types.JWTKey{PublicKey: pkixOf(rsaKey.Public()), KeyId: "kid-1", ExpiresAt: 4000000000}
	for name, req := range sorted(map[string]*bundlev1.AppendBundleRequest{
		"nothing":  {},
		"bad x509": {X509Authorities: []*types.X509Certificate{{Asn1: []byte("rubbish")}}},
		"bad jwt":  {JwtAuthorities: []*types.JWTKey{{PublicKey: []byte("rubbish"), KeyId: "kid-x"}}},
		"no kid":   {JwtAuthorities: []*types.JWTKey{{PublicKey: pkixOf(ecKey.Public())}}},
	}) {
		d.call("AppendBundle "+name, func(ctx context.Context, s *side) (any, error) { return client(s).AppendBundle(ctx, req) })
	}
	for range 2 {
		d.call("AppendBundle a root and a key", func(ctx context.Context, s *side) (any, error) {
			return client(s).AppendBundle(ctx, &bundlev1.AppendBundleRequest{OutputMask: all,
				X509Authorities: []*types.X509Certificate{{Asn1: fedRoot}}, JwtAuthorities: []*types.JWTKey{jwt}})
		})
	}
	fed := func(td string) *types.Bundle {
		return &types.Bundle{TrustDomain: td, X509Authorities: []*types.X509Certificate{{Asn1: fedRoot}},
			JwtAuthorities: []*types.JWTKey{jwt}, RefreshHint: 60, SequenceNumber: 42}
	}
	d.call("BatchCreateFederatedBundle", func(ctx context.Context, s *side) (any, error) {
		bad := fed("bad.test")
		bad.X509Authorities[0].Asn1 = []byte{1, 2, 3}
		badJWT := fed("badjwt.test")
		badJWT.JwtAuthorities = []*types.JWTKey{{KeyId: "kid-1"}}
		return client(s).BatchCreateFederatedBundle(ctx, &bundlev1.BatchCreateFederatedBundleRequest{
			Bundle: []*types.Bundle{fed("fed.test"), fed("fed.test"), fed("spiffe://other.test"), fed(trustDomain), fed(""),
				fed("UPPER"), {TrustDomain: "empty.test"}, badJWT}, OutputMask: all})
	})
	count("after creating")
	for _, td := range []string{"fed.test", "spiffe://fed.test", "none.test", trustDomain, "", "Bad!"} {
		d.call("GetFederatedBundle "+td, func(ctx context.Context, s *side) (any, error) {
			return client(s).GetFederatedBundle(ctx, &bundlev1.GetFederatedBundleRequest{TrustDomain: td})
		})
	}
	d.call("ListFederatedBundles", func(ctx context.Context, s *side) (any, error) {
		return client(s).ListFederatedBundles(ctx, &bundlev1.ListFederatedBundlesRequest{})
	})
	for _, token := range []string{"", "1", "x", "100"} {
		d.call("ListFederatedBundles page of 1, token "+token, func(ctx context.Context, s *side) (any, error) {
			return client(s).ListFederatedBundles(ctx, &bundlev1.ListFederatedBundlesRequest{PageSize: 1, PageToken: token})
		})
	}
	for name, mask := range sorted(map[string]*types.BundleMask{"hint": {RefreshHint: true}, "jwt": {JwtAuthorities: true}, "all": nil}) {
		d.call("BatchUpdateFederatedBundle mask "+name, func(ctx context.Context, s *side) (any, error) {
			b := fed("fed.test")
			b.RefreshHint, b.SequenceNumber, b.JwtAuthorities = 120, 43, nil
			return client(s).BatchUpdateFederatedBundle(ctx, &bundlev1.BatchUpdateFederatedBundleRequest{
				Bundle: []*types.Bundle{b, fed("none.test"), fed(trustDomain), fed("%")}, InputMask: mask})
		})
	}
	d.call("BatchSetFederatedBundle", func(ctx context.Context, s *side) (any, error) {
		return client(s).BatchSetFederatedBundle(ctx, &bundlev1.BatchSetFederatedBundleRequest{
			Bundle: []*types.Bundle{fed("fed.test"), fed("set.test"), fed(trustDomain), fed(".")}})
	})
	d.call("BatchDeleteFederatedBundle mode 7", func(ctx context.Context, s *side) (any, error) {
		return client(s).BatchDeleteFederatedBundle(ctx, &bundlev1.BatchDeleteFederatedBundleRequest{Mode: 7, TrustDomains: []string{"set.test"}})
	})
	d.call("BatchDeleteFederatedBundle", func(ctx context.Context, s *side) (any, error) {
		return client(s).BatchDeleteFederatedBundle(ctx, &bundlev1.BatchDeleteFederatedBundleRequest{
			TrustDomains: []string{"set.test", "set.test", trustDomain, "", "a b"}})
	})
}

func createEntries(ctx context.Context, s *side, mask *types.EntryMask, e ...*types.Entry) (any, error) {
	return entryv1.NewEntryClient(s.admin).BatchCreateEntry(ctx, &entryv1.BatchCreateEntryRequest{Entries: e, OutputMask: mask})
}

func (d *diff) entries() {
	client := func(s *side) entryv1.EntryClient { return entryv1.NewEntryClient(s.admin) }
	good := func(mut func(e *types.Entry)) *types.Entry {
		e := &types.Entry{SpiffeId: id("/w"), ParentId: id("/spire/agent/join_token/one"), Selectors: sel("unix:uid:1000")}
		if mut != nil {
			mut(e)
		}
		return e
	}
	bad := map[string]*types.Entry{
		"nil ids":             {Selectors: sel("a:b")},
		"empty":               {},
		"no spiffe id":        good(func(e *types.Entry) { e.SpiffeId = nil }),
		"foreign spiffe id":   good(func(e *types.Entry) { e.SpiffeId.TrustDomain = "other.test" }),
		"foreign parent":      good(func(e *types.Entry) { e.ParentId.TrustDomain = "other.test" }),
		"bad td":              good(func(e *types.Entry) { e.SpiffeId.TrustDomain = "BAD" }),
		"no path":             good(func(e *types.Entry) { e.SpiffeId.Path = "" }),
		"parent no path":      good(func(e *types.Entry) { e.ParentId.Path = "" }),
		"slash":               good(func(e *types.Entry) { e.SpiffeId.Path = "/" }),
		"relative":            good(func(e *types.Entry) { e.SpiffeId.Path = "x" }),
		"dots":                good(func(e *types.Entry) { e.SpiffeId.Path = "/a/../b" }),
		"odd characters":      good(func(e *types.Entry) { e.SpiffeId.Path = "/a%b" }),
		"reserved":            good(func(e *types.Entry) { e.SpiffeId.Path = "/spire/x" }),
		"no selectors":        good(func(e *types.Entry) { e.Selectors = nil }),
		"no selector type":    good(func(e *types.Entry) { e.Selectors = sel(":x") }),
		"selector type colon": good(func(e *types.Entry) { e.Selectors = []*types.Selector{{Type: "a:b", Value: "c"}} }),
		"no selector value":   good(func(e *types.Entry) { e.Selectors = sel("a:") }),
		"bad federated td":    good(func(e *types.Entry) { e.FederatesWith = []string{"A B"} }),
		"unknown federated":   good(func(e *types.Entry) { e.FederatesWith = []string{"unknown.test"} }),
		"empty dns":           good(func(e *types.Entry) { e.DnsNames = []string{""} }),
		"star dns":            good(func(e *types.Entry) { e.DnsNames = []string{"a.*.b"} }),
		"stars dns":           good(func(e *types.Entry) { e.DnsNames = []string{"*.*.b"} }),
		"dot dns":             good(func(e *types.Entry) { e.DnsNames = []string{"a.b."} }),
		"utf8 dns":            good(func(e *types.Entry) { e.DnsNames = []string{"bücher.test"} }),
		"long label":          good(func(e *types.Entry) { e.DnsNames = []string{strings.Repeat("a", 64) + ".test"} }),
		"hyphen dns":          good(func(e *types.Entry) { e.DnsNames = []string{"-a.test"} }),
		"blank dns":           good(func(e *types.Entry) { e.DnsNames = []string{"a b"} }),
		"underscore dns":      good(func(e *types.Entry) { e.DnsNames = []string{"a_b.test"} }),
		"dns wildcard":        good(func(e *types.Entry) { e.DnsNames = []string{"*.a.test"}; e.SpiffeId.Path = "/wild" }),
		"hint too long":       good(func(e *types.Entry) { e.Hint = strings.Repeat("h", 1025) }),
		"negative ttl":        good(func(e *types.Entry) { e.X509SvidTtl = -1; e.SpiffeId.Path = "/neg" }),
		"negative jwt ttl":    good(func(e *types.Entry) { e.JwtSvidTtl = -1; e.SpiffeId.Path = "/negj" }),
		"bad entry id":        good(func(e *types.Entry) { e.Id = "a/b"; e.SpiffeId.Path = "/badid" }),
		"long entry id":       good(func(e *types.Entry) { e.Id = strings.Repeat("i", 256); e.SpiffeId.Path = "/longid" }),
		"store one type":      good(func(e *types.Entry) { e.StoreSvid = true; e.Selectors = sel("a:1", "b:2"); e.SpiffeId.Path = "/store" }),
		"negative expiry":     good(func(e *types.Entry) { e.ExpiresAt = -5; e.SpiffeId.Path = "/negexp" }),
	}
	for name, e := range sorted(bad) {
		d.call("BatchCreateEntry "+name, func(ctx context.Context, s *side) (any, error) { return createEntries(ctx, s, nil, e) })
	}
	full := &types.Entry{Id: "full", SpiffeId: id("/full"), ParentId: id("/spire/agent/join_token/one"),
		Selectors: sel("unix:uid:1", "unix:gid:2", "unix:uid:1"), X509SvidTtl: 100, JwtSvidTtl: 200, FederatesWith: []string{"fed.test", "spiffe://other.test"},
		Admin: true, Downstream: true, ExpiresAt: 4102444800, DnsNames: []string{"a.test", "b.test", "a.test"}, StoreSvid: false, Hint: "hi",
		RevisionNumber: 9, CreatedAt: 77, AdditionalAttributes: &types.Entry_AdditionalAttributes{DisableX509SvidPrefetch: true}}
	d.call("BatchCreateEntry full", func(ctx context.Context, s *side) (any, error) { return createEntries(ctx, s, nil, full) })
	d.call("BatchCreateEntry full again", func(ctx context.Context, s *side) (any, error) { return createEntries(ctx, s, nil, full) })
	d.call("BatchCreateEntry similar with other id", func(ctx context.Context, s *side) (any, error) {
		return createEntries(ctx, s, &types.EntryMask{SpiffeId: true}, &types.Entry{Id: "full2", SpiffeId: full.SpiffeId, ParentId: full.ParentId, Selectors: full.Selectors})
	})
	d.call("BatchCreateEntry same id, other entry", func(ctx context.Context, s *side) (any, error) {
		return createEntries(ctx, s, nil, &types.Entry{Id: "full", SpiffeId: id("/elsewhere"), ParentId: full.ParentId, Selectors: full.Selectors})
	})
	d.call("BatchCreateEntry mixed batch", func(ctx context.Context, s *side) (any, error) {
		return createEntries(ctx, s, nil, good(func(e *types.Entry) { e.Id = "one" }), good(func(e *types.Entry) { e.Id = "two" }), &types.Entry{},
			good(func(e *types.Entry) {
				e.Id = "three"
				e.SpiffeId.Path = "/three"
				e.Selectors = sel("unix:uid:3", "unix:gid:3")
			}))
	})
	d.call("BatchCreateEntry empty", func(ctx context.Context, s *side) (any, error) { return createEntries(ctx, s, nil) })
	masks := map[string]*types.EntryMask{
		"none": {}, "spiffe_id": {SpiffeId: true}, "parent_id": {ParentId: true}, "selectors": {Selectors: true}, "x509": {X509SvidTtl: true},
		"federates": {FederatesWith: true}, "admin": {Admin: true}, "downstream": {Downstream: true}, "expires": {ExpiresAt: true},
		"dns": {DnsNames: true}, "revision": {RevisionNumber: true}, "store": {StoreSvid: true}, "jwt": {JwtSvidTtl: true},
		"hint": {Hint: true}, "created": {CreatedAt: true}, "attributes": {AdditionalAttributes: true}, "all": nil,
	}
	for name, mask := range sorted(masks) {
		d.call("GetEntry mask "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).GetEntry(ctx, &entryv1.GetEntryRequest{Id: "full", OutputMask: mask})
		})
	}
	for _, x := range []string{"", "unknown"} {
		d.call("GetEntry "+x, func(ctx context.Context, s *side) (any, error) {
			return client(s).GetEntry(ctx, &entryv1.GetEntryRequest{Id: x})
		})
	}
	d.filters(client)
	d.updates(client, masks)
	d.call("BatchDeleteFederatedBundle in use", func(ctx context.Context, s *side) (any, error) {
		return bundlev1.NewBundleClient(s.admin).BatchDeleteFederatedBundle(ctx, &bundlev1.BatchDeleteFederatedBundleRequest{TrustDomains: []string{"fed.test"}})
	})
	d.call("BatchDeleteFederatedBundle dissociate", func(ctx context.Context, s *side) (any, error) {
		return bundlev1.NewBundleClient(s.admin).BatchDeleteFederatedBundle(ctx, &bundlev1.BatchDeleteFederatedBundleRequest{
			Mode: bundlev1.BatchDeleteFederatedBundleRequest_DISSOCIATE, TrustDomains: []string{"fed.test"}})
	})
	d.call("GetEntry after dissociate", func(ctx context.Context, s *side) (any, error) {
		return client(s).GetEntry(ctx, &entryv1.GetEntryRequest{Id: "full"})
	})
	d.call("BatchDeleteFederatedBundle with entries", func(ctx context.Context, s *side) (any, error) {
		return bundlev1.NewBundleClient(s.admin).BatchDeleteFederatedBundle(ctx, &bundlev1.BatchDeleteFederatedBundleRequest{
			Mode: bundlev1.BatchDeleteFederatedBundleRequest_DELETE, TrustDomains: []string{"other.test"}})
	})
	d.call("ListEntries after delete", func(ctx context.Context, s *side) (any, error) {
		return client(s).ListEntries(ctx, &entryv1.ListEntriesRequest{})
	})
	d.call("BatchDeleteEntry", func(ctx context.Context, s *side) (any, error) {
		return client(s).BatchDeleteEntry(ctx, &entryv1.BatchDeleteEntryRequest{Ids: []string{"three", "three", "", "unknown"}})
	})
}

func (d *diff) filters(client func(s *side) entryv1.EntryClient) {
	type filter = entryv1.ListEntriesRequest_Filter
	filters := map[string]*filter{
		"nil": nil, "empty": {}, "spiffe id": {BySpiffeId: id("/w")}, "parent": {ByParentId: id("/spire/agent/join_token/one")},
		"bad spiffe id": {BySpiffeId: id("w")}, "reserved spiffe id": {BySpiffeId: id("/spire/a")}, "bad parent": {ByParentId: id("")},
		"foreign parent": {ByParentId: &types.SPIFFEID{TrustDomain: "o.test", Path: "/a"}}, "hint": {ByHint: wrapperspb.String("hi")},
		"other hint": {ByHint: wrapperspb.String("no")}, "empty hint": {ByHint: wrapperspb.String("")},
		"downstream": {ByDownstream: wrapperspb.Bool(true)}, "not downstream": {ByDownstream: wrapperspb.Bool(false)},
		"no selectors": {BySelectors: &types.SelectorMatch{}}, "bad selector": {BySelectors: &types.SelectorMatch{Selectors: sel("a:")}},
		"no federates":  {ByFederatesWith: &types.FederatesWithMatch{}},
		"bad federates": {ByFederatesWith: &types.FederatesWithMatch{TrustDomains: []string{"A"}}},
	}
	for m := range 5 {
		for _, set := range [][]string{{"unix:uid:1000"}, {"unix:uid:3", "unix:gid:3"}, {"unix:uid:3"}, {"unix:uid:3", "unix:gid:3", "x:y"}, {"unix:uid:1", "unix:gid:2"}} {
			filters[fmt.Sprint("selectors ", set, " match ", m)] = &filter{BySelectors: &types.SelectorMatch{Selectors: sel(set...), Match: types.SelectorMatch_MatchBehavior(m)}}
		}
		for _, set := range [][]string{{"fed.test"}, {"fed.test", "other.test"}, {"spiffe://other.test", "fed.test", "x.test"}} {
			filters[fmt.Sprint("federates ", set, " match ", m)] = &filter{ByFederatesWith: &types.FederatesWithMatch{TrustDomains: set, Match: types.FederatesWithMatch_MatchBehavior(m)}}
		}
	}
	for name, f := range sorted(filters) {
		d.call("ListEntries by "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).ListEntries(ctx, &entryv1.ListEntriesRequest{Filter: f})
		})
		d.call("CountEntries by "+name, func(ctx context.Context, s *side) (any, error) {
			var c *entryv1.CountEntriesRequest_Filter
			if f != nil {
				c = &entryv1.CountEntriesRequest_Filter{BySpiffeId: f.BySpiffeId, ByParentId: f.ByParentId, BySelectors: f.BySelectors,
					ByFederatesWith: f.ByFederatesWith, ByHint: f.ByHint, ByDownstream: f.ByDownstream}
			}
			return client(s).CountEntries(ctx, &entryv1.CountEntriesRequest{Filter: c})
		})
		d.call("ListEntries pages by "+name, func(ctx context.Context, s *side) (any, error) {
			var pages []string
			token := ""
			for range 10 {
				r, err := client(s).ListEntries(ctx, &entryv1.ListEntriesRequest{Filter: f, PageSize: 2, PageToken: token})
				if err != nil {
					return nil, err
				}
				pages = append(pages, render(r))
				if token = r.NextPageToken; token == "" {
					break
				}
			}
			return pages, nil
		})
	}
	for _, token := range []string{"x", "-1", "9999999"} {
		d.call("ListEntries token "+token, func(ctx context.Context, s *side) (any, error) {
			return client(s).ListEntries(ctx, &entryv1.ListEntriesRequest{PageSize: 1, PageToken: token})
		})
	}
	d.call("ListEntries mask", func(ctx context.Context, s *side) (any, error) {
		return client(s).ListEntries(ctx, &entryv1.ListEntriesRequest{OutputMask: &types.EntryMask{ParentId: true, Selectors: true, CreatedAt: true}, PageSize: -4})
	})
}

func (d *diff) updates(client func(s *side) entryv1.EntryClient, masks map[string]*types.EntryMask) {
	update := func(name string, in, out *types.EntryMask, e ...*types.Entry) {
		d.call("BatchUpdateEntry "+name, func(ctx context.Context, s *side) (any, error) {
			return client(s).BatchUpdateEntry(ctx, &entryv1.BatchUpdateEntryRequest{Entries: e, InputMask: in, OutputMask: out})
		})
	}
	update("unknown", nil, nil, &types.Entry{Id: "unknown", SpiffeId: id("/x"), ParentId: id("/y"), Selectors: sel("a:b")})
	update("no id", nil, nil, &types.Entry{SpiffeId: id("/x"), ParentId: id("/y"), Selectors: sel("a:b")})
	update("incomplete", nil, nil, &types.Entry{Id: "one"})
	update("no entries", nil, nil)
	update("bad selectors", &types.EntryMask{Selectors: true}, nil, &types.Entry{Id: "one"})
	for _, name := range []string{"none", "hint", "x509", "selectors", "admin", "dns", "federates", "expires", "attributes", "store", "parent_id", "spiffe_id", "revision"} {
		update("mask "+name, masks[name], nil, &types.Entry{Id: "one", SpiffeId: id("/w2"), ParentId: id("/spire/agent/join_token/one"), Selectors: sel("unix:uid:9"),
			X509SvidTtl: 5, JwtSvidTtl: 6, FederatesWith: []string{"fed.test"}, Admin: true, Downstream: true, ExpiresAt: 4102444801, DnsNames: []string{"z.test"},
			StoreSvid: true, Hint: "h2", AdditionalAttributes: &types.Entry_AdditionalAttributes{JwtSvidIncludeJti: true}})
	}
	update("all and output mask", nil, &types.EntryMask{RevisionNumber: true, Hint: true}, &types.Entry{Id: "one", SpiffeId: id("/w"), ParentId: id("/spire/agent/join_token/one"),
		Selectors: sel("unix:uid:1000"), Hint: "back"})
	update("unknown federated", &types.EntryMask{FederatesWith: true}, nil, &types.Entry{Id: "one", FederatesWith: []string{"nowhere.test"}})
	update("negative ttl", &types.EntryMask{X509SvidTtl: true}, nil, &types.Entry{Id: "one", X509SvidTtl: -1})
	update("onto another", &types.EntryMask{SpiffeId: true, Selectors: true}, nil, &types.Entry{Id: "one", SpiffeId: id("/three"), Selectors: sel("unix:uid:3", "unix:gid:3")})
}
