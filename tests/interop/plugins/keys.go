// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"os"
	"sort"
	"sync"

	agentkeymanagerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/keymanager/v1"
	keymanagerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/keymanager/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// publicKey is what both programs' messages say; the numbers of types and hashes are the same in both.
type publicKey struct {
	id          string
	kind        int32
	pkix        []byte
	fingerprint string
}

type storedKey struct {
	Kind  int32
	PKCS8 []byte
}

// keyStore holds keys in memory, and in a file when there is one.
type keyStore struct {
	base

	keysMu sync.Mutex
	keys   map[string]storedKey
}

func (s *keyStore) load() {
	if s.keys != nil {
		return
	}
	s.keys = map[string]storedKey{}
	if text, err := os.ReadFile(s.cfg.Keys); err == nil {
		if err := json.Unmarshal(text, &s.keys); err != nil {
			s.log.Error("The file of keys is broken", "error", err)
		}
	}
}

func (s *keyStore) save() error {
	if s.cfg.Keys == "" {
		return nil
	}
	text, err := json.Marshal(s.keys)
	if err != nil {
		return err
	}
	return os.WriteFile(s.cfg.Keys, text, 0o600)
}

func (k storedKey) signer() (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(k.PKCS8)
	if err != nil {
		return nil, err
	}
	return key.(crypto.Signer), nil
}

func describe(id string, k storedKey) (*publicKey, error) {
	signer, err := k.signer()
	if err != nil {
		return nil, err
	}
	pkix, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(pkix)
	return &publicKey{id: id, kind: k.Kind, pkix: pkix, fingerprint: hex.EncodeToString(sum[:])}, nil
}

func makeKey(kind int32) (crypto.Signer, error) {
	switch keymanagerv1.KeyType(kind) {
	case keymanagerv1.KeyType_EC_P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case keymanagerv1.KeyType_EC_P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case keymanagerv1.KeyType_RSA_2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case keymanagerv1.KeyType_RSA_4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, status.Errorf(codes.InvalidArgument, "no such key type: %d", kind)
}

// bend makes a public key a lie.
func bend(lie string, k *publicKey) *publicKey {
	switch lie {
	case "empty":
		return nil
	case "other id":
		k.id = "somebody else's"
	case "no id":
		k.id = ""
	case "bad pkix":
		k.pkix = []byte("no key")
	case "no pkix":
		k.pkix = nil
	case "other type":
		k.kind = 3 - k.kind
	case "no fingerprint":
		k.fingerprint = ""
	case "oversize":
		k.pkix = make([]byte, 64<<20)
	}
	return k
}

func (s *keyStore) generate(id string, kind int32) (*publicKey, error) {
	lie, err := s.enter("GenerateKey", map[string]any{"id": id, "type": kind})
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, status.Error(codes.InvalidArgument, "key id is required")
	}
	signer, err := makeKey(kind)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return nil, err
	}
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	s.load()
	s.keys[id] = storedKey{Kind: kind, PKCS8: der}
	if err := s.save(); err != nil {
		return nil, err
	}
	s.log.Debug("Key made", "key_id", id)
	k, err := describe(id, s.keys[id])
	return bend(lie, k), err
}

func (s *keyStore) get(id string) (*publicKey, error) {
	lie, err := s.enter("GetPublicKey", map[string]any{"id": id})
	if err != nil {
		return nil, err
	}
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	s.load()
	stored, ok := s.keys[id]
	if !ok {
		return nil, nil
	}
	k, err := describe(id, stored)
	return bend(lie, k), err
}

func (s *keyStore) list() ([]*publicKey, error) {
	lie, err := s.enter("GetPublicKeys", nil)
	if err != nil {
		return nil, err
	}
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	s.load()
	keys := []*publicKey{}
	for id, stored := range s.keys {
		k, err := describe(id, stored)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i].id < keys[j].id })
	for i := range keys {
		keys[i] = bend(lie, keys[i])
	}
	return keys, nil
}

// Hashes by their number in the messages.
var hashes = map[int32]crypto.Hash{4: crypto.SHA224, 5: crypto.SHA256, 6: crypto.SHA384, 7: crypto.SHA512,
	10: crypto.SHA3_224, 11: crypto.SHA3_256, 12: crypto.SHA3_384, 13: crypto.SHA3_512, 14: crypto.SHA512_224, 15: crypto.SHA512_256}

type pss struct{ saltLength, hash int32 }

