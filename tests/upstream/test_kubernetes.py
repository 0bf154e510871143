"""Kubernetes with our programs and SPIRE's, and one stand-in for the API server: k8s_psat both ways with the same agent IDs,
selectors and refusals; the same objects with the same bundles.

Needs CSPIRE_UPSTREAM_BIN: a folder with spire-server and spire-agent of SPIRE 1.15.
"""

import base64
import json
import re

import pytest

import kubeapi
from spire import BIN, UPSTREAM, wait_for


@pytest.fixture
def api(tmp_path):
    a = kubeapi.KubeApi(tmp_path / "k8s")
    a.node("node-1", zone="a", other="b")
    a.allowed = {"create tokenreviews", "get pods", "get nodes"}
    yield a
    a.close()


def psat(api):
    return f'''
    NodeAttestor "k8s_psat" {{
        plugin_data {{
            clusters = {{
                "nodes" = {{
                    service_account_allow_list = ["spire:spire-agent"]
                    kube_config_file = "{api.kubeconfig(cert=api.ca.issue("spire-server"))}"
                    allowed_node_label_keys = ["zone"]
                    allowed_pod_label_keys = ["app"]
                }}
                "pods" = {{
                    service_account_allow_list = ["spire:spire-agent"]
                    kube_config_file = "{api.kubeconfig("token-config")}"
                    audience = ["spire-server", "another"]
                    use_pod_uid_for_agent_id = true
                }}
            }}
        }}
    }}'''


def token_file(api, tmp_path, **kw):
    pod = api.pod("spire", "spire-agent-v5wgr", "node-1", app="agent", **kw)
    path = tmp_path / "token"
    path.write_text(api.projected_token(pod))
    return path


def selectors(server, agent_id):
    return sorted(f"{s['type']}:{s['value']}" for s in server.json("agent", "show", "-spiffeID", agent_id)["selectors"])


def test_both_servers_attest_both_agents(world, api, tmp_path):
    token = token_file(api, tmp_path)
    seen = {}
    for s, server_bin in (("ours", BIN), ("theirs", UPSTREAM)):
        server = world.server(f"server-{s}", bindir=server_bin, plugins=psat(api)).start()
        for a, agent_bin in (("ours", BIN), ("theirs", UPSTREAM)):
            for cluster in ("nodes", "pods"):
                agent = kubeapi.agent(world, server, "k8s_psat", cluster, token, name=f"{s}-{a}-{cluster}",
                                      bindir=agent_bin).start()
                (agent_id,) = [i for i in server.agent_ids() if f"/k8s_psat/{cluster}/" in i]
                seen.setdefault(cluster, []).append((agent_id, selectors(server, agent_id)))
                agent.stop()
                server.cli("agent", "evict", "-spiffeID", agent_id)
    for cluster, results in seen.items():
        assert len(results) == 4 and all(r == results[0] for r in results), results


@pytest.mark.parametrize("case", ["account", "cluster", "forged", "no node", "pod gone"])
def test_both_servers_refuse_with_the_same_words(world, api, tmp_path, case):
    token = token_file(api, tmp_path, **({"account": "intruder"} if case == "account" else {}))
    if case == "forged":
        token.write_text("a.b.c")
    elif case == "no node":
        del api.objects["/api/v1", "nodes", "", "node-1"]
    elif case == "pod gone":
        del api.objects["/api/v1", "pods", "spire", "spire-agent-v5wgr"]
    said = []
    for s, server_bin in (("ours", BIN), ("theirs", UPSTREAM)):
        server = world.server(f"server-{s}", bindir=server_bin, plugins=psat(api)).start()
        agent = kubeapi.agent(world, server, "k8s_psat", "x" if case == "cluster" else "nodes", token, name=f"agent-{s}",
                              bindir=BIN).spawn()
        agent.await_log("rpc error: code = ")
        said.append(re.search(r'rpc error: code = (.*?)"(?: retry_interval| *$| subsystem)', agent.log(), re.M).group(1))
        agent.kill()
    assert said[0] == said[1]


