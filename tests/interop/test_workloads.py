"""WorkloadAttestors that ask others about a process. What is expected here holds for SPIRE's agent as well: the tests with
`both` are run against it, too, when CSPIRE_UPSTREAM_BIN says where it is and the test may make cgroups."""

import ipaddress
import pathlib
import subprocess

import pytest
from cryptography import x509

import nodecerts
import pki
import spire
from plugins import server as plugin_server
from workloads import Places, StandIn, attest, pod, pod_list, workload_agent

UID = "a2830d0d-b0f0-4ff0-81b5-0ee4e299cf80"
ID = "09bc3d7ade839efec32b6bec4ec79d099027a668ddba043083ec21d3c3b8f1e6"
CGROUP = f"/kubepods/burstable/pod{UID}/{ID}"

POD = ["ns:prod", "node-name:node-7", "pod-image-count:2", "pod-image:registry.test/side:3", "pod-image:registry.test/web:1.2",
       "pod-image:registry.test/web@sha256:" + "ab" * 32, "pod-init-image-count:1", "pod-init-image:registry.test/init:1",
       "pod-init-image:registry.test/init@sha256:" + "cd" * 32, "pod-label:app:web", "pod-label:tier:front/end",
       "pod-name:web-1", "pod-owner-uid:ReplicaSet:rs-1", "pod-owner:ReplicaSet:web", f"pod-uid:{UID}", "sa:web-sa"]
CONTAINER = ["container-image:registry.test/web:1.2", "container-image:registry.test/web@sha256:" + "ab" * 32,
             "container-name:main"]


def may_make_cgroups():
    try:
        probe = pathlib.Path("/sys/fs/cgroup/pids/cs-probe")
        probe.mkdir()
        probe.rmdir()
        return True
    except OSError:
        return False


BOTH = ["ours"] + (["upstream"] if spire.UPSTREAM and may_make_cgroups() else [])


@pytest.fixture(params=BOTH)
def both(request):
    return spire.UPSTREAM if request.param == "upstream" else None


@pytest.fixture
def places(request, tmp_path, monkeypatch):
    made = Places(tmp_path / "proc", real="upstream" in request.node.name)
    if not made.real:
        monkeypatch.setenv("HOST_PROC", str(made.proc))
    yield made
    made.close()


@pytest.fixture
def stand_in():
    made = []

    def make(*args, **kw):
        made.append(StandIn(*args, **kw))
        return made[-1]
    yield make
    for each in made:
        each.close()


def k8s(*options):
    return 'WorkloadAttestor "k8s" {{ plugin_data {{\n{}\n}} }}'.format("\n".join(options))


def lister(*pods):
    text = pod_list(*pods)
    return lambda method, path, headers: (200, text) if path == "/pods" else (404, path)


def start(world, bindir, workload):
    return workload_agent(world, plugin_server(world).start(), workload, bindir=bindir)


def test_k8s_selectors(world, both, places, stand_in):
    kubelet = stand_in(lister(pod("other", "7" * 64), pod(UID, ID)))
    agent = start(world, both, k8s(f"kubelet_read_only_port = {kubelet.port}"))
    assert attest(agent, places.at(CGROUP)) == sorted(POD + CONTAINER)
    assert attest(agent, places.at("/user.slice")) == []


def test_k8s_legacy_locator(world, both, places, stand_in):
    kubelet = stand_in(lister(pod(UID, ID)))
    agent = start(world, both, k8s(f"kubelet_read_only_port = {kubelet.port}", "use_new_container_locator = false"))
    name = UID.replace("-", "_")
    assert attest(agent, places.at(f"/kubepods.slice/kubepods-pod{name}.slice/cri-containerd-{ID}.scope")) == \
        sorted(POD + CONTAINER)
    assert attest(agent, places.at(f"/docker/{ID}")) == []


def test_k8s_pod_without_container(world, both, places, stand_in):
    kubelet = stand_in(lister(pod(UID, None)))
    agent = start(world, both, k8s(f"kubelet_read_only_port = {kubelet.port}", "disable_container_selectors = true"))
    assert attest(agent, places.at(CGROUP)) == sorted(POD)


def test_k8s_gives_up(world, both, places, stand_in):
    kubelet = stand_in(lister(pod(UID, None)))
    agent = start(world, both, k8s(f"kubelet_read_only_port = {kubelet.port}", "max_poll_attempts = 3",
                                   'poll_retry_interval = "20ms"'))
    assert "desc = workloadattestor(k8s): no selectors found after max poll attempts" in attest(agent, places.at(CGROUP))
    assert len(kubelet.requests) == 3


