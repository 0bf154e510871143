// Command apidiff runs the same calls against two SPIRE servers and reports each answer that differs:
// status, text, details, and the response with everything random taken out.
//
//	apidiff -a SOCKET,HOST:PORT -b SOCKET,HOST:PORT [-v]
//	apidiff -a SOCKET,HOST:PORT -golden FILE    one server against recorded answers
//	apidiff -a SOCKET,HOST:PORT -record FILE
//
// With -limits, only the rate limits; the servers then need theirs.
// Servers must be fresh, of the trust domain example.org, without a rate limit on attestation.
package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const trustDomain = "example.org"

// side is one of the two servers, with what the calls so far have made there.
type side struct {
	name   string
	addr   string
	admin  *grpc.ClientConn
	anon   *grpc.ClientConn // TCP without client certificate
	agents map[string]*grpc.ClientConn
	certs  map[string]*tls.Certificate
}

func dialTCP(addr string, cert *tls.Certificate) (*grpc.ClientConn, error) {
	conf := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(credentials.NewTLS(conf)))
}

func newSide(name, where string) (*side, error) {
	socket, addr, ok := strings.Cut(where, ",")
	if !ok {
		return nil, fmt.Errorf("%q is not SOCKET,HOST:PORT", where)
	}
	s := &side{name: name, addr: addr, agents: map[string]*grpc.ClientConn{}, certs: map[string]*tls.Certificate{}}
	var err error
	s.admin, err = grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err == nil {
		s.anon, err = dialTCP(addr, nil)
	}
	return s, err
}

// known differences: the call, and why it is meant to differ.
var known = map[string]string{
	"AppendBundle bad jwt":       "texts of Go's ASN.1 reader",
	"BatchCreateFederatedBundle": "texts of Go's ASN.1 reader",
	"MintX509SVID rubbish":       "texts of Go's ASN.1 reader",
	"BatchNewWITSVID batch":      "texts of Go's ASN.1 reader",
	"NewDownstreamX509CA no csr": "texts of Go's ASN.1 reader",
	"PublishJWTAuthority bad":    "texts of Go's ASN.1 reader",
	"ListEntries token x":        "text of the datastore",
	"ListEntries token -1":       "text of the datastore",
	"/spire.api.server.svid.v1.SVID/NewDownstreamX509CA as downstream": "texts of Go's ASN.1 reader",
}

// diff runs calls on both sides, or on one and against recorded answers, and counts.
type diff struct {
	a, b                  *side
	same, differs, waived int
	verbose               bool
	golden                map[string][]string // by call; each answer is taken once
	record                strings.Builder
}

// sorted makes the order of calls the same in each run: what one makes the next ones see.
func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}

// short keeps recorded answers readable: a long one is known by its hash.
func short(s string) string {
	if len(s) <= 400 {
		return s
	}
	return fmt.Sprintf("%s... %d bytes, sha256 %x", s[:120], len(s), sha256.Sum256([]byte(s)))
}

func readGolden(path string) (map[string][]string, error) {
	raw, err := os.ReadFile(path)
	golden := map[string][]string{}
	for line := range strings.Lines(string(raw)) {
		name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		golden[name] = append(golden[name], text)
	}
	return golden, err
}

func (d *diff) recorded(name string) string {
	left := d.golden[name]
	if len(left) == 0 {
		return "(not recorded)"
	}
	d.golden[name] = left[1:]
	return left[0]
}

// answer is one call's outcome.
func answer(m any, err error) string {
	if err != nil {
		st := status.Convert(err)
		text := fmt.Sprintf("%s: %s", st.Code(), scrubText(st.Message()))
		for _, d := range st.Details() {
			if pm, ok := d.(proto.Message); ok {
				text += fmt.Sprintf(" [%s %v]", pm.ProtoReflect().Descriptor().FullName(), pm)
			}
		}
		return text
	}
	switch v := m.(type) {
	case nil:
		return "OK"
	case proto.Message:
		return "OK " + render(v)
	case string:
		return "OK " + v
	default:
		text, _ := json.Marshal(v)
		return "OK " + string(text)
	}
}

// call compares one call; fn runs once for each side.
func (d *diff) call(name string, fn func(ctx context.Context, s *side) (any, error)) {
	run := func(s *side) string {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		return strings.ReplaceAll(answer(fn(ctx, s)), "\n", "\\n")
	}
	a, other, b := run(d.a), "recorded", ""
	switch {
	case d.b != nil:
		other, b = d.b.name, run(d.b)
	case d.golden != nil:
		a, b = short(a), d.recorded(name)
	default:
		fmt.Fprintf(&d.record, "%s\t%s\n", name, short(a))
		return
	}
	if a == b {
		d.same++
		if d.verbose {
			fmt.Printf("same    %s\n        %s\n", name, a)
		}
		return
	}
	if why, ok := known[name]; ok && d.b != nil {
		d.waived++
		if d.verbose {
			fmt.Printf("known   %s (%s)\n   %s: %s\n   %s: %s\n", name, why, d.a.name, a, other, b)
		}
		return
	}
	d.differs++
	fmt.Printf("DIFFERS %s\n   %s: %s\n   %s: %s\n", name, d.a.name, a, other, b)
}

func main() {
	a := flag.String("a", "", "first server: SOCKET,HOST:PORT")
	b := flag.String("b", "", "second server")
	verbose := flag.Bool("v", false, "also show what is the same")
	golden := flag.String("golden", "", "instead of -b: file with recorded answers")
	limits := flag.Bool("limits", false, "compare the rate limits only")
	record := flag.String("record", "", "instead of -b: file to record answers in")
	flag.Parse()
	d := &diff{verbose: *verbose}
	var err error
	d.a, err = newSide("a", *a)
	switch {
	case err != nil:
	case *golden != "":
		d.golden, err = readGolden(*golden)
	case *record == "":
		d.b, err = newSide("b", *b)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if *limits {
		d.limits()
	} else {
		d.bundles()
		d.entries()
		d.agents()
		d.asAgent()
		d.svids()
		d.permissions()
		d.lifecycle()
	}
	if *record != "" {
		if err := os.WriteFile(*record, []byte(d.record.String()), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		return
	}
	fmt.Printf("%d same, %d differ, %d differ on purpose\n", d.same, d.differs, d.waived)
	if d.differs > 0 {
		os.Exit(1)
	}
}
