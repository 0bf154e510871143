// Command gospiffe uses an agent's Workload API the way a go-spiffe program does, and prints one JSON
// object per event, so that a test can follow it.
//
//	gospiffe mtls  SOCKET ID        mTLS with oneself, both ways, through an X509Source
//	gospiffe jwt   SOCKET ID        fetch, validate remotely, validate locally
//	gospiffe watch SOCKET           X.509 contexts and JWT bundles until stdin closes
//	gospiffe hold  SOCKET N         N open X.509 streams, one connection each, until stdin closes
//	gospiffe serve SOCKET ID        mTLS for callers with that ID until stdin closes
//	gospiffe call  SOCKET ID ADDR   mTLS with such a server
//
// SOCKET is a path, or a URL, or "env" for what SPIFFE_ENDPOINT_SOCKET says.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

var printing sync.Mutex

func emit(event string, fields map[string]any) {
	printing.Lock()
	defer printing.Unlock()
	if fields == nil {
		fields = map[string]any{}
	}
	fields["event"] = event
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

func main() {
	if len(os.Args) < 3 {
		fail(errors.New("usage: gospiffe mtls|jwt|watch|hold|serve|call SOCKET [ARG]..."))
	}
	where := os.Args[2]
	switch {
	case where == "env":
		where = os.Getenv("SPIFFE_ENDPOINT_SOCKET")
	case !strings.Contains(where, "://"):
		where = "unix:" + where
	}
	addr := workloadapi.WithAddr(where)
	arg := ""
	if len(os.Args) > 3 {
		arg = os.Args[3]
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var err error
	switch os.Args[1] {
	case "mtls":
		err = mtls(ctx, addr, arg)
	case "jwt":
		err = jwt(ctx, addr, arg)
	case "watch":
		err = watch(ctx, cancel, addr)
	case "hold":
		err = hold(ctx, addr, arg)
	case "serve":
		err = serve(ctx, addr, arg)
	case "call":
		err = call(ctx, addr, arg, os.Args[len(os.Args)-1])
	default:
		err = errors.New("unknown mode " + os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func untilStdinCloses() { io.Copy(io.Discard, os.Stdin) }

func mtls(ctx context.Context, addr workloadapi.ClientOption, want string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(addr))
	if err != nil {
		return fmt.Errorf("X509Source: %w", err)
	}
	defer source.Close()
	id, err := spiffeid.FromString(want)
	if err != nil {
		return err
	}
	only := tlsconfig.AuthorizeID(id)
	l, err := tls.Listen("tcp", "127.0.0.1:0", tlsconfig.MTLSServerConfig(source, source, only))
	if err != nil {
		return err
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() { served <- serveOne(l) }()
	conn, err := tls.Dial("tcp", l.Addr().String(), tlsconfig.MTLSClientConfig(source, source, only))
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer conn.Close()
	if _, err = fmt.Fprintln(conn, "hello"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if err := <-served; err != nil {
		return err
	}
	// somebody else's name must be refused
	other := tlsconfig.AuthorizeID(spiffeid.RequireFromPath(id.TrustDomain(), "/somebody/else"))
	go serveOne(l)
	if c, err := tls.Dial("tcp", l.Addr().String(), tlsconfig.MTLSClientConfig(source, source, other)); err == nil {
		c.Close()
		return errors.New("a wrong server name was accepted")
	}
	emit("mtls", map[string]any{"reply": line})
	return nil
}

func serve(ctx context.Context, addr workloadapi.ClientOption, peer string) error {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(addr))
	if err != nil {
		return fmt.Errorf("X509Source: %w", err)
	}
	defer source.Close()
	id, err := spiffeid.FromString(peer)
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(id)))
	if err != nil {
		return err
	}
	defer l.Close()
	emit("serving", map[string]any{"address": l.Addr().String()})
	go func() {
		for {
			if err := serveOne(l); errors.Is(err, net.ErrClosed) {
				return
			} else if err != nil {
				emit("refused", map[string]any{"error": err.Error()})
			} else {
				emit("served", map[string]any{"peer": peer})
			}
		}
	}()
	untilStdinCloses()
	return nil
}

func call(ctx context.Context, addr workloadapi.ClientOption, peer, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(addr))
	if err != nil {
		return fmt.Errorf("X509Source: %w", err)
	}
	defer source.Close()
	id, err := spiffeid.FromString(peer)
	if err != nil {
		return err
	}
	conn, err := tls.Dial("tcp", address, tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(id)))
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer conn.Close()
	if _, err = fmt.Fprintln(conn, "hello from the enclave"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	emit("called", map[string]any{"reply": line})
	return nil
}

// serveOne answers one line of one connection.
func serveOne(l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(conn, "echo: "+line)
	return err
}

func jwt(ctx context.Context, addr workloadapi.ClientOption, want string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := workloadapi.New(ctx, addr)
	if err != nil {
		return err
	}
	defer client.Close()
	svid, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "one", ExtraAudiences: []string{"two"}})
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	if svid.ID.String() != want {
		return fmt.Errorf("subject is %s, want %s", svid.ID, want)
	}
	for _, audience := range []string{"one", "two"} {
		if _, err := client.ValidateJWTSVID(ctx, svid.Marshal(), audience); err != nil {
			return fmt.Errorf("validate for %s: %w", audience, err)
		}
	}
	if _, err := client.ValidateJWTSVID(ctx, svid.Marshal(), "three"); err == nil {
		return errors.New("a wrong audience was accepted")
	}
	source, err := workloadapi.NewJWTSource(ctx, workloadapi.WithClientOptions(addr))
	if err != nil {
		return fmt.Errorf("JWTSource: %w", err)
	}
	defer source.Close()
	if _, err := jwtsvid.ParseAndValidate(svid.Marshal(), source, []string{"one"}); err != nil {
		return fmt.Errorf("local validation: %w", err)
	}
	emit("jwt", map[string]any{"sub": svid.ID.String(), "aud": svid.Audience, "expiry": svid.Expiry.Unix()})
	return nil
}