def test_k8s_a_pod_too_large_is_so_alone(world, places, stand_in):
    """Also for a container whose cgroup does not say which pod is its own."""
    large = pod("0" + UID[1:], "8" * 64, labels={"k": "v" * 70000})
    kubelet = stand_in(lister(large, pod(UID, ID)))
    agent = start(world, None, k8s(f"kubelet_read_only_port = {kubelet.port}", "max_poll_attempts = 2",
                                   'poll_retry_interval = "20ms"'))
    assert attest(agent, places.at(f"/system.slice/crio-{ID}.scope")) == sorted(POD + CONTAINER)
    fault = "unable to decode pod info from kubelet response: "
    assert fault in attest(agent, places.at("/system.slice/crio-" + "8" * 64 + ".scope"))
    assert fault in attest(agent, places.at(f"/kubepods/burstable/pod0{UID[1:]}/" + "8" * 64))


@pytest.mark.parametrize("answer, fault", [
    ((403, "Forbidden (user=x)"), "unexpected status code on pods response: 403 Forbidden (user=x)"),
    ((200, "{\"items\":7}"), "invalid kubelet response: expected an items array"),
    ((200, "<html>"), "unable to parse kubelet response: "),
])
def test_k8s_kubelet_says_no(world, both, places, stand_in, answer, fault):
    kubelet = stand_in(lambda *request: answer)
    agent = start(world, both, k8s(f"kubelet_read_only_port = {kubelet.port}", "max_poll_attempts = 1"))
    said = attest(agent, places.at(CGROUP)).replace("\\", "")
    assert f"code = Unavailable desc = workloadattestor(k8s): {fault}" in said


def test_k8s_secure_port(world, both, places, stand_in, tmp_path):
    cert, key, roots = server_files(tmp_path)
    token = tmp_path / "token"
    token.write_text("a.b.c\n")
    kubelet = stand_in(lister(pod(UID, ID)), tls=(cert, key))
    agent = start(world, both, k8s(f"kubelet_secure_port = {kubelet.port}", f'kubelet_ca_path = "{roots}"',
                                   f'token_path = "{token}"'))
    assert attest(agent, places.at(CGROUP)) == sorted(POD + CONTAINER)
    assert {r[1].get("Authorization") for r in kubelet.requests} == {"Bearer a.b.c"}


class Files:
    """What secure connections to a kubelet are made with, replaced as Kubernetes does it: whole, by renaming."""

    def __init__(self, folder):
        self.folder = folder
        self.authorities = {}

    def put(self, name, data):
        pki.write_whole(self.folder / name, data)
        return self.folder / name

    def authority(self, name):
        return self.authorities.setdefault(name, nodecerts.Authority(name))

    def kubelet(self, authority, name, *sans):
        """Certificate and key; for 127.0.0.1 if no name is given."""
        usages = (nodecerts.ExtendedKeyUsageOID.SERVER_AUTH,)
        cert, key = self.authority(authority).pair(nodecerts.name(common_name=name), usages=usages, sans=sans or (IP,))
        return self.put(f"{name}.crt", cert), self.put(f"{name}.key", key)

    def client(self, authority, name):
        cert, key = self.authority(authority).pair(nodecerts.name(common_name=name))
        return cert, key


IP = x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))
EAGER = ('poll_retry_interval = "1ms"', 'reload_interval = "1ms"', "max_poll_attempts = 1")  # each attestation reads all again


