"""k8s_psat and k8s_sat with tokens of a real API server, by our programs and, where CSPIRE_UPSTREAM_BIN names them, by
SPIRE's: the same IDs, selectors and refusals. The rights are those that examples/kubernetes/server.yml gives.
"""

import itertools
import re
import time

import kubeapi
import pytest
from cluster import RBAC, path_of
from spire import BIN, REPO, UPSTREAM

PROGRAMS = [("ours", BIN)] + ([("theirs", UPSTREAM)] if UPSTREAM else [])
EXAMPLES = REPO / "examples" / "kubernetes"


@pytest.fixture(scope="session")
def rights(cluster):
    """What the manifests give the server."""
    for file in ("namespace.yml", "server.yml", "agent-psat.yml"):
        cluster.apply_file(EXAMPLES / file)


@pytest.fixture
def config(cluster, rights):
    """A kubeconfig with a token of the server's service account."""
    return cluster.kubeconfig("spire-server", token=cluster.token("spire-server", audience=()))


def psat(config, more="", names=("prod",)):
    text = "".join(f'''
                "{name}" = {{
                    service_account_allow_list = ["spire:spire-agent"]
                    kube_config_file = "{config}"
                    {more}
                }}''' for name in names)
    return f'NodeAttestor "k8s_psat" {{ plugin_data {{ clusters = {{ {text} }} }} }}'


def agent_of(world, server, token, folder, cluster_name="prod", attestor="k8s_psat", **kw):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "token").write_text(token)
    return kubeapi.agent(world, server, attestor, cluster_name, folder / "token", **kw)


def forged(token):
    head, body, signature = token.split(".")
    return f"{head}.{body}.{'AAAA' if signature[:4] != 'AAAA' else 'BBBB'}{signature[4:]}"


def selectors(server, agent_id):
    return sorted(f"{s['type']}:{s['value']}" for s in server.json("agent", "show", "-spiffeID", agent_id)["selectors"])


def test_agents_are_attested_by_their_pods(world, cluster, config, name, tmp_path):
    node = cluster.node(name, zone="a", other="b")
    pod = cluster.pod(name, name, app="agent", hidden="h")
    by_certificate = cluster.user_config(name, cluster.find(f"{RBAC}/clusterroles/spire-server")["rules"])
    token = cluster.token(pod=pod)
    node_id, pod_id = node["metadata"]["uid"], pod["metadata"]["uid"]
    expected = sorted(f"k8s_psat:{s}" for s in (
        "cluster:prod", "agent_ns:spire", "agent_sa:spire-agent", f"agent_pod_name:{name}", f"agent_pod_uid:{pod_id}",
        "agent_node_ip:172.16.10.1", f"agent_node_name:{name}", f"agent_node_uid:{node_id}", "agent_node_label:zone:a",
        "agent_pod_label:app:agent"))
    labels = 'allowed_node_label_keys = ["zone"]\nallowed_pod_label_keys = ["app", "absent"]\n'
    ways = ((config, labels, node_id), (by_certificate, labels + "use_pod_uid_for_agent_id = true", f"pod/{pod_id}"))
    for (s, server_bin), (i, (file, more, last)) in itertools.product(PROGRAMS, enumerate(ways)):
        server = world.server(f"{s}{i}", bindir=server_bin, plugins=psat(file, more)).start()
        for a, agent_bin in PROGRAMS:
            agent = agent_of(world, server, token, tmp_path, name=f"{s}{i}-{a}", bindir=agent_bin).start()
            agent_id = f"spiffe://example.org/spire/agent/k8s_psat/prod/{last}"
            assert server.agent_ids() == [agent_id]
            assert selectors(server, agent_id) == expected
            agent.stop()
            server.cli("agent", "evict", "-spiffeID", agent_id)
        assert token not in server.log()
        server.stop()


