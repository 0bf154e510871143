"""k8s_psat between our programs and SPIRE's, both ways, with one stand-in for the API server: the same agent IDs and the
same selectors, and the same refusals.

Needs CSPIRE_UPSTREAM_BIN: a folder with spire-server and spire-agent of SPIRE 1.15.
"""

import re

import pytest

import kubeapi
from spire import BIN, UPSTREAM


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