func (s *keyStore) sign(id string, data []byte, hash int32, p *pss) ([]byte, string, error) {
	lie, err := s.enter("SignData", map[string]any{"id": id, "hash": hash, "pss": p != nil})
	if err != nil {
		return nil, "", err
	}
	s.keysMu.Lock()
	s.load()
	stored, ok := s.keys[id]
	s.keysMu.Unlock()
	if !ok {
		return nil, "", status.Errorf(codes.NotFound, "no such key %q", id)
	}
	signer, err := stored.signer()
	if err != nil {
		return nil, "", err
	}
	var opts crypto.SignerOpts = hashes[hash]
	if p != nil {
		opts = &rsa.PSSOptions{SaltLength: int(p.saltLength), Hash: hashes[p.hash]}
	}
	signature, err := signer.Sign(rand.Reader, data, opts)
	if err != nil {
		return nil, "", status.Errorf(codes.Internal, "unable to sign: %v", err)
	}
	k, err := describe(id, stored)
	if err != nil {
		return nil, "", err
	}
	switch lie {
	case "empty":
		return nil, "", nil
	case "bad signature":
		signature[len(signature)-1] ^= 1
	case "other fingerprint":
		k.fingerprint = "0000"
	case "oversize":
		signature = make([]byte, 64<<20)
	}
	return signature, k.fingerprint, nil
}

type serverKeyManager struct {
	keymanagerv1.UnimplementedKeyManagerServer
	keyStore
}

func serverKey(k *publicKey) *keymanagerv1.PublicKey {
	if k == nil {
		return nil
	}
	return &keymanagerv1.PublicKey{Id: k.id, Type: keymanagerv1.KeyType(k.kind), PkixData: k.pkix, Fingerprint: k.fingerprint}
}

func (p *serverKeyManager) GenerateKey(ctx context.Context, req *keymanagerv1.GenerateKeyRequest) (*keymanagerv1.GenerateKeyResponse, error) {
	k, err := p.generate(req.KeyId, int32(req.KeyType))
	return &keymanagerv1.GenerateKeyResponse{PublicKey: serverKey(k)}, err
}

func (p *serverKeyManager) GetPublicKey(ctx context.Context, req *keymanagerv1.GetPublicKeyRequest) (*keymanagerv1.GetPublicKeyResponse, error) {
	k, err := p.get(req.KeyId)
	return &keymanagerv1.GetPublicKeyResponse{PublicKey: serverKey(k)}, err
}

func (p *serverKeyManager) GetPublicKeys(ctx context.Context, req *keymanagerv1.GetPublicKeysRequest) (*keymanagerv1.GetPublicKeysResponse, error) {
	keys, err := p.list()
	resp := new(keymanagerv1.GetPublicKeysResponse)
	for _, k := range keys {
		resp.PublicKeys = append(resp.PublicKeys, serverKey(k))
	}
	return resp, err
}

func (p *serverKeyManager) SignData(ctx context.Context, req *keymanagerv1.SignDataRequest) (*keymanagerv1.SignDataResponse, error) {
	var opts *pss
	if o := req.GetPssOptions(); o != nil {
		opts = &pss{o.SaltLength, int32(o.HashAlgorithm)}
	}
	signature, fingerprint, err := p.sign(req.KeyId, req.Data, int32(req.GetHashAlgorithm()), opts)
	return &keymanagerv1.SignDataResponse{Signature: signature, KeyFingerprint: fingerprint}, err
}

type agentKeyManager struct {
	agentkeymanagerv1.UnimplementedKeyManagerServer
	keyStore
}

func agentKey(k *publicKey) *agentkeymanagerv1.PublicKey {
	if k == nil {
		return nil
	}
	return &agentkeymanagerv1.PublicKey{Id: k.id, Type: agentkeymanagerv1.KeyType(k.kind), PkixData: k.pkix, Fingerprint: k.fingerprint}
}

func (p *agentKeyManager) GenerateKey(ctx context.Context, req *agentkeymanagerv1.GenerateKeyRequest) (*agentkeymanagerv1.GenerateKeyResponse, error) {
	k, err := p.generate(req.KeyId, int32(req.KeyType))
	return &agentkeymanagerv1.GenerateKeyResponse{PublicKey: agentKey(k)}, err
}

func (p *agentKeyManager) GetPublicKey(ctx context.Context, req *agentkeymanagerv1.GetPublicKeyRequest) (*agentkeymanagerv1.GetPublicKeyResponse, error) {
	k, err := p.get(req.KeyId)
	return &agentkeymanagerv1.GetPublicKeyResponse{PublicKey: agentKey(k)}, err
}

func (p *agentKeyManager) GetPublicKeys(ctx context.Context, req *agentkeymanagerv1.GetPublicKeysRequest) (*agentkeymanagerv1.GetPublicKeysResponse, error) {
	keys, err := p.list()
	resp := new(agentkeymanagerv1.GetPublicKeysResponse)
	for _, k := range keys {
		resp.PublicKeys = append(resp.PublicKeys, agentKey(k))
	}
	return resp, err
}

func (p *agentKeyManager) SignData(ctx context.Context, req *agentkeymanagerv1.SignDataRequest) (*agentkeymanagerv1.SignDataResponse, error) {
	var opts *pss
	if o := req.GetPssOptions(); o != nil {
		opts = &pss{o.SaltLength, int32(o.HashAlgorithm)}
	}
	signature, fingerprint, err := p.sign(req.KeyId, req.Data, int32(req.GetHashAlgorithm()), opts)
	return &agentkeymanagerv1.SignDataResponse{Signature: signature, KeyFingerprint: fingerprint}, err
}
