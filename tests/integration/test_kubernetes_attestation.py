"""Agents in Kubernetes, attested by k8s_psat and k8s_sat through our server and agent, with a stand-in for the API
server."""

import re

import pytest

import kubeapi
import spire  # noqa: F401
from spire import run, wait_for

ATTEST = {"create tokenreviews", "get pods", "get nodes"}


@pytest.fixture
def api(tmp_path):
    a = kubeapi.KubeApi(tmp_path / "k8s")
    a.allowed = set(ATTEST)
    yield a
    a.close()


def psat(api, kubeconfig=None, more=""):
    return f'''
    NodeAttestor "k8s_psat" {{
        plugin_data {{
            clusters = {{
                "prod" = {{
                    service_account_allow_list = ["spire:spire-agent"]
                    kube_config_file = "{kubeconfig or api.kubeconfig()}"
                    {more}
                }}
            }}
        }}
    }}'''


def placed(api, tmp_path, account="spire-agent", audience=("spire-server",), name="spire-agent-v5wgr", node="node-1"):
    """A node, the agent's pod on it, and the file with the pod's token."""
    if api.get("/api/v1", "nodes", node) is None:
        api.node(node, zone="a", secret="s")
    pod = api.pod("spire", name, node, account, app="agent", hidden="h")
    token = tmp_path / f"token-{name}"
    token.write_text(api.projected_token(pod, audience))
    return pod, token


def selectors(server, agent_id):
    return sorted(f"{s['type']}:{s['value']}" for s in server.json("agent", "show", "-spiffeID", agent_id)["selectors"])


