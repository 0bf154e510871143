// nitro speaks to a server as the agents of Nitro enclaves do: as Enclaver's (which ties its document to nothing,
// and never answers a challenge), or tied to its key.
//
//	nitro -server HOST:PORT -bundle FILE [-document FILE | -maker "PROGRAM ARG..."] [-bind WHAT] [-answer WHAT]
//	      [-key FILE] [-until attest|all] [-again FILE]
//
// What happened is printed as one JSON object; the exit status is 0 also when the server refused.
package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

var (
	serverAddr = flag.String("server", "", "address of the server")
	bundlePath = flag.String("bundle", "", "PEM file of its bundle")
	document   = flag.String("document", "", "file with an attestation document")
	maker      = flag.String("maker", "", "program that writes a document; NAME=VALUE words are added")
	bind       = flag.String("bind", "none", "none, public_key, user_data or nonce: where the document names the key")
	answer     = flag.String("answer", "ignore", "ignore (half close at once), nonce, zeros, old or empty: what a challenge is answered with")
	keyPath    = flag.String("key", "", "PEM file of the RSA key; made when it is not there")
	until      = flag.String("until", "all", "attest or all")
	again      = flag.String("again", "", "JSON file of an earlier run: ask for entries with the SVID it got")
	times      = flag.Int("times", 1, "attest with -document PREFIX0, PREFIX1, .. one after the other")
)

type result struct {
	Code         string   `json:"code,omitempty"`
	Message      string   `json:"message,omitempty"`
	Reason       string   `json:"reason,omitempty"`
	Challenge    string   `json:"challenge,omitempty"`
	AgentID      string   `json:"agent_id,omitempty"`
	Serial       string   `json:"serial,omitempty"`
	Reattestable bool     `json:"reattestable"`
	Chain        []string `json:"chain,omitempty"`
	Entries      []string `json:"entries,omitempty"`
	SVID         string   `json:"svid,omitempty"`
	SVIDPEM      string   `json:"svid_pem,omitempty"`
	JWT          string   `json:"jwt,omitempty"`
	Authorities  int      `json:"authorities,omitempty"`
	JWTKeys      int      `json:"jwt_keys,omitempty"`
	Attested     int      `json:"attested,omitempty"`
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "nitro:", err)
	os.Exit(1)
}

func check[T any](v T, err error) T {
	if err != nil {
		fail(err)
	}
	return v
}

func id(i *types.SPIFFEID) string { return "spiffe://" + i.GetTrustDomain() + i.GetPath() }

// One key for the life of the process, as Enclaver's agent has it.
func loadKey() *rsa.PrivateKey {
	if *keyPath != "" {
		if raw, err := os.ReadFile(*keyPath); err == nil {
			block, _ := pem.Decode(raw)
			return check(x509.ParsePKCS1PrivateKey(block.Bytes))
		}
	}
	key := check(rsa.GenerateKey(rand.Reader, 2048))
	if *keyPath != "" {
		block := pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
		if err := os.WriteFile(*keyPath, pem.EncodeToMemory(&block), 0o600); err != nil {
			fail(err)
		}
	}
	return key
}

func dial(key crypto.Signer, chain [][]byte) *grpc.ClientConn {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(check(os.ReadFile(*bundlePath))) {
		fail(errors.New("no certificates in the bundle"))
	}
	cfg := &tls.Config{
		NextProtos:         []string{"h2"},
		InsecureSkipVerify: true, // the name is no host's; verified below
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			leaf, err := x509.ParseCertificate(raw[0])
			if err != nil {
				return err
			}
			if len(leaf.URIs) == 0 || !strings.HasSuffix(leaf.URIs[0].String(), "/spire/server") {
				return errors.New("not the server")
			}
			_, err = leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			return err
		},
	}
	if chain != nil {
		cfg.Certificates = []tls.Certificate{{Certificate: chain, PrivateKey: key}}
	}
	return check(grpc.NewClient("passthrough:///"+*serverAddr, grpc.WithTransportCredentials(credentials.NewTLS(cfg)),
		grpc.WithUserAgent("tonic/0.14.2")))
}

// make runs the maker with more words, or reads the file.
func makeDocument(more ...string) []byte {
	if *document != "" {
		return check(os.ReadFile(*document))
	}
	words := append(strings.Fields(*maker), more...)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stderr = os.Stderr
	return check(cmd.Output())
}

func binding(spki []byte) []string {
	sum := sha256.Sum256(spki)
	switch *bind {
	case "public_key":
		return []string{"public_key=" + hex.EncodeToString(spki)}
	case "user_data", "nonce":
		return []string{*bind + "=" + hex.EncodeToString(sum[:])}
	}
	return nil
}

func respond(r *result, challenge []byte, first []byte) *agentv1.AttestAgentRequest {
	r.Challenge = hex.EncodeToString(challenge)
	var doc []byte
	switch *answer {
	case "nonce":
		doc = makeDocument("nonce=" + r.Challenge)
	case "zeros":
		doc = makeDocument("nonce=" + strings.Repeat("00", 32))
	case "old":
		doc = first
	}
	return &agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_ChallengeResponse{ChallengeResponse: doc}}
}

// attest is one AttestAgent call: one message, then half close at once unless a challenge is to be answered.
func attest(ctx context.Context, client agentv1.AgentClient, doc, csr []byte, r *result) (*types.X509SVID, error) {
	stream, err := client.AttestAgent(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{
		Params: &agentv1.AttestAgentRequest_Params{
			Data:   &types.AttestationData{Type: "nitro_enclave", Payload: doc},
			Params: &agentv1.AgentX509SVIDParams{Csr: csr},
		}}})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if *answer == "ignore" {
		_ = stream.CloseSend()
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if got := resp.GetResult(); got != nil {
			r.Reattestable = got.Reattestable
			return got.Svid, nil
		}
		if *answer == "ignore" {
			r.Challenge = hex.EncodeToString(resp.GetChallenge())
			continue
		}
		if err := stream.Send(respond(r, resp.GetChallenge(), doc)); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
}

func report(r *result, err error) {
	if err != nil {
		s := status.Convert(err)
		r.Code, r.Message = s.Code().String(), s.Message()
		for _, d := range s.Details() {
			if p, ok := d.(*types.PermissionDeniedDetails); ok {
				r.Reason = p.Reason.String()
			}
		}
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(r); err != nil {
		fail(err)
	}
}

func attestMany(ctx context.Context, client agentv1.AgentClient, csr []byte, r *result) error {
	prefix := *document
	for i := range *times {
		*document = fmt.Sprintf("%s%d", prefix, i)
		if _, err := attest(ctx, client, makeDocument(), csr, r); err != nil {
			return err
		}
		r.Attested++
	}
	return nil
}

func main() {
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	key := loadKey()
	r := &result{}
	if *again != "" {
		report(r, againWith(ctx, key, r))
		return
	}
	csr, spki := oddCSR(key)
	conn := dial(nil, nil)
	defer conn.Close()
	client := agentv1.NewAgentClient(conn)
	if *times > 1 {
		report(r, attestMany(ctx, client, csr, r))
		return
	}
	svid, err := attest(ctx, client, makeDocument(binding(spki)...), csr, r)
	if err == nil {
		err = keep(svid, r)
	}
	if err == nil && *until == "all" {
		err = workload(ctx, dial(key, svid.CertChain), csr, r)
	}
	report(r, err)
}
