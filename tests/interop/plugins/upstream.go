// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"sync"
	"time"

	upstreamauthorityv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/upstreamauthority/v1"
	"github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// How often the files of the configuration are looked at.
const glance = 50 * time.Millisecond

// upstreamAuthority signs with a root from a file, and tells of another root or key when its file appears.
type upstreamAuthority struct {
	upstreamauthorityv1.UnimplementedUpstreamAuthorityServer
	base

	keysMu sync.Mutex
	keys   []*types.JWTKey
}

func newUpstreamAuthority() *upstreamAuthority { return new(upstreamAuthority) }

func pemBlocks(path string) (map[string][]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	blocks := map[string][]byte{}
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return blocks, nil
		}
		blocks[block.Type] = block.Bytes
		text = rest
	}
}

func (p *upstreamAuthority) sign(csrDER []byte, ttl int32) (cert, root []byte, err error) {
	blocks, err := pemBlocks(p.cfg.Root)
	if err != nil {
		return nil, nil, err
	}
	root = blocks["CERTIFICATE"]
	parent, err := x509.ParseCertificate(root)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(blocks["PRIVATE KEY"])
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, nil, err
	}
	if ttl == 0 {
		ttl = 3600
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	cert, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: csr.Subject, URIs: csr.URIs, NotBefore: now.Add(-time.Minute),
		NotAfter: now.Add(time.Duration(ttl) * time.Second), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, parent, csr.PublicKey, key.(crypto.Signer))
	return cert, root, err
}

func (p *upstreamAuthority) MintX509CAAndSubscribe(req *upstreamauthorityv1.MintX509CARequest, stream upstreamauthorityv1.UpstreamAuthority_MintX509CAAndSubscribeServer) error {
	lie, err := p.enter("MintX509CAAndSubscribe", map[string]any{"ttl": req.PreferredTtl})
	if err != nil {
		return err
	}
	cert, root, err := p.sign(req.Csr, req.PreferredTtl)
	if err != nil {
		return status.Errorf(codes.Internal, "unable to sign: %v", err)
	}
	answer := &upstreamauthorityv1.MintX509CAResponse{
		X509CaChain:       []*types.X509Certificate{{Asn1: cert}},
		UpstreamX509Roots: []*types.X509Certificate{{Asn1: root}},
	}
	switch lie {
	case "empty":
		answer = &upstreamauthorityv1.MintX509CAResponse{}
	case "no roots":
		answer.UpstreamX509Roots = nil
	case "no chain":
		answer.X509CaChain = nil
	case "nothing":
		return nil
	case "bad certificate":
		answer.X509CaChain[0].Asn1 = []byte("no certificate")
	case "bad root":
		answer.UpstreamX509Roots[0].Asn1 = []byte("no certificate")
	case "wrong key":
		answer.X509CaChain[0].Asn1 = root
	case "oversize":
		answer.UpstreamX509Roots[0].Asn1 = make([]byte, 64<<20)
	}
	if err := stream.Send(answer); err != nil {
		return err
	}
	for told := false; ; {
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-time.After(glance):
		}
		if blocks, err := pemBlocks(p.cfg.NextRoot); err == nil && !told {
			told = true
			p.enter("push root", nil)
			if err := stream.Send(&upstreamauthorityv1.MintX509CAResponse{
				UpstreamX509Roots: []*types.X509Certificate{{Asn1: root}, {Asn1: blocks["CERTIFICATE"]}},
			}); err != nil {
				return err
			}
		}
	}
}

func (p *upstreamAuthority) withKey(key *types.JWTKey) []*types.JWTKey {
	p.keysMu.Lock()
	defer p.keysMu.Unlock()
	for _, k := range p.keys {
		if k.KeyId == key.KeyId {
			return append([]*types.JWTKey(nil), p.keys...)
		}
	}
	p.keys = append(p.keys, key)
	return append([]*types.JWTKey(nil), p.keys...)
}

func (p *upstreamAuthority) PublishJWTKeyAndSubscribe(req *upstreamauthorityv1.PublishJWTKeyRequest, stream upstreamauthorityv1.UpstreamAuthority_PublishJWTKeyAndSubscribeServer) error {
	if p.cfg.NoJWT {
		return status.Error(codes.Unimplemented, "publishing upstream is unsupported")
	}
	if _, err := p.enter("PublishJWTKeyAndSubscribe", map[string]any{"kid": req.GetJwtKey().GetKeyId()}); err != nil {
		return err
	}
	if err := stream.Send(&upstreamauthorityv1.PublishJWTKeyResponse{UpstreamJwtKeys: p.withKey(req.JwtKey)}); err != nil {
		return err
	}
	for told := false; ; {
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-time.After(glance):
		}
		if blocks, err := pemBlocks(p.cfg.NextKey); err == nil && !told {
			told = true
			keys := p.withKey(&types.JWTKey{KeyId: "pushed", PublicKey: blocks["PUBLIC KEY"], ExpiresAt: time.Now().Add(time.Hour).Unix()})
			p.enter("push key", nil)
			if err := stream.Send(&upstreamauthorityv1.PublishJWTKeyResponse{UpstreamJwtKeys: keys}); err != nil {
				return err
			}
		}
	}
}

// All roots there are, and again when the second one's file has come.
func (p *upstreamAuthority) SubscribeToLocalBundle(_ *upstreamauthorityv1.SubscribeToLocalBundleRequest, stream upstreamauthorityv1.UpstreamAuthority_SubscribeToLocalBundleServer) error {
	if !p.cfg.WholeBundle {
		return status.Error(codes.Unimplemented, "the local bundle is not offered")
	}
	if _, err := p.enter("SubscribeToLocalBundle", nil); err != nil {
		return err
	}
	for sent := 0; ; {
		var roots []*types.X509Certificate
		for _, path := range []string{p.cfg.Root, p.cfg.NextRoot} {
			if blocks, err := pemBlocks(path); err == nil {
				roots = append(roots, &types.X509Certificate{Asn1: blocks["CERTIFICATE"]})
			}
		}
		if len(roots) > sent {
			sent = len(roots)
			if err := stream.Send(&upstreamauthorityv1.SubscribeToLocalBundleResponse{UpstreamX509Roots: roots}); err != nil {
				return err
			}
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-time.After(glance):
		}
	}
}
