// Service 1 of docs/scone.md: asks service 2 for its secret over mutual TLS, as often as it is told, and believes nobody
// but the SPIFFE ID it is given.
//
//	client ADDRESS SPIFFE-ID URL [COUNT]
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func ask(client *http.Client, url string) error {
	r, err := client.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err != nil {
		return err
	}
	fmt.Printf("%d %s\n", r.StatusCode, body)
	return nil
}

func main() {
	if len(os.Args) < 4 {
		log.Fatal("usage: client ADDRESS SPIFFE-ID URL [COUNT]")
	}
	count := 1
	if len(os.Args) > 4 {
		var err error
		if count, err = strconv.Atoi(os.Args[4]); err != nil {
			log.Fatal(err)
		}
	}
	server, err := spiffeid.FromString(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(os.Args[1])))
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()
	client := &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(server)),
		},
	}
	for i := 0; i < count; i++ {
		if i > 0 {
			time.Sleep(time.Second)
		}
		if err := ask(client, os.Args[3]); err != nil {
			log.Fatal(err)
		}
	}
}
