package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type request struct {
	Info      asn1.RawValue
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

// oddCSR writes the request that Enclaver's agent sends: version 0, the empty name, an RSA key, and one attribute,
// extensionRequest, whose list of extensions is empty. Go's own writer would leave the attribute out.
func oddCSR(key *rsa.PrivateKey) (csr, spki []byte) {
	spki = check(x509.MarshalPKIXPublicKey(key.Public()))
	version := []byte{0x02, 0x01, 0x00}
	subject := []byte{0x30, 0x00}
	attributes := []byte{0xa0, 0x11, 0x30, 0x0f, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e,
		0x31, 0x02, 0x30, 0x00}
	sha256WithRSA := []byte{0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00}
	var content []byte
	for _, part := range [][]byte{version, subject, spki, attributes} {
		content = append(content, part...)
	}
	info := check(asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: content}))
	sum := sha256.Sum256(info)
	sig := check(rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:]))
	csr = check(asn1.Marshal(request{
		Info:      asn1.RawValue{FullBytes: info},
		Algorithm: asn1.RawValue{FullBytes: sha256WithRSA},
		Signature: asn1.BitString{Bytes: sig, BitLength: len(sig) * 8},
	}))
	if len(csr) != 602 {
		fail(fmt.Errorf("the request has %d bytes, Enclaver's has 602", len(csr)))
	}
	return csr, spki
}

func keep(svid *types.X509SVID, r *result) error {
	leaf, err := x509.ParseCertificate(svid.CertChain[0])
	if err != nil {
		return err
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != id(svid.Id) {
		return errors.New("the certificate is not for the ID")
	}
	r.AgentID, r.Serial = id(svid.Id), leaf.SerialNumber.String()
	for _, c := range svid.CertChain {
		r.Chain = append(r.Chain, base64.StdEncoding.EncodeToString(c))
	}
	return nil
}

func entries(ctx context.Context, conn *grpc.ClientConn, r *result) ([]*types.Entry, error) {
	resp, err := entryv1.NewEntryClient(conn).GetAuthorizedEntries(ctx, &entryv1.GetAuthorizedEntriesRequest{
		OutputMask: &types.EntryMask{SpiffeId: true}})
	if err != nil {
		return nil, err
	}
	for _, e := range resp.Entries {
		if e.ParentId != nil || len(e.Selectors) > 0 || e.Id == "" {
			return nil, errors.New("the mask was not kept to")
		}
		r.Entries = append(r.Entries, id(e.SpiffeId))
	}
	return resp.Entries, nil
}

// workload is what follows attestation, on one connection: entries, of which the first is taken, an X509-SVID, a
// JWT-SVID, the bundle.
func workload(ctx context.Context, conn *grpc.ClientConn, csr []byte, r *result) error {
	defer conn.Close()
	found, err := entries(ctx, conn, r)
	if err != nil || len(found) == 0 {
		return err
	}
	svids := svidv1.NewSVIDClient(conn)
	batch, err := svids.BatchNewX509SVID(ctx, &svidv1.BatchNewX509SVIDRequest{
		Params: []*svidv1.NewX509SVIDParams{{EntryId: found[0].Id, Csr: csr}}})
	if err != nil {
		return err
	}
	last := batch.Results[len(batch.Results)-1]
	if last.Status.Code != 0 {
		return status.Error(codes.Code(last.Status.Code), last.Status.Message)
	}
	r.SVID = id(last.Svid.Id)
	for _, c := range last.Svid.CertChain {
		r.SVIDPEM += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c}))
	}
	jwt, err := svids.NewJWTSVID(ctx, &svidv1.NewJWTSVIDRequest{EntryId: found[0].Id, Audience: []string{"shop"}})
	if err != nil {
		return err
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(jwt.Svid.Token, ".")[1])
	if err != nil {
		return err
	}
	r.JWT = string(claims)
	bundle, err := bundlev1.NewBundleClient(conn).GetBundle(ctx, &bundlev1.GetBundleRequest{OutputMask: &types.BundleMask{
		X509Authorities: true, JwtAuthorities: true, RefreshHint: true, SequenceNumber: true}})
	if err != nil {
		return err
	}
	r.Authorities, r.JWTKeys = len(bundle.X509Authorities), len(bundle.JwtAuthorities)
	return nil
}

// againWith uses the agent SVID of an earlier run.
func againWith(ctx context.Context, key *rsa.PrivateKey, r *result) error {
	var earlier result
	var chain [][]byte
	if err := json.Unmarshal(check(os.ReadFile(*again)), &earlier); err != nil {
		return err
	}
	for _, c := range earlier.Chain {
		chain = append(chain, check(base64.StdEncoding.DecodeString(c)))
	}
	conn := dial(key, chain)
	defer conn.Close()
	_, err := entries(ctx, conn, r)
	return err
}
