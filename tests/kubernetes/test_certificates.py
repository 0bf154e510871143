"""node-attestor and k8s_csr against a real API server, approver and signer, with the rights that examples/kubernetes gives:
the user `spire-agent` with a client certificate, and the service account of agent-csr.yml.
"""

import os
import secrets
import signal
import stat
import subprocess

import k8scsr
import nodecerts
import pytest
from cluster import CSRS, RBAC, Refused, path_of
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from spire import BIN, REPO, run, wait_for

PROGRAM = BIN / "node-attestor"
EXAMPLES = REPO / "examples" / "kubernetes"
AUTO = f"{RBAC}/clusterrolebindings/node-client-auto-approve-csr"


class User:
    """User spire-agent of docs/kubernetes.md, with the kubeconfig of somebody else."""

    def __init__(self, cluster, folder):
        self.cluster = cluster
        self.cert, self.key = folder / "spire-agent.crt", folder / "spire-agent.key"
        cert, key = cluster.ca.pair(nodecerts.name("spire", "spire-agent"))
        self.cert.write_bytes(cert)
        self.key.write_bytes(key)
        self.flags = ["-kubeconfig", cluster.kubeconfig("nobody", token="nobody's"), "-ca-cert", cluster.dir / "ca.crt",
                      "-client-cert", self.cert, "-client-key", self.key]

    def attest(self, node, id_dir, *more, check=True):
        return run([PROGRAM, *self.flags, "-agent-name", node, "-id-dir", id_dir, *more], check=check)

    def start(self, node, id_dir, *more):
        return subprocess.Popen([str(a) for a in (PROGRAM, *self.flags, "-agent-name", node, "-id-dir", id_dir, *more)],
                                stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def user(cluster, tmp_path):
    for file in ("namespace.yml", "csr-create-role.yml", "csr-create-rolebinding.yml"):
        cluster.apply_file(EXAMPLES / file)
    return User(cluster, tmp_path)


@pytest.fixture
def auto(cluster):
    """Requests of the user are approved."""
    cluster.apply_file(EXAMPLES / "csr-autoapprove-rolebinding.yml")
    yield
    cluster.delete(AUTO)


@pytest.fixture
def processes():
    made = []
    yield made
    for p in made:
        if p.poll() is None:
            p.kill()
        p.communicate()


def ending(process, code, *texts):
    out, err = process.communicate(timeout=30)
    assert process.returncode == code and out == "", err
    for t in texts:
        assert t in err, err
    return err


def cert_of(id_dir):
    return x509.load_pem_x509_certificates((id_dir / "id-doc.crt").read_bytes())[0]


def assert_identity(cluster, id_dir, node):
    cert = cert_of(id_dir)
    cert.verify_directly_issued_by(cluster.ca.cert)
    assert [(a.oid, a.value) for a in cert.subject] == [(NameOID.ORGANIZATION_NAME, "system:nodes"),
                                                        (NameOID.COMMON_NAME, f"system:node:{node}")]
    key = serialization.load_pem_private_key((id_dir / "id-doc.key").read_bytes(), None)
    assert cert.public_key() == key.public_key()
    assert sorted(f.name for f in id_dir.iterdir()) == ["id-doc.crt", "id-doc.key"]
    assert stat.S_IMODE((id_dir / "id-doc.key").stat().st_mode) == 0o600


def test_the_tutorial(cluster, user, auto, name, tmp_path):
    """Approved and signed without anybody's doing; and who has the certificate is that kubelet, to Kubernetes too."""
    id_dir = tmp_path / "id"
    done = user.attest(name, id_dir)
    assert "Wrote identity document to" in done.stderr
    assert_identity(cluster, id_dir, name)
    (request,) = cluster.requests_of(name)
    assert request["spec"]["username"] == "spire-agent" and request["spec"]["groups"] == ["spire", "system:authenticated"]
    (condition,) = request["status"]["conditions"]
    assert (condition["type"], condition["reason"]) == ("Approved", "AutoApproved")
    # asked for what the role gives and nothing else
    assert {verb for verb, path, status in cluster.asked("spire-agent") if name in path or verb == "create"} <= {
        "create", "list", "watch", "get"}
    pair = tmp_path / "pair.pem"
    pair.write_bytes((id_dir / "id-doc.crt").read_bytes() + (id_dir / "id-doc.key").read_bytes())
    kubelet = cluster.as_user(pair)
    kubelet.create("Node", name)
    cluster.node(f"{name}-other")
    with pytest.raises(Refused, match="is not allowed to modify node"):
        kubelet.patch(path_of("Node", f"{name}-other", sub="status"), status={})


def test_approved_by_hand(cluster, user, name, tmp_path, processes):
    id_dir = tmp_path / "id"
    processes.append(user.start(name, id_dir))
    request = cluster.await_request(name)
    cluster.decide(request, "Approved", "KubectlApprove", "This CSR was approved by kubectl certificate approve.")
    ending(processes[0], 0, f"Created certificate signing request {request}", f"kubectl certificate approve {request}",
           "Wrote identity document to")
    assert_identity(cluster, id_dir, name)


@pytest.mark.parametrize("how", ["denied", "failed", "deleted"])
def test_a_refusal_ends_it_with_the_reason(cluster, user, name, tmp_path, processes, how):
    id_dir = tmp_path / "id"
    processes.append(user.start(name, id_dir))
    request = cluster.await_request(name)
    if how == "denied":
        cluster.decide(request, "Denied", "KubectlDeny", "This CSR was denied by kubectl certificate deny.")
        text = f"{request} was denied: KubectlDeny: This CSR was denied by kubectl certificate deny."
    elif how == "failed":
        cluster.decide(request, "Failed", "SignerValidationFailure", "not today")
        text = f"{request} failed: SignerValidationFailure: not today"
    else:
        cluster.delete(f"{CSRS}/{request}")
        text = f"{request} was deleted"
    ending(processes[0], 1, text)
    assert not (id_dir / "id-doc.crt").exists() and not (id_dir / "id-doc.pending").exists()


def test_a_host_name_in_capitals(cluster, user, auto, tmp_path):
    """Kubelets name their nodes in lower case."""
    host = f"Host-{os.getpid()}"
    done = run(["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host, PROGRAM, *user.flags, "-id-dir",
                tmp_path / "id"])
    assert "Wrote identity document to" in done.stderr
    assert_identity(cluster, tmp_path / "id", host.lower())


def test_a_timeout_and_the_same_request_afterwards(cluster, user, name, tmp_path):
    id_dir = tmp_path / "id"
    done = user.attest(name, id_dir, "-timeout", "1s", check=False)
    (request,) = (r["metadata"]["name"] for r in cluster.requests_of(name))
    assert done.returncode == 1 and f"{request} was not answered within 1s" in done.stderr
    cluster.decide(request, "Approved", "ByHand")
    done = user.attest(name, id_dir)
    assert f"Resuming certificate signing request {request}" in done.stderr
    assert len(cluster.requests_of(name)) == 1
    assert_identity(cluster, id_dir, name)


def test_killed_and_the_api_server_too(cluster, user, name, tmp_path, processes):
    id_dir = tmp_path / "id"
    processes.append(user.start(name, id_dir))
    request = cluster.await_request(name)
    processes[0].send_signal(signal.SIGKILL)
    processes[0].wait()
    before = cluster.watches("spire-agent", request)
    processes.append(user.start(name, id_dir))
    wait_for("its watch", lambda: cluster.watches("spire-agent", request) > before)
    cluster.restart_api()
    cluster.decide(request, "Approved", "ByHand")
    said = ending(processes[1], 0, "Wrote identity document to")
    assert f"Resuming certificate signing request {request}" in said
    assert len(cluster.requests_of(name)) == 1
    assert_identity(cluster, id_dir, name)


def test_the_api_servers_own_certificate_as_ca(cluster, user, auto, name, tmp_path):
    flags = user.flags
    flags[flags.index("-ca-cert") + 1] = cluster.dir / "apiserver.crt"
    user.attest(name, tmp_path / "id")
    assert_identity(cluster, tmp_path / "id", name)


def test_without_rights(cluster, name, tmp_path):
    cert, key = cluster.ca.pair(nodecerts.name("spire", name))
    user = User(cluster, tmp_path)
    user.cert.write_bytes(cert)
    user.key.write_bytes(key)
    done = user.attest(name, tmp_path / "id", check=False)
    assert done.returncode == 1
    assert ("unable to create a certificate signing request: certificatesigningrequests.certificates.k8s.io is forbidden: "
            f'User "{name}" cannot create resource "certificatesigningrequests" in API group "certificates.k8s.io" at the '
            "cluster scope") in done.stderr


# --- k8s_csr ---

def node_agent(world, cluster, server, config, node, **kw):
    return k8scsr.agent(world, server, world.dir / "id", more=f'''certificate_request {{
                kubeconfig = "{config}"
                node_name = "{node}"
            }}''', **kw)


def test_the_agent_gets_its_certificate_and_attests(world, cluster, name, tmp_path):
    """By the service account of agent-csr.yml, whose requests are approved; the server has the cluster's CA as every
    cluster publishes it."""
    for file in ("namespace.yml", "agent-csr.yml"):
        cluster.apply_file(EXAMPLES / file)
    published = cluster.get("ConfigMap", "extension-apiserver-authentication", "kube-system")["data"]["client-ca-file"]
    (tmp_path / "ca.crt").write_text(published)
    cluster.node(name)
    config = cluster.kubeconfig(name, token=cluster.token("spire-agent-csr", audience=()))
    server = k8scsr.server(world, demo=([tmp_path / "ca.crt"], ""))
    agent = node_agent(world, cluster, server, config, name).start()
    agent_id = f"spiffe://example.org/spire/agent/k8s_csr/demo/{name}"
    assert server.agent_ids() == [agent_id]
    assert_identity(cluster, world.dir / "id", name)
    (request,) = cluster.requests_of(name)
    assert request["spec"]["username"] == "system:serviceaccount:spire:spire-agent-csr"
    server.entry(agent_id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    # with the node gone the certificate is as good as before: nobody revokes it, so an agent is banned
    cluster.delete(path_of("Node", name))
    agent.stop()
    server.cli("agent", "evict", "-spiffeID", agent_id)
    for f in (agent.dir / "data").iterdir():
        f.unlink()
    agent.start()
    assert server.agent_ids() == [agent_id]
    agent.stop()
    server.cli("agent", "ban", "-spiffeID", agent_id)
    for f in (agent.dir / "data").iterdir():
        f.unlink()
    agent.spawn()
    agent.await_log("banned")
    assert len(cluster.requests_of(name)) == 1


def test_a_bootstrap_token_will_do(world, cluster, user, name):
    """As nodes have one that join by themselves, with the role of csr-create-role.yml and the cluster's for approval."""
    token_id, secret = secrets.token_hex(3), secrets.token_hex(8)
    cluster.create("Secret", f"bootstrap-token-{token_id}", "kube-system", type="bootstrap.kubernetes.io/token", stringData={
        "token-id": token_id, "token-secret": secret, "usage-bootstrap-authentication": "true"})
    who = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"system:bootstrap:{token_id}"}
    for role in ("csr-create-get", "system:certificates.k8s.io:certificatesigningrequests:nodeclient"):
        cluster.bind(f"{name}-{role[-10:]}", role, who)
    config = cluster.kubeconfig(name, token=f"{token_id}.{secret}")
    server = k8scsr.server(world, demo=([cluster.dir / "ca.crt"], ""))
    node_agent(world, cluster, server, config, name).start()
    assert server.agent_ids() == [f"spiffe://example.org/spire/agent/k8s_csr/demo/{name}"]
    (request,) = cluster.requests_of(name)
    assert request["spec"]["username"] == f"system:bootstrap:{token_id}"


def test_what_else_the_cluster_signs_does_not_attest(world, cluster, name):
    """A client certificate that the signer for users made, and a serving certificate of the kubelet."""
    made = {}
    for signer, subject, usages, sans, asked_by in (
            ("kubernetes.io/kube-apiserver-client", nodecerts.name("spire", f"user:{name}"),
             ["digital signature", "client auth"], [], None),
            ("kubernetes.io/kubelet-serving", nodecerts.name("system:nodes", f"system:node:{name}"),
             ["digital signature", "server auth"], [x509.DNSName(name)], f"system:node:{name}")):
        made[signer] = cluster.sign(f"{name}-{len(made)}", signer, subject, usages, sans, asked_by)
    server = k8scsr.server(world, demo=([cluster.dir / "ca.crt"], ""))
    texts = ("the subject is not O=system:nodes", "certificate specifies an incompatible key usage")
    for n, (pair, text) in enumerate(zip(made.values(), texts)):
        folder = world.dir / f"id{n}"
        nodecerts.write_identity(folder, pair)
        agent = k8scsr.agent(world, server, folder, name=f"agent{n}").spawn()
        server.await_log(text)
        agent.kill()
    assert server.agents() == []
