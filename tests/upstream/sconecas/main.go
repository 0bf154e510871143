// Puts one record, twice, with the SVIDStore sconecas_sessionmanager of UFCG's fork of SPIRE. It is built inside that tree
// (tests/upstream/test_sconecas_original.py). The record comes as JSON on standard input.
package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"log"
	"os"

	"github.com/hashicorp/go-hclog"
	svidstorev1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/svidstore/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"github.com/spiffe/spire/pkg/agent/plugin/svidstore/sconecas"
)

type record struct {
	Config, SVID, Key, Bundle string
	Metadata                  []string
	Federated                 map[string]string
}

func ders(text string) [][]byte {
	var out [][]byte
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		out = append(out, block.Bytes)
	}
}

func main() {
	var in record
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		log.Fatal(err)
	}
	plugin := sconecas.New()
	plugin.SetLogger(hclog.NewNullLogger())
	ctx := context.Background()
	if _, err := plugin.Configure(ctx, &configv1.ConfigureRequest{HclConfiguration: in.Config}); err != nil {
		log.Fatal(err)
	}
	put := &svidstorev1.PutX509SVIDRequest{
		Svid: &svidstorev1.X509SVID{
			CertChain:  ders(in.SVID),
			PrivateKey: ders(in.Key)[0],
			Bundle:     ders(in.Bundle),
		},
		Metadata:         in.Metadata,
		FederatedBundles: map[string][]byte{},
	}
	for domain, text := range in.Federated {
		put.FederatedBundles[domain] = ders(text)[0]
	}
	for i := 0; i < 2; i++ {
		if _, err := plugin.PutX509SVID(ctx, put); err != nil {
			log.Fatal(err)
		}
	}
}