type watcher struct{}

func (watcher) OnX509ContextUpdate(c *workloadapi.X509Context) {
	var ids []string
	roots := map[string]int{}
	for _, s := range c.SVIDs {
		ids = append(ids, s.ID.String())
	}
	for _, b := range c.Bundles.Bundles() {
		roots[b.TrustDomain().Name()] = len(b.X509Authorities())
	}
	emit("x509", map[string]any{"ids": ids, "roots": roots})
}
func (watcher) OnX509ContextWatchError(err error) {
	emit("x509_error", map[string]any{"error": err.Error()})
}

func (watcher) OnJWTBundlesUpdate(set *jwtbundle.Set) {
	keys := map[string]int{}
	for _, b := range set.Bundles() {
		keys[b.TrustDomain().Name()] = len(b.JWTAuthorities())
	}
	emit("jwt_bundles", map[string]any{"keys": keys})
}
func (watcher) OnJWTBundlesWatchError(err error) {
	emit("jwt_bundles_error", map[string]any{"error": err.Error()})
}

func watch(ctx context.Context, cancel func(), addr workloadapi.ClientOption) error {
	go func() {
		untilStdinCloses()
		cancel()
	}()
	var wg sync.WaitGroup
	wg.Add(2)
	go func() { defer wg.Done(); workloadapi.WatchX509Context(ctx, watcher{}, addr) }()
	go func() { defer wg.Done(); workloadapi.WatchJWTBundles(ctx, watcher{}, addr) }()
	wg.Wait()
	return nil
}

type holder struct{ first func() }

func (h holder) OnX509ContextUpdate(*workloadapi.X509Context) { h.first() }
func (holder) OnX509ContextWatchError(error)                  {}

func hold(ctx context.Context, addr workloadapi.ClientOption, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var served sync.WaitGroup
	served.Add(n)
	for range n {
		var once sync.Once
		go workloadapi.WatchX509Context(ctx, holder{func() { once.Do(served.Done) }}, addr)
	}
	served.Wait()
	emit("holding", map[string]any{"streams": n})
	untilStdinCloses()
	return nil
}