def test_an_agent_is_attested_by_its_pod(world, api, tmp_path):
    server = world.server(plugins=psat(api, more='''
        allowed_node_label_keys = ["zone"]
        allowed_pod_label_keys = ["app", "absent"]''')).start()
    pod, token = placed(api, tmp_path)
    agent = kubeapi.agent(world, server, "k8s_psat", "prod", token).start()
    node_uid = api.get("/api/v1", "nodes", "node-1")["metadata"]["uid"]
    agent_id = f"spiffe://example.org/spire/agent/k8s_psat/prod/{node_uid}"
    assert server.agent_ids() == [agent_id]
    assert selectors(server, agent_id) == sorted(f"k8s_psat:{s}" for s in (
        "cluster:prod", "agent_ns:spire", "agent_sa:spire-agent", f"agent_pod_name:{pod['metadata']['name']}",
        f"agent_pod_uid:{pod['metadata']['uid']}", "agent_node_ip:172.16.10.1", "agent_node_name:node-1",
        f"agent_node_uid:{node_uid}", "agent_node_label:zone:a", "agent_pod_label:app:agent"))
    server.entry(agent_id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    # asked for by name, and for nothing else
    assert {p for m, p, u in api.requests} == {"/apis/authentication.k8s.io/v1/tokenreviews",
                                               "/api/v1/namespaces/spire/pods/spire-agent-v5wgr", "/api/v1/nodes/node-1"}
    assert {u for m, p, u in api.requests} == {"admin"}
    assert token.read_text() not in agent.log() + server.log()


def test_an_agent_attests_again_with_another_token(world, api, tmp_path):
    server = world.server(plugins=psat(api)).start()
    pod, token = placed(api, tmp_path)
    agent = kubeapi.agent(world, server, "k8s_psat", "prod", token).start()
    agent_id = server.agent_ids()[0]
    assert server.agents()[0].get("can_reattest") is True
    agent.stop()
    for f in (agent.dir / "data").iterdir():
        f.unlink()
    token.write_text(api.projected_token(pod))
    agent.start()
    assert server.agent_ids() == [agent_id]


def test_agents_named_for_their_pods(world, api, tmp_path):
    server = world.server(plugins=psat(api, more="use_pod_uid_for_agent_id = true")).start()
    pods = []
    for name in ("broker-1", "broker-2"):
        pod, token = placed(api, tmp_path, name=name)
        pods.append(pod["metadata"]["uid"])
        kubeapi.agent(world, server, "k8s_psat", "prod", token, name=name).start()
    assert sorted(server.agent_ids()) == sorted(f"spiffe://example.org/spire/agent/k8s_psat/prod/pod/{u}" for u in pods)


def test_credentials_are_read_again(world, api, tmp_path):
    """A client certificate in the kubeconfig; then a token that is no good; then one that is."""
    config = api.kubeconfig(cert=api.ca.issue("spire-server", ["spire"]))
    server = world.server(plugins=psat(api, config)).start()
    pod, token = placed(api, tmp_path)
    kubeapi.agent(world, server, "k8s_psat", "prod", token, name="one").start()
    assert {u for m, p, u in api.requests} == {"spire-server"}
    api.kubeconfig(token="expired")
    two = kubeapi.agent(world, server, "k8s_psat", "prod", token, name="two").spawn()
    server.await_log('unable to validate token with TokenReview API for cluster \\"prod\\": unable to query token review '
                     'API: Unauthorized')
    api.kubeconfig(cert=api.ca.issue("renewed"), inline=True)
    two.await_ready(60)
    assert "renewed" in {u for m, p, u in api.requests}


@pytest.mark.parametrize("what, text", [
    ("audience", 'token review API response contains an error: [invalid bearer token, token audiences [\\"other\\"] is '
                 'invalid for the target audiences [\\"spire-server\\"]]'),
    ("account", '\\"spire:intruder\\" is not an allowed service account for cluster \\"prod\\"'),
    ("cluster", 'not configured for cluster \\"other\\"'),
    ("forged", "token review API response contains an error: [invalid bearer token, go-jose/go-jose: error in cryptographic "
               "primitive]"),
    ("legacy", "token review API response contains an error: [invalid bearer token, token audiences "
               '[\\"https://kubernetes.default.svc.cluster.local\\"] is invalid for the target audiences '),
    ("no pod", 'fail to get pod name from token review status for cluster \\"prod\\": missing pod name'),
    ("pod gone", "token review API response contains an error: [invalid bearer token, service account token has been "
                 "invalidated]"),
    ("pod gone since", 'fail to get pod from k8s API server for cluster \\"prod\\": unable to query pods API: pods '
                 '\\"spire-agent-v5wgr\\" not found'),
    ("pod replaced", 'fail to get pod from k8s API server for cluster \\"prod\\": pod \\"spire-agent-v5wgr\\" is not the '
                     'one of the token'),
    ("node gone", 'fail to get node from k8s API server for cluster \\"prod\\": unable to query nodes API: nodes '
                  '\\"node-1\\" not found'),
    ("forbidden", 'fail to get node from k8s API server for cluster \\"prod\\": unable to query nodes API: nodes '
                  '\\"node-1\\" is forbidden: User \\"admin\\" cannot get resource \\"nodes\\" in API group '),
])
def test_what_is_refused(world, api, tmp_path, what, text):
    server = world.server(plugins=psat(api)).start()
    pod, token = placed(api, tmp_path, account="intruder" if what == "account" else "spire-agent",
                        audience=("other",) if what == "audience" else ("spire-server",))
    if what == "forged":
        head, body, _ = token.read_text().split(".")
        token.write_text(f"{head}.{body}.{kubeapi.b64url(b'0' * 256)}")
    elif what == "legacy":
        token.write_text(api.legacy_token("spire", "spire-agent"))
    elif what == "no pod":
        token.write_text(api.account_token("spire", "spire-agent"))
    elif what == "pod gone":
        del api.objects["/api/v1", "pods", "spire", "spire-agent-v5wgr"]
    elif what in ("pod gone since", "pod replaced"):  # between the review and the look at the pod
        def meanwhile(h, method, path):
            if "/pods/" in path:
                del api.objects["/api/v1", "pods", "spire", "spire-agent-v5wgr"]
                if what == "pod replaced":
                    api.pod("spire", "spire-agent-v5wgr", "node-1")
                api.trouble.clear()
            return False
        api.trouble.append(meanwhile)
    elif what == "node gone":
        del api.objects["/api/v1", "nodes", "", "node-1"]
    elif what == "forbidden":
        api.allowed.discard("get nodes")
    agent = kubeapi.agent(world, server, "k8s_psat", "other" if what == "cluster" else "prod", token).spawn()
    server.await_log(text)
    if what == "account":  # PermissionDenied is for good
        assert wait_for("the agent's end", lambda: agent.proc.poll() is not None)
        assert agent.proc.returncode == 1
    else:
        assert agent.alive()
    assert server.agent_ids() == []
    assert token.read_text() not in agent.log() + server.log()


def test_a_busy_server_is_asked_again(world, api, tmp_path):
    left = [2]

    def busy(h, method, path):
        if left[0] == 0:
            return False
        left[0] -= 1
        api.fail(h, 429, "TooManyRequests", "too many requests", [("Retry-After", "1")])
        return True

    api.trouble.append(busy)
    server = world.server(plugins=psat(api)).start()
    pod, token = placed(api, tmp_path)
    kubeapi.agent(world, server, "k8s_psat", "prod", token).start()
    assert left == [0] and len(server.agent_ids()) == 1


@pytest.mark.parametrize("what, text", [
    ("nonsense", "unable to query token review API: the API server's answer is not a JSON object"),
    ("endless", "unable to query token review API: POST \\\"https://127.0.0.1:"),
    ("other types", 'fail to parse username from token review status for cluster \\"prod\\": empty username'),
    ("five names", 'unexpected username format: system:serviceaccount:spire:spire-agent:x'),
    ("two pods", 'fail to get pod name from token review status for cluster \\"prod\\": expected 1 name but got: 2'),
    ("a pod of elsewhere", 'fail to get pod from k8s API server for cluster \\"prod\\": \\"..\\" is not the name of an object'),
])
def test_an_api_server_that_answers_nonsense(world, api, tmp_path, what, text):
    def answer(h, method, path):
        if method != "POST":
            return False
        user = {"username": "system:serviceaccount:spire:spire-agent", "extra": {
            "authentication.kubernetes.io/pod-name": ["p"], "authentication.kubernetes.io/pod-uid": ["u"]}}
        if what == "five names":
            user["username"] += ":x"
        elif what == "two pods":
            user["extra"]["authentication.kubernetes.io/pod-name"] = ["p", "q"]
        elif what == "a pod of elsewhere":
            user["extra"]["authentication.kubernetes.io/pod-name"] = [".."]
        review = {"status": {"authenticated": True, "audiences": ["spire-server"], "user": user}}
        if what == "nonsense":
            review = ["no", "object"]
        elif what == "endless":
            review = {"status": {"error": "x" * (4 << 20)}}
        elif what == "other types":
            review["status"]["user"] = {"username": 1, "extra": []}
        try:
            api.reply(h, 201, review)
        except OSError:  # it had enough
            pass
        return True

    api.trouble.append(answer)
    server = world.server(plugins=psat(api)).start()
    pod, token = placed(api, tmp_path)
    agent = kubeapi.agent(world, server, "k8s_psat", "prod", token).spawn()
    server.await_log(text)
    if what == "endless":
        server.await_log("the response has more than 1048576 bytes")
    assert server.agent_ids() == []
    agent.kill()


def test_an_empty_or_absent_token(world, api, tmp_path):
    server = world.server(plugins=psat(api)).start()
    token = tmp_path / "token"
    agent = kubeapi.agent(world, server, "k8s_psat", "prod", token).spawn()
    agent.await_log(f"nodeattestor(k8s_psat): unable to load token from {token}: open {token}: no such file or directory")
    agent.stop()
    token.write_text("")
    agent.spawn()
    agent.await_log(f'unable to load token from {token}: \\"{token}\\" is empty')


# --- k8s_sat ---

def sat(api, tmp_path, review):
    how = f'kube_config_file = "{api.kubeconfig()}"\nuse_token_review_api_validation = true'
    if not review:
        (tmp_path / "sa.pub").write_bytes(b"# the cluster's keys\n" + api.sa_public_pem())
        how = f'service_account_key_file = "{tmp_path / "sa.pub"}"'
    return f'''
    NodeAttestor "k8s_sat" {{
        plugin_data {{
            clusters = {{
                "demo" = {{
                    service_account_allow_list = ["spire:spire-agent"]
                    {how}
                }}
            }}
        }}
    }}'''


@pytest.mark.parametrize("review", [True, False])
@pytest.mark.parametrize("kind", ["legacy", "projected"])
def test_sat(world, api, tmp_path, review, kind):
    server = world.server(plugins=sat(api, tmp_path, review)).start()
    token = tmp_path / "token"
    if kind == "legacy":
        token.write_text(api.legacy_token("spire", "spire-agent"))
    else:
        pod, token = placed(api, tmp_path, audience=("https://kubernetes.default.svc.cluster.local",))
    agent = kubeapi.agent(world, server, "k8s_sat", "demo", token).start()
    (agent_id,) = server.agent_ids()
    assert re.fullmatch(r"spiffe://example.org/spire/agent/k8s_sat/demo/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab]"
                        r"[0-9a-f]{3}-[0-9a-f]{12}", agent_id)
    assert selectors(server, agent_id) == ["k8s_sat:agent_ns:spire", "k8s_sat:agent_sa:spire-agent",
                                           "k8s_sat:cluster:demo"]
    assert not server.agents()[0].get("can_reattest")
    for log in (server.log(), agent.log()):
        assert 'The \\"k8s_sat\\" node attestor plugin has been deprecated' in log
        assert token.read_text() not in log
    assert ("The service account token has an expiration time" in server.log()) == (kind == "projected" and not review)
    assert bool(api.requests) == review


@pytest.mark.parametrize("what, text", [
    ("account", '\\"spire:intruder\\" is not an allowed service account'),
    ("other key", "unable to verify token: go-jose/go-jose: error in cryptographic primitive"),
    ("no token", "unable to parse token: "),
    ("none", "unable to parse token: "),
    ("late", "unable to validate token claims: go-jose/go-jose/jwt: validation failed, token is expired (exp)"),
    ("no account", "error parsing token claims: token missing service account name claim"),
    ("two names", "error parsing token claims: malformed token: namespace found in two claims"),
])
def test_what_sat_refuses(world, api, tmp_path, what, text):
    server = world.server(plugins=sat(api, tmp_path, False)).start()
    value = api.legacy_token("spire", "intruder" if what == "account" else "spire-agent")
    claims = dict(api.tokens[value]["claims"])
    if what == "other key":
        other = kubeapi.rsa.generate_private_key(public_exponent=65537, key_size=2048)
        api.sa_key = other
        value = api._jwt(claims)
    elif what == "no token":
        value = "no token"
    elif what == "none":
        head = kubeapi.b64url(b'{"alg":"none"}')
        value = f"{head}.{value.split('.')[1]}."
    elif what == "late":
        value = api._jwt({**claims, "exp": 1700000000})
    elif what == "no account":
        del claims["kubernetes.io/serviceaccount/service-account.name"]
        value = api._jwt(claims)
    elif what == "two names":
        value = api._jwt({**claims, "kubernetes.io": {"namespace": "spire"}})
    token = tmp_path / "token"
    token.write_text(value)
    agent = kubeapi.agent(world, server, "k8s_sat", "demo", token).spawn()
    server.await_log(text)
    assert server.agent_ids() == []
    agent.kill()


def test_sat_needs_its_keys(world, api, tmp_path):
    plugins = sat(api, tmp_path, False)
    (tmp_path / "sa.pub").write_text("nothing")
    server = world.server(plugins=plugins).spawn()
    wait_for("the end", lambda: not server.alive())
    assert f'cluster \\"demo\\" has no service account keys in \\"{tmp_path}/sa.pub\\"' in server.log()


# --- modules ---

def validate(server):
    return run([server.bin / "spire-server", "validate", "-config", server.conf_path], check=False)


def test_validate_asks_the_module(world, api):
    good = world.server("good", plugins=psat(api))
    assert validate(good).stdout.strip().endswith("SPIRE server configuration file is valid.")
    bad = world.server("bad", plugins=psat(api).replace('"spire:spire-agent"', ""))
    done = validate(bad)
    assert done.returncode == 1
    assert 'cluster "prod" configuration must have at least one service account allowed' in done.stdout + done.stderr


def test_the_module_is_opened_only_when_it_is_named(world, api):
    def mapped(server):
        return set(re.findall(r"(kubernetes\.so|libcurl)", open(f"/proc/{server.proc.pid}/maps").read()))

    assert mapped(world.server("plain").start()) == set()
    assert mapped(world.server("named", plugins=psat(api)).start()) == {"kubernetes.so", "libcurl"}
