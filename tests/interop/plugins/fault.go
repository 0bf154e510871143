// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/spire-plugin-sdk/pluginmain"
	notifierv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/notifier/v1"
	"google.golang.org/grpc"
)

// Handshake lines as they must not be.
var lines = map[string]string{
	"garbage": "hello, I am no plugin",
	"empty":   "",
	"fields":  "1|1|unix",
	"core":    "2|1|unix|/nowhere|grpc",
	"version": "1|2|unix|/nowhere|grpc",
	"number":  "1|one|unix|/nowhere|grpc",
	"network": "1|1|udp|127.0.0.1:1|grpc",
	"netrpc":  "1|1|unix|/nowhere|netrpc",
	"old":     "1|1|unix|/nowhere",
	"gone":    "1|1|unix|/nowhere|grpc",
	"refused": "1|1|tcp|127.0.0.1:1|grpc",
}

// stranger is a service nobody knows.
type stranger struct{ name string }

func (stranger) Type() string                           { return "Notifier" }
func (s stranger) GRPCServiceName() string              { return s.name }
func (stranger) RegisterServer(server *grpc.Server) any { return nil }

// misbehave does, before any call, what args[0] names.
func misbehave(args []string) {
	what := args[0]
	if line, ok := lines[what]; ok {
		fmt.Println(line)
		time.Sleep(time.Hour)
	}
	switch what {
	case "binary":
		for range 64 {
			os.Stdout.Write(bytes.Repeat([]byte{0, 0xff, '|'}, 1024))
		}
		time.Sleep(time.Hour)
	case "exit":
		fmt.Fprintln(os.Stderr, "cannot start: there is no licence")
		os.Exit(3)
	case "silent":
		time.Sleep(time.Hour)
	case "closed":
		os.Stdout.Close()
		time.Sleep(time.Hour)
	case "cookie": // does not look at its cookie, and is of another kind than wanted
		os.Setenv("Notifier", "Notifier")
		pluginmain.Serve(notifierv1.NotifierPluginServer(new(notifier)))
	case "services":
		pluginmain.Serve(stranger{"made.up.Service"}, stranger{"made.up.Other"})
	default:
		fmt.Fprintf(os.Stderr, "no such fault: %s\n", what)
		os.Exit(2)
	}
}