def test_k8s_node_name(world, both, places, stand_in, tmp_path, monkeypatch):
    """A name is what the kubelet is reached at, and must be in its certificate; that of the option wins."""
    files = Files(tmp_path)
    ca = files.put("ca.crt", files.authority("one").pem)
    files.put("token", b"a.b.c")
    good = stand_in(lister(pod(UID, ID)), tls=files.kubelet("one", "good", x509.DNSName("localhost")))
    other = stand_in(lister(pod(UID, ID)), tls=files.kubelet("one", "localhost", x509.DNSName("node-8.test"), IP))
    server = plugin_server(world).start()
    common = [f'kubelet_ca_path = "{ca}"', f'token_path = "{tmp_path}/token"', *EAGER]

    def agent(name, kubelet, *options):
        return workload_agent(world, server, k8s(f"kubelet_secure_port = {kubelet.port}", *options, *common), name=name,
                              bindir=both)
    assert attest(agent("a", good, 'node_name = "localhost"'), places.at(CGROUP)) == sorted(POD + CONTAINER)
    monkeypatch.setenv("THE_NODE", "localhost")
    monkeypatch.setenv("MY_NODE_NAME", "127.0.0.1")
    assert attest(agent("b", good, 'node_name_env = "THE_NODE"'), places.at(CGROUP)) == sorted(POD + CONTAINER)
    assert {r[1]["Host"] for r in good.requests} == {f"localhost:{good.port}"}
    assert "workloadattestor(k8s): unable to perform request: " in attest(agent("c", good), places.at(CGROUP))
    assert attest(agent("d", other), places.at(CGROUP)) == sorted(POD + CONTAINER)
    seen = len(other.requests)
    said = attest(agent("e", other, 'node_name = "localhost"', 'node_name_env = "MY_NODE_NAME"'), places.at(CGROUP))
    assert "code = Unavailable desc = workloadattestor(k8s): unable to perform request: " in said
    assert len(other.requests) == seen  # and it was not shown the token


def test_k8s_kubelet_ca_is_read_again(world, both, places, stand_in, tmp_path):
    files = Files(tmp_path)
    ca = files.put("ca.crt", files.authority("one").pem)
    files.put("token", b"a.b.c")
    kubelet = stand_in(lister(pod(UID, ID)), tls=files.kubelet("one", "first"))
    agent = start(world, both, k8s(f"kubelet_secure_port = {kubelet.port}", f'kubelet_ca_path = "{ca}"',
                                   f'token_path = "{tmp_path}/token"', *EAGER))
    assert attest(agent, places.at(CGROUP)) == sorted(POD + CONTAINER)
    files.put("ca.crt", files.authority("two").pem)  # what it trusted is trusted no more, on open connections neither
    seen = len(kubelet.requests)
    assert "workloadattestor(k8s): unable to perform request: " in attest(agent, places.at(CGROUP))
    assert len(kubelet.requests) == seen
    kubelet.show(*files.kubelet("two", "second"))
    assert attest(agent, places.at(CGROUP)) == sorted(POD + CONTAINER)
    files.put("ca.crt", b"not a certificate\n")
    assert "workloadattestor(k8s): unable to parse kubelet CA: " in attest(agent, places.at(CGROUP))
    ca.unlink()
    assert "workloadattestor(k8s): unable to load kubelet CA: open " in attest(agent, places.at(CGROUP))
    files.put("ca.crt", files.authority("two").pem)
    assert attest(agent, places.at(CGROUP)) == sorted(POD + CONTAINER)


def test_k8s_client_certificate_is_read_again(world, both, places, stand_in, tmp_path):
    files = Files(tmp_path)
    ca = files.put("ca.crt", files.authority("one").pem)
    kubelet = stand_in(lister(pod(UID, ID)), tls=files.kubelet("one", "kubelet"), client_ca=ca)

    def show(authority, name, parts=("client.crt", "client.key")):
        for part, data in zip(("client.crt", "client.key"), files.client(authority, name)):
            if part in parts:
                files.put(part, data)
    show("one", "anna")
    agent = start(world, both, k8s(f"kubelet_secure_port = {kubelet.port}", f'kubelet_ca_path = "{ca}"',
                                   f'certificate_path = "{tmp_path}/client.crt"',
                                   f'private_key_path = "{tmp_path}/client.key"', *EAGER))
    assert attest(agent, places.at(CGROUP)) == sorted(POD + CONTAINER)
    assert kubelet.clients[-1] == "anna"
    show("one", "bert")
    assert attest(agent, places.at(CGROUP)) == sorted(POD + CONTAINER)
    assert kubelet.clients[-1] == "bert"
    seen = len(kubelet.requests)
    show("two", "eve")  # no certificate for this kubelet
    assert "workloadattestor(k8s): unable to perform request: " in attest(agent, places.at(CGROUP))
    show("one", "carl", parts=["client.crt"])  # whose key is not there yet
    assert "code = Unavailable desc = workloadattestor(k8s): unable to " in attest(agent, places.at(CGROUP))
    assert len(kubelet.requests) == seen
    show("one", "dora")
    assert attest(agent, places.at(CGROUP)) == sorted(POD + CONTAINER)
    assert kubelet.clients[-1] == "dora"
    assert all("Authorization" not in r[1] for r in kubelet.requests)