REVIEW = 'unable to validate token with TokenReview API for cluster "prod": '
ERROR = REVIEW + "token review API response contains an error: [invalid bearer token, "
NODES = 'fail to get node from k8s API server for cluster "prod": unable to query nodes API: nodes "NAME" '
REFUSALS = {
    "audience": ERROR + 'token audiences ["other"] is invalid for the target audiences ["spire-server"]]',
    "account": '"spire:intruder" is not an allowed service account for cluster "prod"',
    "forged": ERROR + "go-jose/go-jose: error in cryptographic primitive]",
    "no token": REVIEW + "token review API response contains an error: invalid bearer token",
    "expired": ERROR + "service account token has expired]",
    "legacy": ERROR + 'token audiences ["https://kubernetes.default.svc.cluster.local"] is invalid for the target '
                      'audiences ["spire-server"]]',
    "no pod": 'fail to get pod name from token review status for cluster "prod": missing pod name',
    "pod gone": ERROR + "service account token has been invalidated]",
    "pod replaced": ERROR + "pod UID (UUID) does not match service account pod ref claim (UUID)]",
    "account gone": ERROR + 'serviceaccounts "NAME" not found]',
    "account replaced": ERROR + "service account UID (UUID) does not match claim (UUID)]",
    "node gone": NODES + "not found",
    "no rights": REVIEW + "unable to query token review API: tokenreviews.authentication.k8s.io is forbidden: User \"NAME\" "
                          "cannot create resource \"tokenreviews\" in API group \"authentication.k8s.io\" at the cluster scope",
    "no nodes": NODES + 'is forbidden: User "NAME" cannot get resource "nodes" in API group "" at the cluster scope',
    "bad credentials": REVIEW + "unable to query token review API: Unauthorized",
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_is_refused_and_in_which_words(world, cluster, config, name, tmp_path, what):
    account = {"account": "intruder", "account gone": name, "account replaced": name}.get(what, "spire-agent")
    cluster.node(name)
    pod = cluster.pod(name, name, account)
    token = cluster.token(account, pod, ["other"] if what == "audience" else ["spire-server"])
    if what == "forged":
        token = forged(token)
    elif what == "no token":
        token = "no token"
    elif what == "expired":
        token = cluster.signed_again(token, exp=int(time.time()) - 60)
    elif what == "legacy":
        token = cluster.legacy_token()
    elif what == "no pod":
        token = cluster.token()
    elif what in ("pod gone", "pod replaced"):
        cluster.delete(path_of("Pod", name, "spire"))
        if what == "pod replaced":
            cluster.pod(name, name)
    elif what in ("account gone", "account replaced"):
        cluster.delete(path_of("ServiceAccount", name, "spire"))
        if what == "account replaced":
            cluster.account(name)
    elif what == "node gone":
        cluster.delete(path_of("Node", name))
    elif what == "no rights":
        config = cluster.user_config(name, [])
    elif what == "no nodes":
        config = cluster.user_config(name, [
            {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}])
    elif what == "bad credentials":
        config = cluster.kubeconfig(name, token="nobody's")
    said = []
    for s, server_bin in PROGRAMS:
        server = world.server(s, bindir=server_bin, plugins=psat(config)).start()
        agent = agent_of(world, server, token, tmp_path, name=f"agent-{s}").spawn()
        agent.await_log("rpc error: code = ")
        said.append(re.search(r'rpc error: code = (.*?)"(?: retry_interval| *$| subsystem)', agent.log(), re.M).group(1)
                    .replace('\\"', '"'))
        assert server.agent_ids() == []
        assert token not in server.log() + agent.log()
        agent.kill()
        server.stop()
    code = "PermissionDenied" if what == "account" else "Internal"
    assert re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", said[0]) == (
        f"{code} desc = nodeattestor(k8s_psat): " + REFUSALS[what].replace("NAME", name))
    assert set(said) == {said[0]}


def test_credentials_that_are_renewed_and_a_server_that_restarts(world, cluster, config, name, tmp_path):
    """The kubeconfig is written anew while our server runs, and the API server is killed between two attestations."""
    cluster.node(name)
    token = cluster.token(pod=cluster.pod(name, name))
    mine = tmp_path / "config"
    mine.write_text(cluster.kubeconfig(name, token="expired").read_text())
    server = world.server(plugins=psat(mine)).start()
    agent = agent_of(world, server, token, tmp_path).spawn()
    server.await_log("unable to query token review API: Unauthorized")
    mine.write_text(config.read_text())
    agent.await_ready(60)
    server.cli("agent", "evict", "-spiffeID", server.agent_ids()[0])
    agent.stop()
    for f in (agent.dir / "data").iterdir():
        f.unlink()
    cluster.restart_api()
    agent.start()
    assert len(server.agent_ids()) == 1


# --- k8s_sat ---

def sat(cluster, config, review):
    how = (f'kube_config_file = "{config}"\nuse_token_review_api_validation = true' if review else
           f'service_account_key_file = "{cluster.dir / "sa.pub"}"')
    return f'''NodeAttestor "k8s_sat" {{ plugin_data {{ clusters = {{ "prod" = {{
        service_account_allow_list = ["spire:spire-agent"]
        {how}
    }} }} }} }}'''


@pytest.mark.parametrize("review", [True, False], ids=["asked", "keys"])
def test_sat(world, cluster, config, name, tmp_path, review):
    """A legacy token of a Secret, and a projected one for the API server."""
    cluster.node(name)
    pod = cluster.pod(name, name)
    server = world.server(plugins=sat(cluster, config, review)).start()
    own = "https://kubernetes.default.svc.cluster.local"
    for kind, token in (("legacy", cluster.legacy_token()), ("projected", cluster.token(pod=pod, audience=[own]))):
        agent = agent_of(world, server, token, tmp_path / kind, attestor="k8s_sat", name=kind).start()
        (agent_id,) = server.agent_ids()
        assert agent_id.startswith("spiffe://example.org/spire/agent/k8s_sat/prod/")
        assert selectors(server, agent_id) == ["k8s_sat:agent_ns:spire", "k8s_sat:agent_sa:spire-agent",
                                               "k8s_sat:cluster:prod"]
        agent.stop()
        server.cli("agent", "evict", "-spiffeID", agent_id)


SAT_REFUSALS = {
    ("account", True): '\\"spire:intruder\\" is not an allowed service account',
    ("account", False): '\\"spire:intruder\\" is not an allowed service account',
    ("secret gone", True): "[invalid bearer token, Token has been invalidated]",
    ("forged", True): "[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]",
    ("forged", False): "unable to verify token: go-jose/go-jose: error in cryptographic primitive",
}


@pytest.mark.parametrize("what, review", SAT_REFUSALS)
def test_what_sat_refuses(world, cluster, config, name, tmp_path, what, review):
    token = cluster.legacy_token("intruder" if what == "account" else "spire-agent")
    if what == "forged":
        token = forged(token)
    elif what == "secret gone":
        cluster.delete(path_of("Secret", cluster.claims(token)["kubernetes.io/serviceaccount/secret.name"], "spire"))
    server = world.server(plugins=sat(cluster, config, review)).start()
    agent = agent_of(world, server, token, tmp_path, attestor="k8s_sat").spawn()
    server.await_log(SAT_REFUSALS[what, review])
    assert server.agent_ids() == [] and token not in server.log()
    agent.kill()
