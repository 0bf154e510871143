// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	identityproviderv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/hostservice/server/identityprovider/v1"
	bundlepublisherv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/bundlepublisher/v1"
	credentialcomposerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/credentialcomposer/v1"
	nodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/nodeattestor/v1"
	notifierv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/notifier/v1"
	"github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

func answerTo(secret string, challenge []byte) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write(challenge)
	return h.Sum(nil)
}

func identityText(resp *identityproviderv1.FetchX509IdentityResponse, err error) string {
	if err != nil {
		return err.Error()
	}
	leaf, err := x509.ParseCertificate(resp.GetIdentity().GetCertChain()[0])
	if err != nil {
		return err.Error()
	}
	if _, err := x509.ParsePKCS8PrivateKey(resp.GetIdentity().GetPrivateKey()); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s of %s with %d roots", leaf.URIs[0], resp.GetBundle().GetTrustDomain(),
		len(resp.GetBundle().GetX509Authorities()))
}

// serverNodeAttestor takes a name as payload and wants a keyed hash of each challenge.
type serverNodeAttestor struct {
	nodeattestorv1.UnimplementedNodeAttestorServer
	base
}

func (p *serverNodeAttestor) challenge(stream nodeattestorv1.NodeAttestor_AttestServer, lie string) error {
	challenge := make([]byte, 32)
	if lie == "oversize" {
		challenge = make([]byte, 64<<20)
	}
	rand.Read(challenge)
	if err := stream.Send(&nodeattestorv1.AttestResponse{
		Response: &nodeattestorv1.AttestResponse_Challenge{Challenge: challenge},
	}); err != nil {
		return err
	}
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	if !hmac.Equal(answerTo(p.cfg.Secret, challenge), req.GetChallengeResponse()) {
		return status.Error(codes.PermissionDenied, "the response does not answer the challenge")
	}
	return nil
}

func (p *serverNodeAttestor) Attest(stream nodeattestorv1.NodeAttestor_AttestServer) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	name := string(req.GetPayload())
	id := fmt.Sprintf("spiffe://%s/spire/agent/%s/%s", p.trustDomain, p.cfg.Name, name)
	ip := strings.Join(metadata.ValueFromIncomingContext(stream.Context(), "x-forwarded-client-ip"), ",")
	fields := p.host(stream.Context(), id)
	fields["payload"], fields["ip"] = name, ip
	lie, err := p.enter("Attest", fields)
	if err != nil {
		return err
	}
	for i := 0; i < p.cfg.Rounds; i++ {
		if err := p.challenge(stream, lie); err != nil {
			return err
		}
	}
	attributes := &nodeattestorv1.AgentAttributes{
		SpiffeId: id, CanReattest: p.cfg.CanReattest,
		SelectorValues: append([]string{"name:" + name, "ip:" + ip}, p.cfg.Selectors...),
	}
	switch lie {
	case "empty":
		return stream.Send(&nodeattestorv1.AttestResponse{})
	case "nothing":
		return nil
	case "no id":
		attributes.SpiffeId = ""
	case "other domain":
		attributes.SpiffeId = "spiffe://other.test/spire/agent/x/y"
	case "not an agent":
		attributes.SpiffeId = "spiffe://" + p.trustDomain + "/workload"
	case "other plugin":
		attributes.SpiffeId = "spiffe://" + p.trustDomain + "/spire/agent/join_token/" + name
	case "the server":
		attributes.SpiffeId = "spiffe://" + p.trustDomain + "/spire/server"
	case "no uri":
		attributes.SpiffeId = "no uri at all"
	case "many selectors":
		for i := 0; i < 1_000_000; i++ {
			attributes.SelectorValues = append(attributes.SelectorValues, "x")
		}
	case "empty selector":
		attributes.SelectorValues = []string{""}
	}
	return stream.Send(&nodeattestorv1.AttestResponse{
		Response: &nodeattestorv1.AttestResponse_AgentAttributes{AgentAttributes: attributes},
	})
}

// notifier writes down what it is told.
type notifier struct {
	notifierv1.UnimplementedNotifierServer
	base
}

func bundleFields(b *types.Bundle) map[string]any {
	tainted, kids := 0, []string{}
	for _, c := range b.GetX509Authorities() {
		if c.Tainted {
			tainted++
		}
	}
	for _, k := range b.GetJwtAuthorities() {
		kids = append(kids, k.KeyId)
	}
	return map[string]any{"trust_domain": b.GetTrustDomain(), "roots": len(b.GetX509Authorities()), "tainted": tainted,
		"kids": kids, "sequence": b.GetSequenceNumber(), "refresh_hint": b.GetRefreshHint()}
}

func (p *notifier) Notify(ctx context.Context, req *notifierv1.NotifyRequest) (*notifierv1.NotifyResponse, error) {
	fields := bundleFields(req.GetBundleUpdated().GetBundle())
	fields["host"] = p.host(ctx, "")
	if _, err := p.enter("Notify", fields); err != nil {
		return nil, err
	}
	return &notifierv1.NotifyResponse{}, nil
}

func (p *notifier) NotifyAndAdvise(ctx context.Context, req *notifierv1.NotifyAndAdviseRequest) (*notifierv1.NotifyAndAdviseResponse, error) {
	if _, err := p.enter("NotifyAndAdvise", bundleFields(req.GetBundleLoaded().GetBundle())); err != nil {
		return nil, err
	}
	return &notifierv1.NotifyAndAdviseResponse{}, nil
}

// bundlePublisher writes the bundle into a file.
type bundlePublisher struct {
	bundlepublisherv1.UnimplementedBundlePublisherServer
	base
}

