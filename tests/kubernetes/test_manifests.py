"""examples/kubernetes in a real API server: no field is unknown, pods pass admission, roles give what is needed and no more,
and our programs run with these configurations, service accounts and tokens as in their pods.
"""

import os
import urllib.request

import pytest
import spire
import yaml
from cluster import APPLY, Refused, path_of
from spire import BIN, REPO, free_port, run, wait_for

EXAMPLES = REPO / "examples" / "kubernetes"
FILES = sorted(f.name for f in EXAMPLES.glob("*.yml"))
CA_MAP = "kubernetes-client-ca"


@pytest.fixture(scope="session")
def applied(cluster):
    cluster.apply_file(EXAMPLES / "namespace.yml")
    return {f: cluster.apply_file(EXAMPLES / f) for f in FILES}


@pytest.mark.parametrize("file", FILES)
def test_every_field_is_known(cluster, applied, file):
    """The API server's strict validation finds what is unknown or there twice, as here."""
    for d in yaml.safe_load_all((EXAMPLES / file).read_text()):
        target = path_of(d["kind"], d["metadata"]["name"], d["metadata"].get("namespace", ""))
        with pytest.raises(Refused, match="metadata.lables: field not declared in schema"):
            cluster.call("PATCH", f"{target}?fieldManager=tests&fieldValidation=Strict",
                         {**d, "metadata": {**d["metadata"], "lables": {}}}, APPLY)
        made = cluster.find(target)
        assert made["metadata"]["uid"] in {o["metadata"]["uid"] for o in applied[file]}


RIGHTS = {  # of whom: (verb, group, resource, name, namespace)
    "system:serviceaccount:spire:spire-server": {
        ("create", "authentication.k8s.io", "tokenreviews", "", ""), ("get", "", "pods", "p", "anywhere"),
        ("get", "", "nodes", "n", ""), ("get", "", "configmaps", "spire-bundle", "spire"),
        ("patch", "", "configmaps", "spire-bundle", "spire")},
    "system:serviceaccount:spire:spire-agent": {("get", "", "nodes/proxy", "n", "")},
    "system:serviceaccount:spire:spire-agent-csr": {
        ("get", "", "nodes/proxy", "n", ""), ("create", "certificates.k8s.io", "certificatesigningrequests", "", ""),
        ("get", "certificates.k8s.io", "certificatesigningrequests", "x", ""),
        ("list", "certificates.k8s.io", "certificatesigningrequests", "", ""),
        ("watch", "certificates.k8s.io", "certificatesigningrequests", "", ""),
        ("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient", "", "")},
}
RIGHTS["spire-agent"] = {r for r in RIGHTS["system:serviceaccount:spire:spire-agent-csr"] if r[2] != "nodes/proxy"}
NOBODY = {  # has them
    ("get", "", "secrets", "x", "spire"), ("list", "", "pods", "", ""), ("list", "", "nodes", "", ""),
    ("patch", "", "configmaps", "other", "spire"), ("create", "", "configmaps", "", "spire"),
    ("patch", "", "configmaps", "spire-bundle", "default"), ("create", "", "nodes/proxy", "n", ""),
    ("create", "", "serviceaccounts/token", "spire-agent", "spire"),
    ("update", "certificates.k8s.io", "certificatesigningrequests/approval", "x", ""),
    ("delete", "certificates.k8s.io", "certificatesigningrequests", "x", ""),
    ("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient", "", ""),
    ("impersonate", "", "users", "x", "")}


@pytest.mark.parametrize("who", RIGHTS)
def test_roles_give_what_is_needed_and_no_more(cluster, applied, who):
    for right in set.union(NOBODY, *RIGHTS.values()):
        verb, group, resource, object_name, namespace = right
        resource, _, sub = resource.partition("/")
        assert cluster.may(who, verb, group, resource, object_name, namespace, sub) == (right in RIGHTS[who]), right


# --- pods ---

