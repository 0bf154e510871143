"""A Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager of the program in tests/kubernetes/controlplane,
on loopback, with keys and certificates of its own. There is no kubelet: nodes and pods are objects that tests make, and
whose status they set.
"""

import base64
import copy
import datetime
import http.client
import ipaddress
import json
import os
import pathlib
import secrets
import signal
import ssl
import subprocess

import nodecerts
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from spire import Failed, free_port, wait_for

CORE = "/api/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
AGGREGATION = "/apis/apiregistration.k8s.io/v1"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
PLURALS = {  # kind -> (group and version, resource, is in a namespace)
    "Namespace": (CORE, "namespaces", False), "Node": (CORE, "nodes", False), "Pod": (CORE, "pods", True),
    "ConfigMap": (CORE, "configmaps", True), "Secret": (CORE, "secrets", True), "Service": (CORE, "services", True),
    "ServiceAccount": (CORE, "serviceaccounts", True), "ClusterRole": (RBAC, "clusterroles", False),
    "ClusterRoleBinding": (RBAC, "clusterrolebindings", False), "Role": (RBAC, "roles", True),
    "RoleBinding": (RBAC, "rolebindings", True), "StatefulSet": ("/apis/apps/v1", "statefulsets", True),
    "DaemonSet": ("/apis/apps/v1", "daemonsets", True)}
CONTROLLERS = ("certificatesigningrequest-signing-controller", "certificatesigningrequest-approving-controller",
               "certificatesigningrequest-cleaner-controller", "root-ca-certificate-publisher-controller",
               "serviceaccount-controller", "serviceaccount-token-controller")


class Refused(Exception):
    """A status of failure."""

    def __init__(self, status):
        super().__init__(status.get("message"))
        self.status = status
        self.code = status.get("code")


def b64(data):
    return base64.b64encode(data).decode()


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def path_of(kind, name="", namespace="", sub=""):
    """Of an object, of a collection (no name), or of what is below an object."""
    prefix, resource, namespaced = PLURALS[kind]
    path = prefix + (f"/namespaces/{namespace}" if namespaced else "") + f"/{resource}"
    return path + (f"/{name}" if name else "") + (f"/{sub}" if sub else "")