def server_files(folder):
    """Certificate of 127.0.0.1, key, and its root, made by openssl."""
    cert, key = folder / "kubelet.crt", folder / "kubelet.key"
    spire.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
               "-subj", "/CN=kubelet", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert])
    return cert, key, cert


def test_k8s_many_wait_and_others_go_on(world, places, stand_in):
    """Containers that do not start hold up nobody whose container runs."""
    waiting = [pod(UID[:-2] + f"{i:02x}", None, name=f"w{i}") for i in range(20)]
    kubelet = stand_in(lister(pod(UID, ID), *waiting))
    agent = start(world, None, k8s(f"kubelet_read_only_port = {kubelet.port}"))
    clients = []
    for p in waiting:
        where = places.at(f"/kubepods/pod{p['metadata']['uid']}/{'3' * 64}")
        clients.append(subprocess.Popen([str(agent.bin / "spire-agent"), "api", "fetch", "x509", "-socketPath",
                                         str(agent.socket), "-timeout", "40s"], preexec_fn=where,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    try:
        spire.wait_for("all to wait", lambda: agent.log().count("will retry after backoff") >= 5)
        assert attest(agent, places.at(CGROUP)) == sorted(POD + CONTAINER)
        assert all(c.poll() is None for c in clients)
        assert agent.stop() == 0  # and do not hold up the end
    finally:
        for c in clients:
            c.kill()
            c.wait()


CONTAINER_JSON = """{"Id": "%s", "Config": {"Image": "registry.test/img:1", "Labels": {"a": "1", "b.c": "x:y"},
    "Env": ["PATH=/bin", "EMPTY="]}}""" % ID
DOCKER = sorted(["label:a:1", "label:b.c:x:y", "env:PATH=/bin", "env:EMPTY=", "image_id:registry.test/img:1",
                 "image_config_digest:sha256:aabb"])


def engine(method, path, headers):
    """Docker's, with or without a version in front of the path."""
    if path == "/_ping":
        return 200, "OK"
    if path.endswith(f"/containers/{ID}/json"):
        return 200, CONTAINER_JSON
    if "/images/" in path:
        return 200, '{"Id": "sha256:aabb", "RepoDigests": []}'
    return 404, '{"message": "No such container"}'


def docker(*options):
    return 'WorkloadAttestor "docker" {{ plugin_data {{\n{}\n}} }}'.format("\n".join(options))


def test_docker_selectors(world, both, places, stand_in, tmp_path):
    stand_in(engine, unix=tmp_path / "d.sock")
    agent = start(world, both, docker(f'docker_socket_path = "unix://{tmp_path}/d.sock"'))
    assert attest(agent, places.at(f"/docker/{ID}")) == DOCKER
    assert attest(agent, places.at(f"/system.slice/docker-{ID}.scope")) == DOCKER
    assert attest(agent, places.at("/user.slice")) == []
    said = attest(agent, places.at("/docker/" + "1" * 64)).replace("\\", "")
    assert "desc = workloadattestor(docker): Error response from daemon: No such container" in said


def test_docker_matchers(world, both, places, stand_in, tmp_path):
    stand_in(engine, unix=tmp_path / "d.sock")
    agent = start(world, both, docker(f'docker_socket_path = "unix://{tmp_path}/d.sock"', "use_new_container_locator = false",
                                      'container_id_cgroup_matchers = ["/my.slice/*/<id>/*"]'))
    assert attest(agent, places.at(f"/my.slice/x/{ID}/y")) == DOCKER
    assert attest(agent, places.at(f"/docker/{ID}")) == []


def test_docker_podman(world, both, places, stand_in, tmp_path):
    stand_in(engine, unix=tmp_path / "root.sock")
    stand_in(engine, unix=tmp_path / "user-1000.sock")
    agent = start(world, both, docker(f'docker_socket_path = "unix://{tmp_path}/none.sock"',
                                      f'podman_socket_path = "unix://{tmp_path}/root.sock"',
                                      f'podman_socket_path_template = "unix://{tmp_path}/user-%d.sock"'))
    assert attest(agent, places.at(f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope")) == DOCKER
    assert attest(agent, places.at(f"/machine.slice/libpod-{ID}.scope")) == DOCKER


def test_slurm(world, both, places):
    agent = start(world, both, 'WorkloadAttestor "slurm" { plugin_data {} }')
    assert attest(agent, places.at("/system.slice/slurmstepd.scope/job_42/step_batch/slurm")) == ["job_id:42", "step:batch"]
    assert attest(agent, places.at("/system.slice/n1_slurmstepd.scope/s5K1KKYAYG5D00/step_0/user/task_0")) == \
        ["sluid:s5K1KKYAYG5D00", "step:0"]
    assert attest(agent, places.at("/user.slice/slurmstepd.scope/job_42/step_batch")) == []


BUS_CONF = """<busconfig>
  <type>system</type>
  <listen>unix:path={dir}/bus.sock</listen>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow eavesdrop="false"/>
  </policy>
</busconfig>
"""


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """A bus of the test's own; called with a mode of test-systemd it puts that on it, in the place of the one before."""
    made = []

    def end(each):
        each.stdin.close()
        each.stdout.close()
        each.wait(10)
    (tmp_path / "bus.conf").write_text(BUS_CONF.format(dir=tmp_path))
    bus = subprocess.Popen(["dbus-daemon", "--nofork", "--nopidfile", f"--config-file={tmp_path}/bus.conf"])
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/bus.sock")
    spire.wait_for("the bus", (tmp_path / "bus.sock").exists)

    def stand_in(mode):
        if made:
            end(made.pop())
        made.append(subprocess.Popen([spire.BIN.parent / "tests" / "test-systemd", "web.service",
                                      "/etc/systemd/system/web.service", mode],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert made[-1].stdout.readline() == "ready\n"
    stand_in.bus = bus
    yield stand_in
    for each in made:
        end(each)
    bus.terminate()
    bus.wait(10)


SYSTEMD = 'WorkloadAttestor "systemd" { plugin_data {} }'


def test_systemd(world, both, systemd):
    systemd("good")
    agent = start(world, both, SYSTEMD)
    for _ in range(3):
        assert attest(agent, None) == ["fragment_path:/etc/systemd/system/web.service", "id:web.service"]


def test_systemd_refuses(world, both, systemd):
    systemd("good")  # SPIRE's agent is not healthy when it cannot attest itself
    agent = start(world, both, SYSTEMD)
    systemd("unknown")
    said = attest(agent, None)
    assert "code = Internal desc = workloadattestor(systemd): failed to get unit by pid " in said
    assert "does not belong to any loaded unit." in said
    systemd("number")
    assert "workloadattestor(systemd): Returned value for Id was not a string: " in attest(agent, None)
    systemd("good")
    assert "id:web.service" in attest(agent, None)
    systemd.bus.terminate()
    systemd.bus.wait(10)
    assert "workloadattestor(systemd): failed to " in attest(agent, None)


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{{name: c, context: {{cluster: k, user: u}}}}]
clusters: [{{name: k, cluster: {{server: "https://127.0.0.1:{port}", certificate-authority: "{ca}"}}}}]
users: [{{name: u, user: {{token: "secret"}}}}]
"""


def test_k8s_namespace_labels(world, places, stand_in, tmp_path, monkeypatch):
    labels = {"answer": (200, '{"metadata": {"name": "prod", "labels": {"team": "red", "a/b": ""}}}')}
    cert, key, roots = server_files(tmp_path)
    api = stand_in(lambda method, path, headers: labels["answer"] if path == "/api/v1/namespaces/prod" else (404, "{}"),
                   tls=(cert, key))
    kubelet = stand_in(lister(pod(UID, ID)))
    (tmp_path / "kubeconfig").write_text(KUBECONFIG.format(port=api.port, ca=roots))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    agent = start(world, None, k8s(f"kubelet_read_only_port = {kubelet.port}", "enable_namespace_labels = true"))
    assert attest(agent, places.at(CGROUP)) == sorted(POD + CONTAINER + ["ns-label:team:red", "ns-label:a/b:"])
    assert api.requests[0][1]["Authorization"] == "Bearer secret"
    labels["answer"] = (403, '{"kind": "Status", "status": "Failure", "message": "no", "reason": "Forbidden", "code": 403}')
    said = attest(agent, places.at(CGROUP)).replace("\\", "")
    assert 'code = Internal desc = workloadattestor(k8s): unable to get namespace labels for "prod": ' in said
