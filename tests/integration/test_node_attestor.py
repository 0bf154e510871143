"""The program node-attestor against an API server, and the agent that requests its certificate itself."""

import base64
import datetime
import os
import re
import signal
import socket
import stat
import subprocess

import k8scsr
import kubecsr
import nodecerts
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from spire import BIN, run, wait_for

PROGRAM = BIN / "node-attestor"


@pytest.fixture
def make_api(tmp_path):
    made = []

    def make(**kw):
        made.append(kubecsr.CsrApi(tmp_path / f"api{len(made)}", **kw))
        return made[-1]
    yield make
    for api in made:
        api.close()


@pytest.fixture
def api(make_api):
    return make_api()


@pytest.fixture
def programs():
    """Starts node-attestor; ends what is left."""
    made = []

    def start(api, id_dir, *more):
        made.append(subprocess.Popen([str(a) for a in (PROGRAM, *api.flags(), "-id-dir", id_dir, *more)],
                                     stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return made[-1]
    yield start
    for p in made:
        if p.poll() is None:
            p.kill()
        p.communicate()


def attest(api, id_dir, *more, ca="ca.crt", check=True, **kw):
    return run([PROGRAM, *api.flags(ca), "-id-dir", id_dir, *more], check=check, **kw)


def ending(process, code, *texts):
    out, err = process.communicate(timeout=20)
    assert process.returncode == code, err
    assert out == ""
    for t in texts:
        assert t in err, err
    return err


def key_of(id_dir):
    return serialization.load_pem_private_key((id_dir / "id-doc.key").read_bytes(), None)


def cert_of(id_dir):
    return x509.load_pem_x509_certificates((id_dir / "id-doc.crt").read_bytes())[0]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def assert_identity(id_dir, node):
    cert = cert_of(id_dir)
    assert [(a.oid, a.value) for a in cert.subject] == [(NameOID.ORGANIZATION_NAME, "system:nodes"),
                                                        (NameOID.COMMON_NAME, f"system:node:{node}")]
    assert cert.public_key() == key_of(id_dir).public_key()
    assert sorted(f.name for f in id_dir.iterdir()) == ["id-doc.crt", "id-doc.key"]


@pytest.mark.parametrize("version", [kubecsr.V1, kubecsr.V1BETA1])
def test_the_tutorial(make_api, tmp_path, version):
    api = make_api(auto=True, version=version)
    id_dir = tmp_path / "deep" / "id"
    done = attest(api, id_dir, "-agent-name", "n1")
    assert done.stdout == ""
    assert f"Using kubeconfig file {api.dir / 'config'}\n" in done.stderr
    assert f"Wrote identity document to {id_dir / 'id-doc.crt'}\n" in done.stderr
    assert_identity(id_dir, "n1")
    assert (mode(id_dir.parent), mode(id_dir)) == (0o700, 0o700)
    assert (mode(id_dir / "id-doc.key"), mode(id_dir / "id-doc.crt")) == (0o600, 0o644)
    assert (id_dir / "id-doc.key").read_text().startswith("-----BEGIN EC PRIVATE KEY-----\n")
    key = run(["openssl", "ec", "-in", id_dir / "id-doc.key", "-check", "-noout"])
    assert "EC Key valid" in key.stdout + key.stderr
    assert isinstance(key_of(id_dir).curve, ec.SECP256R1)
    # as the tutorial checks it
    assert "system:node:n1" in run(["openssl", "x509", "-in", id_dir / "id-doc.crt", "-text", "-noout"]).stdout
    (name,) = api.names()
    assert re.fullmatch(r"n1-\d{10}", name)
    request = api.request(name)
    assert request.signature_hash_algorithm.name == "sha256" and len(request.extensions) == 0
    spec = api.get(version, kubecsr.CSRS, name)["spec"]
    assert spec["username"] == "spire-agent"
    # again, as many times as desired
    before = cert_of(id_dir)
    attest(api, id_dir, "-agent-name", "n1")
    assert_identity(id_dir, "n1")
    assert cert_of(id_dir) != before and len(api.names()) == 2


def test_the_servers_own_certificate_will_do_as_ca(make_api, tmp_path):
    api = make_api(auto=True)
    attest(api, tmp_path / "id", "-agent-name", "n1", ca="leaf.crt")
    assert_identity(tmp_path / "id", "n1")
    other = make_api(auto=True)
    done = run([PROGRAM, *api.flags()[:2], "-ca-cert", other.dir / "leaf.crt", *api.flags()[4:], "-id-dir", tmp_path / "x"],
               check=False)
    assert done.returncode == 1 and "certificate" in done.stderr
    assert api.seen("POST", "/") and len(api.names()) == 1


def test_defaults_are_those_of_the_original(make_api, tmp_path):
    api = make_api(auto=True)
    flags = api.flags()[2:]
    env = {"KUBECONFIG": str(api.dir / "config")}
    run([PROGRAM, *flags, f"-id-dir={tmp_path / 'id'}"], env=env)
    assert_identity(tmp_path / "id", socket.gethostname())
    home = tmp_path / "home"
    (home / ".kube").mkdir(parents=True)
    (home / ".kube" / "config").write_text((api.dir / "config").read_text())
    done = run([PROGRAM, *flags, "--id-dir", tmp_path / "id"], env={"KUBECONFIG": "", "HOME": str(home)})
    assert f"Using kubeconfig file {home}/.kube/config" in done.stderr
    assert "/tmp/spire-agent-id" in run([PROGRAM, "-help"]).stderr


def test_usage(api, tmp_path):
    assert run([PROGRAM, "-help"]).returncode == 0
    for flags in ([], api.flags()[:6], ["-client-cert", "x", "-client-key", "x"], [*api.flags(), "-nonsense"],
                  [*api.flags(), "-timeout", "soon"], [*api.flags(), "-timeout", "0s"]):
        done = run([PROGRAM, *flags], check=False)
        assert done.returncode == 2 and "Usage of node-attestor" in done.stderr and "-client-key" in done.stderr
    done = run([PROGRAM, "-kubeconfig", tmp_path / "none", *api.flags()[2:], "-id-dir", tmp_path / "id"], check=False)
    assert done.returncode == 1 and "no such file" in done.stderr
    assert mode(tmp_path / "id") == 0o700


def test_it_waits_visibly_and_is_approved_by_hand(api, tmp_path, programs):
    id_dir = tmp_path / "id"
    p = programs(api, id_dir, "-agent-name", "n1")
    name = api.await_request()
    wait_for("the watch", lambda: api.watchers)
    # the key is there before the request was sent, and for its owner alone
    assert key_of(id_dir).public_key() == api.request(name).public_key()
    assert mode(id_dir / "id-doc.key") == 0o600 and not (id_dir / "id-doc.crt").exists()
    api.drop_watches()
    wait_for("another watch", lambda: len(api.seen("GET", "watch=1")) >= 2)
    api.approve(name)
    api.drop_watches()
    api.issue(name)
    err = ending(p, 0, f"Created certificate signing request {name}", f"kubectl certificate approve {name}",
                 f"{name} is approved, waiting for the certificate", "Wrote identity document to")
    assert err.count("kubectl certificate approve") == 1
    assert_identity(id_dir, "n1")


@pytest.mark.parametrize("how", ["deny", "failed", "delete"])
def test_a_refusal_ends_it_with_the_reason(api, tmp_path, programs, how):
    id_dir = tmp_path / "id"
    p = programs(api, id_dir, "-agent-name", "n1")
    name = api.await_request()
    wait_for("the watch", lambda: api.watchers)
    getattr(api, how)(name)
    text = {"deny": f"certificate signing request {name} was denied: KubectlDeny: This CSR was denied by kubectl",
            "failed": f"{name} failed: SignerValidationFailure: subject organization is not system:nodes",
            "delete": f"{name} was deleted"}[how]
    ending(p, 1, text)
    assert not (id_dir / "id-doc.crt").exists()
    # and it is over: the next time begins anew
    api.auto = True
    attest(api, id_dir, "-agent-name", "n1")
    assert_identity(id_dir, "n1")


def test_a_timeout_ends_it_and_the_request_is_resumed(api, tmp_path):
    id_dir = tmp_path / "id"
    done = attest(api, id_dir, "-agent-name", "n1", "-timeout", "1s", check=False)
    (name,) = api.names()
    assert done.returncode == 1 and f"{name} was not answered within 1s" in done.stderr
    api.approve(name)
    api.issue(name)
    done = attest(api, id_dir, "-agent-name", "n1")
    assert f"Resuming certificate signing request {name}" in done.stderr
    assert api.names() == [name]
    assert_identity(id_dir, "n1")


def test_a_killed_one_is_resumed_and_not_for_another_node(api, tmp_path, programs):
    id_dir = tmp_path / "id"
    p = programs(api, id_dir, "-agent-name", "n1")
    name = api.await_request()
    wait_for("the watch", lambda: api.watchers)
    p.send_signal(signal.SIGKILL)
    p.wait()
    api.auto = True
    done = attest(api, id_dir, "-agent-name", "n2")
    assert "Resuming" not in done.stderr
    assert_identity(id_dir, "n2")
    assert len(api.names()) == 2 and name in api.names()


def test_a_request_that_is_gone_is_made_anew(api, tmp_path):
    id_dir = tmp_path / "id"
    attest(api, id_dir, "-agent-name", "n1", "-timeout", "1s", check=False)
    (name,) = api.names()
    api.delete(name)
    api.auto = True
    attest(api, id_dir, "-agent-name", "n1")
    assert_identity(id_dir, "n1")


def test_what_was_there_stays_until_there_is_better(make_api, tmp_path):
    good, silent = make_api(auto=True), make_api()
    id_dir = tmp_path / "id"
    attest(good, id_dir, "-agent-name", "n1")
    before = cert_of(id_dir)
    assert attest(silent, id_dir, "-agent-name", "n1", "-timeout", "1s", check=False).returncode == 1
    assert cert_of(id_dir) == before and before.public_key() == key_of(id_dir).public_key()


def test_a_certificate_for_another_key_is_refused(api, tmp_path):
    api.auto, api.sign_for = True, ec.generate_private_key(ec.SECP256R1()).public_key()
    done = attest(api, tmp_path / "id", "-agent-name", "n1", check=False)
    assert done.returncode == 1 and "the certificate that was issued is for another key" in done.stderr
    assert not (tmp_path / "id" / "id-doc.crt").exists()


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"])
def test_nonsense_for_a_certificate_is_refused(api, tmp_path, programs, pem):
    p = programs(api, tmp_path / "id", "-agent-name", "n1", "-timeout", "3s")
    name = api.await_request()
    api.approve(name)
    api.issue(name, pem)
    # an empty one is none yet
    ending(p, 1, "was not answered within 3s" if pem == b"" else "the certificate that was issued")
    assert not (tmp_path / "id" / "id-doc.crt").exists()


def test_a_name_that_is_taken_is_changed(api, tmp_path):
    api.auto = True
    real, first = api.create, []

    def create(h, user, prefix, resource, namespace, obj):
        if not first:  # somebody else was there a moment ago
            first.append(obj["metadata"]["name"])
            other = ec.generate_private_key(ec.SECP256R1())
            csr = (x509.CertificateSigningRequestBuilder().subject_name(nodecerts.name("system:nodes", "system:node:x"))
                   .sign(other, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
            api.put(prefix, resource, first[0], spec={"request": base64.b64encode(csr).decode()}, status={})
        real(h, user, prefix, resource, namespace, obj)
    api.create = create
    attest(api, tmp_path / "id", "-agent-name", "n1")
    assert_identity(tmp_path / "id", "n1")
    assert f"{first[0]}-1" in api.names()


def test_an_answer_that_is_lost_does_no_harm(api, tmp_path):
    api.auto = True
    lost = []

    real = api.reply

    def reply(h, status, obj, headers=()):
        if status == 201 and not lost:
            lost.append(0)
            h.close_connection = True
            h.connection.close()
            return
        real(h, status, obj, headers)
    api.reply = reply
    attest(api, tmp_path / "id", "-agent-name", "n1")
    assert lost and len(api.names()) == 1
    assert_identity(tmp_path / "id", "n1")


def test_a_server_that_starts_anew_refuses_everybody_at_first(api, tmp_path, programs):
    p = programs(api, tmp_path / "id", "-agent-name", "n1")
    name = api.await_request()
    wait_for("the watch", lambda: api.watchers)
    api.allowed = set()
    api.forget()
    wait_for("some refusals", lambda: len(api.seen("GET", "watch=1")) > 3)
    assert p.poll() is None
    api.allowed = None
    api.approve(name)
    api.issue(name)
    ending(p, 0, "Wrote identity document to")


@pytest.mark.parametrize("allowed, text", [(set(), 'cannot create resource "certificatesigningrequests"'),
                                           ({f"create {kubecsr.CSRS}"}, 'cannot list resource')])
def test_missing_rights_are_told(api, tmp_path, allowed, text):
    api.allowed = allowed
    done = attest(api, tmp_path / "id", "-agent-name", "n1", check=False)
    assert done.returncode == 1 and text in done.stderr


def test_servers_in_trouble_are_tried_again(api, tmp_path):
    api.auto = True
    left = [429, 503, 500]

    def trouble(h, method, path):
        if left and "certificatesigningrequests" in path:
            api.fail(h, left.pop(), "Trouble", "try again")
            return True
        return False
    api.trouble.append(trouble)
    attest(api, tmp_path / "id", "-agent-name", "n1")
    assert not left
    assert_identity(tmp_path / "id", "n1")


def test_a_server_without_the_api_is_told(api, tmp_path):
    api.prefix = "/apis/none"
    done = attest(api, tmp_path / "id", "-agent-name", "n1", check=False)
    assert done.returncode == 1 and "the API server has no certificates.k8s.io/v1 and v1beta1" in done.stderr


@pytest.mark.parametrize("name", ["..", "a/b", "a b", "x" * 254])
def test_names_that_can_be_no_nodes(api, tmp_path, name):
    done = attest(api, tmp_path / "id", "-agent-name", name, check=False)
    assert done.returncode == 1 and "is no node's name" in done.stderr
    assert not api.requests


def test_one_at_a_time(api, tmp_path, programs):
    programs(api, tmp_path / "id", "-agent-name", "n1")
    api.await_request()
    done = attest(api, tmp_path / "id", "-agent-name", "n1", check=False)
    assert done.returncode == 1 and "another process is obtaining a certificate in" in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give folders away")
def test_a_folder_of_somebody_else_is_not_used(api, tmp_path):
    api.auto = True
    (tmp_path / "id").mkdir(mode=0o777)
    os.chown(tmp_path / "id", 4711, 4711)
    done = attest(api, tmp_path / "id", "-agent-name", "n1", check=False)
    assert done.returncode == 1 and "belongs to another user" in done.stderr


# --- the agent ---

def request_options(api):
    return f'''certificate_request {{
        kubeconfig = "{api.dir}/config"
        ca_cert_path = "{api.dir}/ca.crt"
        client_cert_path = "{api.dir}/client.crt"
        client_key_path = "{api.dir}/client.key"
        node_name = "n1"
        timeout = "20s"
    }}'''


def test_what_node_attestor_leaves_attests(make_api, tmp_path, world):
    api = make_api(auto=True)
    server = k8scsr.server(world, demo=([api.dir / "clients.crt"], ""))
    attest(api, tmp_path / "id", "-agent-name", "n1")
    k8scsr.agent(world, server, tmp_path / "id").start()
    assert server.agent_ids() == ["spiffe://example.org/spire/agent/k8s_csr/demo/n1"]


def test_the_agent_requests_its_certificate(make_api, tmp_path, world):
    api = make_api()
    server = k8scsr.server(world, demo=([api.dir / "clients.crt"], ""))
    agent = k8scsr.agent(world, server, tmp_path / "id", more=request_options(api)).spawn()
    name = api.await_request()
    agent.await_log(f"kubectl certificate approve {name}")
    assert server.agents() == []
    api.approve(name)
    api.issue(name)
    agent.await_ready()
    assert server.agent_ids() == ["spiffe://example.org/spire/agent/k8s_csr/demo/n1"]
    assert_identity(tmp_path / "id", "n1")


def test_the_agent_keeps_a_fresh_certificate_and_renews_an_old_one(make_api, tmp_path, world):
    api = make_api(auto=True)
    server = k8scsr.server(world, demo=([api.dir / "clients.crt"], ""))
    id_dir = tmp_path / "id"
    nodecerts.write_identity(id_dir, api.clients.node("n1"))
    fresh = cert_of(id_dir)
    agent = k8scsr.agent(world, server, id_dir, more=request_options(api)).start()
    assert cert_of(id_dir) == fresh and api.names() == []
    agent.stop()
    # five minutes behind it, one before it
    old = api.clients.node("n1", life=datetime.timedelta(minutes=1))
    nodecerts.write_identity(id_dir, old)
    for f in (agent.dir / "data").iterdir():
        f.unlink()
    agent.start()
    assert len(api.names()) == 1
    assert_identity(id_dir, "n1")
    agent.stop()
    # and an old one serves where there is no new one
    nodecerts.write_identity(id_dir, old)
    api.allowed = set()
    for f in (agent.dir / "data").iterdir():
        f.unlink()
    agent.start()
    assert "Unable to obtain a new certificate; the old one is used as long as it is valid" in agent.log()


def test_an_agent_that_waits_for_approval_ends_when_told(make_api, tmp_path, world):
    api = make_api()
    server = k8scsr.server(world, demo=([api.dir / "clients.crt"], ""))
    agent = k8scsr.agent(world, server, tmp_path / "id", more=request_options(api)).spawn()
    name = api.await_request()
    agent.await_log(f"kubectl certificate approve {name}")
    agent.stop(limit=5)
    # and goes on with the same request when it is back
    agent.spawn()
    agent.await_log(f"Resuming certificate signing request {name}")
    api.approve(name)
    api.issue(name)
    agent.await_ready()
    assert api.names() == [name]