class Cluster:
    def __init__(self, folder, program):
        self.dir = pathlib.Path(folder)
        self.dir.mkdir(parents=True)
        self.program = program
        self.running = {}  # role -> Popen
        self.etcd_port, self.peer_port, self.port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._keys()
        self._write("audit.yaml", json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
                                  "rules": [{"level": "Metadata"}]}).encode())
        self.admin = nodecerts.Authority.pair(self.ca, nodecerts.name("system:masters", "admin"))
        self.context = ssl.create_default_context(cafile=self.dir / "ca.crt")
        self.context.load_cert_chain(self._write("admin.pem", b"".join(self.admin)))

    # --- life ---

    def _write(self, name, data):
        path = self.dir / name
        path.touch(mode=0o600)
        path.write_bytes(data)
        return path

    def _keys(self):
        self.ca = nodecerts.Authority("kubernetes-ca")
        self._write("ca.crt", self.ca.pem)
        self._write("ca.key", nodecerts.key_pem(self.ca.key))
        cert, key = self.ca.pair(nodecerts.name(None, "kube-apiserver"), usages=[ExtendedKeyUsageOID.SERVER_AUTH],
                                 sans=[x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        self._write("apiserver.crt", cert)
        self._write("apiserver.key", key)
        self.account_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._write("sa.key", nodecerts.key_pem(self.account_key))
        self._write("sa.pub", self.account_key.public_key().public_bytes(serialization.Encoding.PEM,
                                                                         serialization.PublicFormat.SubjectPublicKeyInfo))

    def _spawn(self, role, *flags):
        with open(self.dir / f"{role}.log", "ab") as log:
            self.running[role] = subprocess.Popen([self.program, role, *flags], stdout=log, stderr=log, cwd=self.dir)

    def _log(self, role):
        return (self.dir / f"{role}.log").read_text(errors="replace")[-3000:]

    def start(self):
        url = f"http://127.0.0.1:{self.etcd_port}"
        peer = f"http://127.0.0.1:{self.peer_port}"
        self._spawn("etcd", "--name=t", f"--data-dir={self.dir / 'etcd'}", f"--listen-client-urls={url}",
                    f"--advertise-client-urls={url}", f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
                    f"--initial-cluster=t={peer}", "--unsafe-no-fsync=true", "--log-level=error")
        self.start_api()
        config = self.kubeconfig("controllers", cert=self.ca.pair(nodecerts.name(None, "system:kube-controller-manager")))
        self._spawn("kube-controller-manager", f"--kubeconfig={config}", f"--controllers={','.join(CONTROLLERS)}",
                    "--use-service-account-credentials=true", "--cluster-signing-cert-file=ca.crt",
                    "--cluster-signing-key-file=ca.key", "--cluster-signing-duration=24h", "--root-ca-file=ca.crt",
                    "--service-account-private-key-file=sa.key", "--leader-elect=false", "--secure-port=0")
        self.apply(path_of("Namespace", "spire"), "Namespace", metadata={"name": "spire"})
        self.await_object(path_of("ServiceAccount", "default", "spire"))
        return self

    def start_api(self):
        self._spawn("kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self.etcd_port}", "--bind-address=127.0.0.1",
                    "--advertise-address=127.0.0.1", f"--secure-port={self.port}", "--tls-cert-file=apiserver.crt",
                    "--tls-private-key-file=apiserver.key", "--client-ca-file=ca.crt", "--authorization-mode=Node,RBAC",
                    "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                    "--service-account-signing-key-file=sa.key", "--service-account-key-file=sa.pub",
                    "--service-cluster-ip-range=10.96.0.0/24", "--allow-privileged=true", "--anonymous-auth=false",
                    "--enable-bootstrap-token-auth=true", "--enable-admission-plugins=NodeRestriction",
                    "--audit-policy-file=audit.yaml", "--audit-log-path=audit.log")

        def ready():
            role = next((r for r, p in self.running.items() if p.poll() is not None), None)
            if role:
                raise AssertionError(f"{role} ended:\n{self._log(role)}")
            try:
                return self.text("GET", "/readyz") == "ok"
            except Refused:
                return False
        try:
            wait_for("the API server", ready, 120, every=0.2)
        except Failed as err:
            raise Failed(f"{err}\n{self._log('kube-apiserver')}") from None

    def stop_role(self, role, sig=signal.SIGTERM, limit=60):
        process = self.running.pop(role, None)
        if process is None or process.poll() is not None:
            return
        process.send_signal(sig)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart_api(self):
        """Killed: told to end, it would wait for a minute for watches to end."""
        self.stop_role("kube-apiserver", signal.SIGKILL)
        self.start_api()

    def close(self):
        for role in ("kube-controller-manager", "kube-apiserver", "etcd"):
            self.stop_role(role, signal.SIGKILL)

    # --- calls ---

    def _call(self, method, path, body, content_type, token, headers):
        context = ssl.create_default_context(cafile=self.dir / "ca.crt") if token else self.context
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=30)
        headers = {"Accept": "application/json", **headers}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def as_user(self, pem):
        """The same, with a client certificate and key in one file."""
        other = copy.copy(self)
        other.context = ssl.create_default_context(cafile=self.dir / "ca.crt")
        other.context.load_cert_chain(pem)
        return other

    def text(self, method, path, body=None, content_type="application/json", token=None, headers={}):
        """What came, as the administrator or with a token."""
        status, text = self._call(method, path, body, content_type, token, headers)
        if status > 299:
            try:
                raise Refused(json.loads(text))
            except ValueError:
                raise Refused({"code": status, "message": text}) from None
        return text

    def call(self, *args, **kw):
        return json.loads(self.text(*args, **kw))

    def first_event(self, path):
        """Of a watch."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=30)
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            return json.loads(connection.getresponse().readline())
        finally:
            connection.close()

    def get(self, kind, name, namespace=""):
        return self.call("GET", path_of(kind, name, namespace))

    def find(self, path):
        """The object, or None."""
        try:
            return self.call("GET", path)
        except Refused as err:
            if err.code != 404:
                raise
            return None

    def await_object(self, path, condition=lambda o: True, limit=30):
        return wait_for(path, lambda: (o := self.find(path)) and condition(o) and o, limit)

    def create(self, kind, name, namespace="", **fields):
        prefix = PLURALS[kind][0]
        meta = {"name": name, **fields.pop("metadata", {})}
        return self.call("POST", path_of(kind, namespace=namespace),
                         {"apiVersion": prefix.removeprefix("/apis/").removeprefix("/api/"), "kind": kind, "metadata": meta,
                          **fields})

    def patch(self, path, **fields):
        return self.call("PATCH", path, fields, MERGE)

    def delete(self, path, **options):
        return self.call("DELETE", path, {"gracePeriodSeconds": 0, **options})

    def apply(self, path, kind, api="v1", **fields):
        """Server-side apply; unknown and doubled fields are errors."""
        return self.call("PATCH", f"{path}?fieldManager=tests&force=true&fieldValidation=Strict",
                         {"apiVersion": api, "kind": kind, **fields}, APPLY)

    def apply_file(self, path):
        """What `kubectl apply --server-side --validate=strict -f` does."""
        made = []
        for d in yaml.safe_load_all(path.read_text()):
            meta, group = d["metadata"], PLURALS[d["kind"]][0]
            assert group.removeprefix("/apis/").removeprefix("/api/") == d["apiVersion"], d
            target = path_of(d["kind"], meta["name"], meta.get("namespace", ""))
            made.append(self.call("PATCH", f"{target}?fieldManager=tests&force=true&fieldValidation=Strict", d, APPLY))
        return made

    def config_map(self, name, namespace="spire"):
        return self.get("ConfigMap", name, namespace).get("data", {})

    # --- who we are to it ---

    def kubeconfig(self, name, token=None, cert=None):
        path = self.dir / f"{name}.kubeconfig"
        user = {"token": token} if token else {"client-certificate-data": b64(cert[0]), "client-key-data": b64(cert[1])}
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": self.url, "certificate-authority": str(self.dir / "ca.crt")}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
            "users": [{"name": "me", "user": user}]}))
        return path

    def user_config(self, name, rules, namespace=None):
        """A kubeconfig with a client certificate for a new user who has these rules alone, in one namespace or
        everywhere."""
        self.grant(name, rules, {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}, namespace)
        return self.kubeconfig(name, cert=self.ca.pair(nodecerts.name("tests", name)))

    def grant(self, name, rules, subject, namespace=None):
        kind = "Role" if namespace else "ClusterRole"
        api = "rbac.authorization.k8s.io/v1"
        where = {"namespace": namespace} if namespace else {}
        self.apply(path_of(kind, name, namespace), kind, api, metadata={"name": name, **where}, rules=rules)
        self.apply(path_of(f"{kind}Binding", name, namespace), f"{kind}Binding", api, metadata={"name": name, **where},
                   roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}, subjects=[subject])

    def bind(self, name, role, subject):
        """A role of the whole cluster that is there."""
        self.apply(path_of("ClusterRoleBinding", name), "ClusterRoleBinding", "rbac.authorization.k8s.io/v1",
                   metadata={"name": name}, subjects=[subject],
                   roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role})

    def may(self, user, verb, group, resource, name="", namespace="", sub=""):
        """What the API server says of a user's rights."""
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": user, "resourceAttributes": {"verb": verb, "group": group, "resource": resource, "name": name,
                                                 "namespace": namespace, "subresource": sub}}}
        return self.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]

    def events(self, user):
        """The audit log of one user."""
        lines = (self.dir / "audit.log").read_text().splitlines(keepends=True)
        return [e for line in lines if line.endswith("}\n") and (e := json.loads(line))["user"].get("username") == user]

    def asked(self, user):
        """What this user asked for and was answered, oldest first: (verb, path, status)."""
        return [(e["verb"], e["requestURI"].partition("?")[0], e.get("responseStatus", {}).get("code"))
                for e in self.events(user)]

    def watches(self, user, text):
        """How many watches of this user for what has `text` in its query were begun."""
        return sum(1 for e in self.events(user) if e["verb"] == "watch" and e["stage"] == "ResponseStarted" and
                   text in e["requestURI"])

    # --- what a kubelet and people do ---

    def account(self, name, namespace="spire"):
        if self.find(path_of("ServiceAccount", name, namespace)) is None:
            self.create("ServiceAccount", name, namespace)

    def node(self, name, **labels):
        return self.create("Node", name, metadata={"labels": labels})

    def pod(self, name, node, account="spire-agent", namespace="spire", host_ip="172.16.10.1", **labels):
        """One that runs on a node, as the kubelet would report it."""
        self.account(account, namespace)
        self.create("Pod", name, namespace, metadata={"labels": labels},
                    spec={"serviceAccountName": account, "nodeName": node,
                          "containers": [{"name": "c", "image": "cspire:latest"}]})
        status = {"phase": "Running", "hostIP": host_ip, "hostIPs": [{"ip": host_ip}]}
        return self.patch(path_of("Pod", name, namespace, "status"), status=status)

    def token(self, account="spire-agent", pod=None, audience=("spire-server",), namespace="spire", seconds=600):
        """TokenRequest, as the kubelet makes it for a projected volume."""
        spec = {"audiences": list(audience), "expirationSeconds": seconds}
        if pod:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"],
                                      "uid": pod["metadata"]["uid"]}
        made = self.call("POST", path_of("ServiceAccount", account, namespace, "token"),
                         {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
        return made["status"]["token"]

    def legacy_token(self, account="spire-agent", namespace="spire"):
        """Of a Secret, as before Kubernetes 1.24."""
        name = f"{account}-token-{secrets.token_hex(3)}"
        self.account(account, namespace)
        self.create("Secret", name, namespace, type="kubernetes.io/service-account-token",
                    metadata={"annotations": {"kubernetes.io/service-account.name": account}})
        made = self.await_object(path_of("Secret", name, namespace), lambda s: "token" in s.get("data", {}))
        return base64.b64decode(made["data"]["token"]).decode()

    @staticmethod
    def claims(token):
        return json.loads(unb64url(token.split(".")[1]))

    def signed_again(self, token, **claims):
        """The token with other claims and a good signature: what the API server would not make, an expired one."""
        head = token.split(".")[0]
        text = f"{head}.{b64url(json.dumps({**self.claims(token), **claims}).encode())}"
        return f"{text}.{b64url(self.account_key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    # --- certificate signing requests ---

    def requests_of(self, node):
        return [r for r in self.call("GET", CSRS)["items"] if r["metadata"]["name"].startswith(f"{node}-")]

    def await_request(self, node):
        return wait_for(f"a request of {node}", lambda: self.requests_of(node), 30)[-1]["metadata"]["name"]

    def decide(self, name, kind, reason="", message=""):
        """`kubectl certificate approve` and `deny`."""
        request = self.call("GET", f"{CSRS}/{name}")
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        request["status"].setdefault("conditions", []).append(
            {"type": kind, "status": "True", "reason": reason, "message": message, "lastUpdateTime": now})
        self.call("PUT", f"{CSRS}/{name}/{'status' if kind == 'Failed' else 'approval'}", request)

    def sign(self, name, signer, subject, usages, sans=(), asked_by=None):
        """Certificate and key of a request that is made by a user (None: the administrator) and approved."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), False)
        pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        headers = {"Impersonate-User": asked_by, "Impersonate-Group": "system:nodes"} if asked_by else {}
        self.call("POST", CSRS, {
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
            "spec": {"request": b64(pem), "signerName": signer, "usages": usages}}, headers=headers)
        self.decide(name, "Approved", "ByHand")
        made = self.await_object(f"{CSRS}/{name}", lambda r: r["status"].get("certificate"))
        return base64.b64decode(made["status"]["certificate"]), nodecerts.key_pem(key)


def program():
    return os.environ.get("CSPIRE_KUBE_BIN")