ADMISSION = "/apis/admissionregistration.k8s.io/v1"
AGGREGATION = "/apis/apiregistration.k8s.io/v1"


@pytest.mark.parametrize("server_bin", [BIN, UPSTREAM], ids=["ours", "theirs"])
def test_bundles_go_to_the_same_places(world, api, server_bin):
    api.allowed = {f"{v} {r}" for v in ("get", "list", "watch", "patch") for r in (
        "configmaps", "mutatingwebhookconfigurations", "validatingwebhookconfigurations", "apiservices")}
    hook = {"name": "a.example.org", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"service": {"name": "s", "namespace": "n"}}}
    api.config_map("spire", "spire-bundle", other="stays")
    api.put(ADMISSION, "mutatingwebhookconfigurations", "m", labels={"l": "true"}, webhooks=[dict(hook)])
    api.put(AGGREGATION, "apiservices", "v1.x", labels={"l": "true"}, spec={"groupPriorityMinimum": 100, "versionPriority": 15})
    config = api.kubeconfig()
    publish = "".join(f'''
        "{f}" = {{
            kubeconfig_path = "{config}"
            namespace = "spire"
            configmap_name = "{f}"
            configmap_key = "k"
            format = "{f}"
            refresh_hint = "10m"
        }}''' for f in ("pem", "spiffe", "jwks"))
    server = world.server(bindir=server_bin, plugins=f'''
    Notifier "k8sbundle" {{
        plugin_data {{
            kube_config_file_path = "{config}"
            webhook_label = "l"
            api_service_label = "l"
        }}
    }}
    BundlePublisher "k8s_configmap" {{
        plugin_data {{
            clusters = {{{publish}
            }}
        }}
    }}''').start()
    pem = server.bundle_pem()
    wait_for("the bundle", lambda: api.data_of("spire", "spire-bundle") == {"bundle.crt": pem, "other": "stays"})

    def hooks(resource, name):
        return [(w["name"], w["sideEffects"], base64.b64decode(w["clientConfig"].get("caBundle", "")).decode(),
                 w["clientConfig"]["service"]) for w in api.get(ADMISSION, resource, name)["webhooks"]]

    whole = [("a.example.org", "None", pem, hook["clientConfig"]["service"])]
    wait_for("the webhook", lambda: hooks("mutatingwebhookconfigurations", "m") == whole)
    wait_for("the API service", lambda: api.get(AGGREGATION, "apiservices", "v1.x")["spec"] == {
        "groupPriorityMinimum": 100, "versionPriority": 15, "caBundle": base64.b64encode(pem.encode()).decode()})
    wait_for("the watches", lambda: len(api.watchers) == 3)
    api.put(ADMISSION, "validatingwebhookconfigurations", "late", labels={"l": "true"}, webhooks=[dict(hook)])
    wait_for("the late webhook", lambda: hooks("validatingwebhookconfigurations", "late") == whole)

    wait_for("what is published", lambda: all(api.data_of("spire", f) for f in ("pem", "spiffe", "jwks")))
    assert api.data_of("spire", "pem") == {"k": pem}
    documents = {f: json.loads(api.data_of("spire", f)["k"]) for f in ("spiffe", "jwks")}
    assert set(documents["spiffe"]) == {"keys", "spiffe_sequence", "spiffe_refresh_hint"}
    assert documents["spiffe"]["spiffe_refresh_hint"] == 600
    assert set(documents["jwks"]) == {"keys"}
    members = {f: [sorted(k) for k in sorted(d["keys"], key=lambda k: "x5c" not in k)] for f, d in documents.items()}
    assert members["spiffe"] == [["crv", "kty", "use", "x", "x5c", "y"], ["crv", "kid", "kty", "use", "x", "y"]]
    assert members["jwks"] == [["crv", "kty", "x", "x5c", "y"], ["crv", "kid", "kty", "x", "y"]]
    assert {p.split("fieldManager=")[1].split("&")[0] for m, p, u in api.seen("PATCH", "fieldManager")} == {
        "spire-bundlepublisher-k8s_configmap"}
