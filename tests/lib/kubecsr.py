"""The API server's certificate signing requests, with the controllers that approve and sign them."""

import base64
import copy
import signal
import sys
import threading

import nodecerts
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from kubeapi import KubeApi, pem_cert
from spire import wait_for

V1, V1BETA1 = "/apis/certificates.k8s.io/v1", "/apis/certificates.k8s.io/v1beta1"
CSRS = "certificatesigningrequests"
SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
USAGES = {"digital signature", "key encipherment", "client auth"}


class CsrApi(KubeApi):
    """auto: requests are approved and signed as they come, as with a binding to `nodeclient`."""

    def __init__(self, folder, auto=False, version=V1):
        self.auto = auto
        self.prefix = version
        self.sign_for = None  # another public key
        self.clients = nodecerts.Authority()
        super().__init__(folder)
        (self.dir / "clients.crt").write_bytes(self.clients.pem)
        (self.dir / "leaf.crt").write_bytes((self.dir / "server.pem").read_bytes().split(b"-----END CERTIFICATE-----")[0] +
                                            b"-----END CERTIFICATE-----\n")
        cert, key = self.ca.issue("spire-agent", ["spire"])
        (self.dir / "client.crt").write_bytes(cert)
        (self.dir / "client.key").write_bytes(key)
        # a kubeconfig whose CA and user are of no use: flags replace both
        (self.dir / "config").write_text(f"""# made by hand
apiVersion: v1
kind: Config
current-context: "demo"
clusters:
- name: demo
  cluster:
    certificate-authority: /nowhere/ca.crt
    extensions:
    - extension: {{provider: minikube.sigs.k8s.io, version: v1.9}}
      name: cluster_info
    server: https://127.0.0.1:{self.port}
contexts:
- {{name: other, context: {{cluster: gone, user: gone}}}}
- context:
    cluster: demo
    user: demo
  name: demo
users: {{}}
""")

    def flags(self, ca="ca.crt"):
        return ["-kubeconfig", self.dir / "config", "-ca-cert", self.dir / ca, "-client-cert", self.dir / "client.crt",
                "-client-key", self.dir / "client.key"]

    def _find(self, path):
        found = super()._find(path)
        return None if found and found[1] == CSRS and found[0] != self.prefix else found

    # --- what a real one checks ---

    def create(self, h, user, prefix, resource, namespace, obj):
        if resource != CSRS:
            return super().create(h, user, prefix, resource, namespace, obj)
        spec, name = obj["spec"], obj["metadata"]["name"]
        fault = self._fault(prefix, obj)
        if fault:
            return self.fail(h, 422, "Invalid", f'CertificateSigningRequest.certificates.k8s.io "{name}" is invalid: {fault}')
        with self.lock:
            if self.get(prefix, CSRS, name):
                return self.fail(h, 409, "AlreadyExists", f'{CSRS}.certificates.k8s.io "{name}" already exists')
            made = self.put(prefix, CSRS, name, spec={**spec, "username": user, "groups": ["system:authenticated"]},
                            status={})
            made = copy.deepcopy(made)
        self.reply(h, 201, made)
        if self.auto:
            threading.Thread(target=self._auto, args=(name,), daemon=True).start()

    def _auto(self, name):
        self.approve(name)
        self.issue(name)

    @staticmethod
    def _fault(prefix, obj):
        spec = obj["spec"]
        if obj.get("apiVersion") != prefix.removeprefix("/apis/") or obj.get("kind") != "CertificateSigningRequest":
            return "apiVersion, kind"
        if prefix == V1 and spec.get("signerName") != SIGNER:
            return "spec.signerName: Required value"
        if set(spec["usages"]) != USAGES:
            return f"spec.usages: {spec['usages']}"
        try:
            csr = x509.load_pem_x509_csr(base64.b64decode(spec["request"], validate=True))
        except ValueError as err:
            return f"spec.request: Invalid value: {err}"
        if not csr.is_signature_valid:
            return "spec.request: signature"
        return None

    # --- people and controllers ---

    def names(self):
        with self.lock:
            return sorted(k[3] for k in self.objects if k[1] == CSRS)

    def await_request(self):
        return wait_for("a request", self.names)[-1]

    def request(self, name):
        return x509.load_pem_x509_csr(base64.b64decode(self.get(self.prefix, CSRS, name)["spec"]["request"]))

    def _condition(self, name, kind, reason, message):
        condition = {"type": kind, "reason": reason, "message": message, "lastUpdateTime": "2026-01-01T00:00:00Z"}
        if self.prefix == V1:
            condition["status"] = "True"
        self._status(name, lambda s: s.setdefault("conditions", []).append(condition))

    def _status(self, name, change):
        with self.lock:
            key = (self.prefix, CSRS, "", name)
            obj = copy.deepcopy(self.objects[key])
            change(obj["status"])
            self.version += 1
            obj["metadata"]["resourceVersion"] = str(self.version)
            self.objects[key] = obj
            self._tell("MODIFIED", key, obj)

    def approve(self, name):
        self._condition(name, "Approved", "AutoApproved", "Auto approving kubelet client certificate.")

    def deny(self, name, reason="KubectlDeny", message="This CSR was denied by kubectl certificate deny."):
        self._condition(name, "Denied", reason, message)

    def failed(self, name, reason="SignerValidationFailure", message="subject organization is not system:nodes"):
        self._condition(name, "Failed", reason, message)

    def issue(self, name, pem=None):
        csr = self.request(name)
        assert [a.oid for a in csr.subject] == [NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME]
        if pem is None:
            pem = pem_cert(self.clients.sign(csr.subject, self.sign_for or csr.public_key(),
                                             usages=[ExtendedKeyUsageOID.CLIENT_AUTH]))
        self._status(name, lambda s: s.update(certificate=base64.b64encode(pem).decode()))

    def delete(self, name):
        with self.lock:
            key = (self.prefix, CSRS, "", name)
            obj = self.objects.pop(key)
            self.version += 1
            obj["metadata"]["resourceVersion"] = str(self.version)
            self._tell("DELETED", key, obj)


def main(folder):
    """For docs/kubernetes.md: a cluster with one node, n1, and one pod of an agent, until it is told to end."""
    api = CsrApi(folder, auto=True)
    api.node("n1")
    pod = api.pod("spire", "spire-agent-x7k2p", "n1")
    (api.dir / "token").write_text(api.projected_token(pod))
    api.kubeconfig("server.kubeconfig")
    (api.dir / "ready").touch()
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    api.close()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
    main(sys.argv[1])
