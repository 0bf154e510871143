// SPDX-License-Identifier: Apache-2.0

// External plugins of every kind, made with SPIRE's plugin SDK, for the tests of the plugin host.
//
//	plugins server KeyManager      serve a plugin that does its job
//	plugins agent KeyManager
//	plugins fault garbage Notifier misbehave before the first call (see fault.go)
//
// All kinds take the same configuration (config.go), write each call into a journal for the test to read,
// and misbehave in a call when the configuration says so.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/spiffe/spire-plugin-sdk/pluginmain"
	"github.com/spiffe/spire-plugin-sdk/pluginsdk"
	agentkeymanagerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/keymanager/v1"
	agentnodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/nodeattestor/v1"
	svidstorev1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/svidstore/v1"
	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	bundlepublisherv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/bundlepublisher/v1"
	credentialcomposerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/credentialcomposer/v1"
	keymanagerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/keymanager/v1"
	nodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/nodeattestor/v1"
	notifierv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/notifier/v1"
	upstreamauthorityv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/upstreamauthority/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
)

type plugin struct {
	server pluginsdk.PluginServer
	config configv1.ConfigServer
}

func serverPlugin(kind string) (plugin, bool) {
	switch kind {
	case "NodeAttestor":
		p := new(serverNodeAttestor)
		return plugin{nodeattestorv1.NodeAttestorPluginServer(p), p}, true
	case "KeyManager":
		p := new(serverKeyManager)
		return plugin{keymanagerv1.KeyManagerPluginServer(p), p}, true
	case "UpstreamAuthority":
		p := newUpstreamAuthority()
		return plugin{upstreamauthorityv1.UpstreamAuthorityPluginServer(p), p}, true
	case "Notifier":
		p := new(notifier)
		return plugin{notifierv1.NotifierPluginServer(p), p}, true
	case "BundlePublisher":
		p := new(bundlePublisher)
		return plugin{bundlepublisherv1.BundlePublisherPluginServer(p), p}, true
	case "CredentialComposer":
		p := new(credentialComposer)
		return plugin{credentialcomposerv1.CredentialComposerPluginServer(p), p}, true
	}
	return plugin{}, false
}

func agentPlugin(kind string) (plugin, bool) {
	switch kind {
	case "NodeAttestor":
		p := new(agentNodeAttestor)
		return plugin{agentnodeattestorv1.NodeAttestorPluginServer(p), p}, true
	case "KeyManager":
		p := new(agentKeyManager)
		return plugin{agentkeymanagerv1.KeyManagerPluginServer(p), p}, true
	case "WorkloadAttestor":
		p := new(workloadAttestor)
		return plugin{workloadattestorv1.WorkloadAttestorPluginServer(p), p}, true
	case "SVIDStore":
		p := new(svidStore)
		return plugin{svidstorev1.SVIDStorePluginServer(p), p}, true
	}
	return plugin{}, false
}

func find(program, kind string) (plugin, bool) {
	if program == "agent" {
		return agentPlugin(kind)
	}
	return serverPlugin(kind)
}

// recordStart writes who was started, by whom and with which environment into the file STARTS of the folder
// that the argument starts=FOLDER names.
func recordStart(folder, kind string) {
	names := make([]string, 0, 32)
	for _, v := range os.Environ() {
		names = append(names, strings.SplitN(v, "=", 2)[0])
	}
	sort.Strings(names)
	appendLine(folder+"/starts", map[string]any{"kind": kind, "pid": os.Getpid(), "parent": os.Getppid(), "env": names})
}

func main() {
	args := os.Args[1:]
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: plugins server|agent|fault KIND [starts=FOLDER] [stubborn] [unconfigured]")
		os.Exit(2)
	}
	if args[0] == "fault" {
		misbehave(args[1:])
		return
	}
	p, ok := find(args[0], args[1])
	if !ok {
		fmt.Fprintf(os.Stderr, "no such kind: %v\n", args)
		os.Exit(2)
	}
	stubborn, configured := false, true
	for _, arg := range args[2:] {
		switch {
		case strings.HasPrefix(arg, "starts="):
			recordStart(strings.TrimPrefix(arg, "starts="), args[1])
		case arg == "stubborn":
			stubborn = true
			signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		case arg == "unconfigured":
			configured = false
		}
	}
	if configured {
		pluginmain.Serve(p.server, configv1.ConfigServiceServer(p.config))
	} else {
		pluginmain.Serve(p.server)
	}
	for stubborn {
		time.Sleep(time.Hour)
	}
}
