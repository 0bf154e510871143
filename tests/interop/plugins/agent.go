// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	nodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/nodeattestor/v1"
	svidstorev1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/svidstore/v1"
	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// agentNodeAttestor is the partner of serverNodeAttestor.
type agentNodeAttestor struct {
	nodeattestorv1.UnimplementedNodeAttestorServer
	base
}

func (p *agentNodeAttestor) AidAttestation(stream nodeattestorv1.NodeAttestor_AidAttestationServer) error {
	lie, err := p.enter("AidAttestation", p.host(stream.Context(), ""))
	if err != nil {
		return err
	}
	payload := []byte(p.cfg.Name)
	switch lie {
	case "oversize":
		payload = make([]byte, 64<<20)
	case "nothing":
		return nil
	case "empty":
		return stream.Send(&nodeattestorv1.PayloadOrChallengeResponse{})
	case "response first":
		return stream.Send(&nodeattestorv1.PayloadOrChallengeResponse{
			Data: &nodeattestorv1.PayloadOrChallengeResponse_ChallengeResponse{ChallengeResponse: payload},
		})
	}
	if err := stream.Send(&nodeattestorv1.PayloadOrChallengeResponse{
		Data: &nodeattestorv1.PayloadOrChallengeResponse_Payload{Payload: payload},
	}); err != nil {
		return err
	}
	for n := 1; ; n++ {
		challenge, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := p.enter("Challenge", map[string]any{"n": n, "size": len(challenge.Challenge)}); err != nil {
			return err
		}
		if err := stream.Send(&nodeattestorv1.PayloadOrChallengeResponse{
			Data: &nodeattestorv1.PayloadOrChallengeResponse_ChallengeResponse{
				ChallengeResponse: answerTo(p.cfg.Secret, challenge.Challenge),
			},
		}); err != nil {
			return err
		}
	}
}

// workloadAttestor knows the name of a process, and what the configuration says of all.
type workloadAttestor struct {
	workloadattestorv1.UnimplementedWorkloadAttestorServer
	base
}

func (p *workloadAttestor) Attest(ctx context.Context, req *workloadattestorv1.AttestRequest) (*workloadattestorv1.AttestResponse, error) {
	lie, err := p.enter("Attest", map[string]any{"of": req.Pid})
	if err != nil {
		return nil, err
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", req.Pid))
	if err != nil {
		return nil, status.Errorf(codes.NotFound, "no such process: %v", err)
	}
	values := append([]string{"comm:" + strings.TrimSpace(string(comm))}, p.cfg.Selectors...)
	switch lie {
	case "empty":
		values = nil
	case "many":
		values = strings.Split(strings.Repeat("x,", 1_000_000), ",")
	case "oversize":
		values = []string{strings.Repeat("x", 64<<20)}
	}
	return &workloadattestorv1.AttestResponse{SelectorValues: values}, nil
}

// svidStore writes files into the folder that a selector names.
type svidStore struct {
	svidstorev1.UnimplementedSVIDStoreServer
	base
}

func folderOf(metadata []string) (string, error) {
	for _, m := range metadata {
		if name, ok := strings.CutPrefix(m, "name:"); ok && filepath.IsLocal(name) {
			return name, nil
		}
	}
	return "", status.Error(codes.InvalidArgument, "name must be specified")
}

func certificates(ders ...[]byte) []byte {
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text
}

func (p *svidStore) PutX509SVID(ctx context.Context, req *svidstorev1.PutX509SVIDRequest) (*svidstorev1.PutX509SVIDResponse, error) {
	svid := req.GetSvid()
	federated := []string{}
	for domain := range req.FederatedBundles {
		federated = append(federated, domain)
	}
	if _, err := p.enter("PutX509SVID", map[string]any{"id": svid.GetSpiffeID(), "metadata": req.Metadata,
		"federated": federated, "expires_in": svid.GetExpiresAt() - time.Now().Unix()}); err != nil {
		return nil, err
	}
	name, err := folderOf(req.Metadata)
	if err != nil {
		return nil, err
	}
	if _, err := x509.ParsePKCS8PrivateKey(svid.PrivateKey); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "bad key: %v", err)
	}
	folder := filepath.Join(p.cfg.Folder, name)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	files := map[string][]byte{
		"bundle.pem": certificates(svid.Bundle...),
		"key.pem":    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: svid.PrivateKey}),
		"svid.pem":   certificates(svid.CertChain...),
	}
	for domain, der := range req.FederatedBundles {
		files["federated."+strings.TrimPrefix(domain, "spiffe://")+".der"] = der
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(folder, file), text, 0o600); err != nil {
			return nil, err
		}
	}
	p.log.Info("SVID stored", "spiffe_id", svid.SpiffeID)
	return &svidstorev1.PutX509SVIDResponse{}, nil
}

func (p *svidStore) DeleteX509SVID(ctx context.Context, req *svidstorev1.DeleteX509SVIDRequest) (*svidstorev1.DeleteX509SVIDResponse, error) {
	if _, err := p.enter("DeleteX509SVID", map[string]any{"metadata": req.Metadata}); err != nil {
		return nil, err
	}
	name, err := folderOf(req.Metadata)
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(p.cfg.Folder, name)); err != nil {
		return nil, err
	}
	return &svidstorev1.DeleteX509SVIDResponse{}, nil
}