func (p *bundlePublisher) PublishBundle(ctx context.Context, req *bundlepublisherv1.PublishBundleRequest) (*bundlepublisherv1.PublishBundleResponse, error) {
	fields := bundleFields(req.GetBundle())
	if _, err := p.enter("PublishBundle", fields); err != nil {
		return nil, err
	}
	roots := []string{}
	for _, c := range req.GetBundle().GetX509Authorities() {
		roots = append(roots, base64.StdEncoding.EncodeToString(c.Asn1))
	}
	fields["certificates"] = roots
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(p.cfg.Path+".new", text, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(p.cfg.Path+".new", p.cfg.Path); err != nil {
		return nil, err
	}
	p.log.Info("Bundle written", "path", p.cfg.Path, "roots", len(roots))
	return &bundlepublisherv1.PublishBundleResponse{}, nil
}

// credentialComposer adds an organizational unit, an extension and a claim.
type credentialComposer struct {
	credentialcomposerv1.UnimplementedCredentialComposerServer
	base
}

func (p *credentialComposer) extension() *credentialcomposerv1.X509Extension {
	value, err := asn1.MarshalWithParams("made by "+p.cfg.Name, "utf8")
	if err != nil {
		panic(err)
	}
	return &credentialcomposerv1.X509Extension{Oid: p.cfg.OID, Value: value}
}

func (p *credentialComposer) subject(dn *credentialcomposerv1.DistinguishedName) *credentialcomposerv1.DistinguishedName {
	if dn == nil {
		dn = &credentialcomposerv1.DistinguishedName{}
	}
	dn.OrganizationalUnit = append(dn.OrganizationalUnit, p.cfg.OU)
	return dn
}

func (p *credentialComposer) change(method, id string, key []byte, a *credentialcomposerv1.X509SVIDAttributes) (*credentialcomposerv1.X509SVIDAttributes, error) {
	lie, err := p.enter(method, map[string]any{"id": id, "key": len(key), "subject": a.GetSubject().String(), "dns": a.GetDnsSans()})
	if err != nil {
		return nil, err
	}
	a.Subject = p.subject(a.Subject)
	a.ExtraExtensions = append(a.ExtraExtensions, p.extension())
	switch lie {
	case "empty":
		return nil, nil
	case "bad oid":
		a.ExtraExtensions[0].Oid = "no.oid"
	case "san":
		a.ExtraExtensions[0].Oid = "2.5.29.17"
	}
	return a, nil
}

func (p *credentialComposer) ComposeServerX509CA(ctx context.Context, req *credentialcomposerv1.ComposeServerX509CARequest) (*credentialcomposerv1.ComposeServerX509CAResponse, error) {
	a := req.GetAttributes()
	if _, err := p.enter("ComposeServerX509CA", map[string]any{"subject": a.GetSubject().String()}); err != nil {
		return nil, err
	}
	a.Subject = p.subject(a.Subject)
	a.PolicyIdentifiers = append(a.PolicyIdentifiers, p.cfg.OID+".9")
	a.ExtraExtensions = append(a.ExtraExtensions, p.extension())
	return &credentialcomposerv1.ComposeServerX509CAResponse{Attributes: a}, nil
}

func (p *credentialComposer) ComposeServerX509SVID(ctx context.Context, req *credentialcomposerv1.ComposeServerX509SVIDRequest) (*credentialcomposerv1.ComposeServerX509SVIDResponse, error) {
	a, err := p.change("ComposeServerX509SVID", "", nil, req.GetAttributes())
	return &credentialcomposerv1.ComposeServerX509SVIDResponse{Attributes: a}, err
}

func (p *credentialComposer) ComposeAgentX509SVID(ctx context.Context, req *credentialcomposerv1.ComposeAgentX509SVIDRequest) (*credentialcomposerv1.ComposeAgentX509SVIDResponse, error) {
	a, err := p.change("ComposeAgentX509SVID", req.SpiffeId, req.PublicKey, req.GetAttributes())
	return &credentialcomposerv1.ComposeAgentX509SVIDResponse{Attributes: a}, err
}

func (p *credentialComposer) ComposeWorkloadX509SVID(ctx context.Context, req *credentialcomposerv1.ComposeWorkloadX509SVIDRequest) (*credentialcomposerv1.ComposeWorkloadX509SVIDResponse, error) {
	a, err := p.change("ComposeWorkloadX509SVID", req.SpiffeId, req.PublicKey, req.GetAttributes())
	return &credentialcomposerv1.ComposeWorkloadX509SVIDResponse{Attributes: a}, err
}

func (p *credentialComposer) ComposeWorkloadJWTSVID(ctx context.Context, req *credentialcomposerv1.ComposeWorkloadJWTSVIDRequest) (*credentialcomposerv1.ComposeWorkloadJWTSVIDResponse, error) {
	claims := req.GetAttributes().GetClaims()
	lie, err := p.enter("ComposeWorkloadJWTSVID", map[string]any{"id": req.SpiffeId, "claims": claims.AsMap()})
	if err != nil {
		return nil, err
	}
	added, err := structpb.NewValue(map[string]any{
		"by": p.cfg.Name, "list": []any{1, "two", true, nil, 0.5}, "large": 9007199254740991.0, "text": "\u00fc \"quoted\"",
	})
	if err != nil {
		return nil, err
	}
	claims.Fields[p.cfg.Claim] = added
	switch lie {
	case "empty":
		return &credentialcomposerv1.ComposeWorkloadJWTSVIDResponse{}, nil
	case "no sub":
		delete(claims.Fields, "sub")
	}
	return &credentialcomposerv1.ComposeWorkloadJWTSVIDResponse{
		Attributes: &credentialcomposerv1.JWTSVIDAttributes{Claims: claims},
	}, nil
}