class Pod(spire.Daemon):
    """What runs in a pod of a manifest: its container's program with the configuration, the volumes and the service account
    that the manifest names, as /run of a mount namespace of its own. Addresses and ports are ours."""

    def __init__(self, world, cluster, file, node, server=None):
        docs = list(yaml.safe_load_all((EXAMPLES / file).read_text()))
        (owner,) = (d for d in docs if d["kind"] in ("StatefulSet", "DaemonSet"))
        (self.container,) = owner["spec"]["template"]["spec"]["containers"]
        self.program = os.path.basename(self.container["command"][0])
        super().__init__(world.dir / node, BIN)
        world.made.append(self)
        self.cluster = cluster
        self.ports = {text: free_port() for text in ("8080", "8081", "8082")}
        if server:
            self.ports["8081"] = server.ports["8081"]
        self.object = self._create(owner, node)
        self._mount(owner)
        self.proc = None

    def _create(self, owner, node):
        """As the controllers and the scheduler would, which are not there."""
        template = owner["spec"]["template"]
        spec = {**template["spec"], "nodeName": node}
        spec["volumes"] = spec["volumes"] + [
            {"name": v["metadata"]["name"], "persistentVolumeClaim": {"claimName": v["metadata"]["name"]}}
            for v in owner["spec"].get("volumeClaimTemplates", [])]
        self.cluster.create("Pod", node, "spire", metadata=template["metadata"], spec=spec)
        return self.cluster.patch(path_of("Pod", node, "spire", "status"),
                                  status={"phase": "Running", "hostIP": "10.0.0.7", "hostIPs": [{"ip": "10.0.0.7"}]})

    def file(self, path):
        """Where a file of the pod is on this machine."""
        assert path.startswith(("/run/", "/var/run/")), path
        return self.dir / "run" / path.removeprefix("/var").removeprefix("/run/")

    def _token(self, path, **kw):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.cluster.token(self.object["spec"]["serviceAccountName"], self.object, **kw))

    def _mount(self, owner):
        mounts = {m["name"]: m["mountPath"] for m in self.container["volumeMounts"]}
        for v in owner["spec"]["template"]["spec"]["volumes"] + owner["spec"].get("volumeClaimTemplates", []):
            folder = self.file(mounts[v.get("name") or v["metadata"]["name"]])
            folder.mkdir(parents=True)
            if "configMap" in v:
                for key, text in self.cluster.config_map(v["configMap"]["name"]).items():
                    (folder / key).write_text(self._here(text) if key.endswith(".conf") else text)
            for source in v.get("projected", {}).get("sources", []):
                t = source["serviceAccountToken"]
                self._token(folder / t["path"], audience=[t["audience"]], seconds=t["expirationSeconds"])
        account = self.file("/var/run/secrets/kubernetes.io/serviceaccount")
        self._token(account / "token", audience=())
        (account / "ca.crt").write_text(self.cluster.config_map("kube-root-ca.crt")["ca.crt"])
        (account / "namespace").write_text("spire")

    def _here(self, conf):
        for port, ours in self.ports.items():
            assert conf.count(f'"{port}"') <= 1
            conf = conf.replace(f'"{port}"', f'"{ours}"')
        return conf.replace('"0.0.0.0"', '"127.0.0.1"').replace('"spire-server"', '"127.0.0.1"')

    def spawn(self):
        env = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.cluster.port)}
        for e in self.container.get("env", []):
            assert e["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
            env[e["name"]] = self.object["spec"]["nodeName"]
        with open(self.log_path, "ab") as log:
            self.proc = spire.subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /run && exec "$@"', self.dir / "run",
                 self.bin / self.program, *self.container["args"]], stdout=log, stderr=log, cwd=self.dir,
                env={**os.environ, **env})
        return self

    def await_ready(self, limit=20):
        """By the probes of the manifest."""
        probes = [self.container[p]["httpGet"]["path"] for p in ("livenessProbe", "readinessProbe")]
        (port,) = (str(p["containerPort"]) for p in self.container["ports"] if p["name"] == "health")

        def healthy():
            if not self.alive():
                raise AssertionError(f"{self.program} ended:\n{self.log()}")
            return all(urllib.request.urlopen(f"http://127.0.0.1:{self.ports[port]}{p}", timeout=5).status == 200
                       for p in probes)
        wait_for(f"{self.program} to be ready", healthy, limit)
        return self

    def cli(self, *words, socket):
        return run([self.bin / self.program, *words[:2], "-socketPath", self.file(socket), *words[2:]])


SERVER_SOCKET, AGENT_SOCKET = "/run/spire/sockets/server.sock", "/run/spire/agent-sockets/spire-agent.sock"


@pytest.fixture
def server(world, cluster, applied, kind):
    """The server's pod, after what docs/kubernetes.md does before it."""
    ca = cluster.get("ConfigMap", "extension-apiserver-authentication", "kube-system")["data"]["client-ca-file"]
    cluster.apply(path_of("ConfigMap", CA_MAP, "spire"), "ConfigMap", metadata={"name": CA_MAP}, data={"ca.crt": ca})
    cluster.await_object(path_of("ConfigMap", "kube-root-ca.crt", "spire"))
    cluster.node(f"s-{kind}")
    pod = Pod(world, cluster, "server.yml", f"s-{kind}").start()
    bundle = pod.cli("bundle", "show", socket=SERVER_SOCKET).stdout
    wait_for("the bundle", lambda: cluster.config_map("spire-bundle") == {"bundle.crt": bundle})
    return pod


@pytest.mark.skipif(os.getuid() != 0, reason="mount needs root")
@pytest.mark.parametrize("kind", ["psat", "csr"])
def test_the_programs_run_as_in_their_pods(world, cluster, server, kind):
    before = {who: len(cluster.asked(who)) for who in RIGHTS}
    node = cluster.node(f"n-{kind}")  # short: a Unix socket's path has at most 107 bytes
    agent = Pod(world, cluster, f"agent-{kind}.yml", f"n-{kind}", server).start()
    last = node["metadata"]["uid"] if kind == "psat" else f"n-{kind}"
    agent_id = f"spiffe://example.org/spire/agent/k8s_{kind}/demo/{last}"
    assert f"SPIFFE ID         : {agent_id}\n" in server.cli("agent", "list", socket=SERVER_SOCKET).stdout
    server.cli("entry", "create", "-node", "-spiffeID", "spiffe://example.org/cluster/demo", "-selector",
               f"k8s_{kind}:cluster:demo", socket=SERVER_SOCKET)
    server.cli("entry", "create", "-parentID", "spiffe://example.org/cluster/demo", "-spiffeID", "spiffe://example.org/w",
               "-selector", f"unix:uid:{os.getuid()}", socket=SERVER_SOCKET)
    wait_for("an SVID", lambda: "spiffe://example.org/w" in run(
        [BIN / "spire-agent", "api", "fetch", "x509", "-socketPath", agent.file(AGENT_SOCKET)], check=False).stdout, 30)
    asked = [a for who in RIGHTS for a in cluster.asked(who)[before[who]:]]
    assert asked and not [a for a in asked if a[2] >= 400]
