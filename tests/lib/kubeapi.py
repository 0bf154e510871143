"""A stand-in for the Kubernetes API server: TLS, users with tokens or client certificates, TokenReview of service
account tokens, pods, nodes, ConfigMaps, webhook configurations and API services with labels, patches and watches.

What it answers has the shapes and words of a real one (Kubernetes 1.36; tests/kubernetes/test_standin.py compares them).
Permissions are a set of "verb resource".
"""

import base64
import copy
import datetime
import http.server
import ipaddress
import json
import pathlib
import queue
import socketserver
import ssl
import threading
import time
import urllib.parse
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509.oid import NameOID

RESOURCES = {  # path prefix -> (resource, namespaced, kind, apiVersion)
    "/api/v1": {"pods": ("Pod", True), "nodes": ("Node", False), "configmaps": ("ConfigMap", True)},
    "/apis/admissionregistration.k8s.io/v1": {
        "mutatingwebhookconfigurations": ("MutatingWebhookConfiguration", False),
        "validatingwebhookconfigurations": ("ValidatingWebhookConfiguration", False)},
    "/apis/apiregistration.k8s.io/v1": {"apiservices": ("APIService", False)},
    "/apis/certificates.k8s.io/v1": {"certificatesigningrequests": ("CertificateSigningRequest", False)},
    "/apis/certificates.k8s.io/v1beta1": {"certificatesigningrequests": ("CertificateSigningRequest", False)},
}


OWN_AUDIENCE = "https://kubernetes.default.svc.cluster.local"


def api_version(prefix):
    return prefix.removeprefix("/apis/").removeprefix("/api/")


def qualified(prefix, resource):
    """As messages name it: "pods", "apiservices.apiregistration.k8s.io"."""
    group = group_of(prefix)
    return f"{resource}.{group}" if group else resource


def group_of(prefix):
    return api_version(prefix).rpartition("/")[0]


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def pem_key(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def pem_cert(cert):
    return cert.public_bytes(serialization.Encoding.PEM)


class Authority:
    """A CA of the cluster's own."""

    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.cert = self._build(name, [], self.key.public_key(), None, True)

    def _build(self, cn, orgs, public, san, is_ca):
        now = datetime.datetime.now(datetime.timezone.utc)
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in orgs] +
                            [x509.NameAttribute(NameOID.COMMON_NAME, cn)])
        b = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject if is_ca else self.cert.subject)
             .public_key(public).serial_number(x509.random_serial_number())
             .not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + datetime.timedelta(days=1))
             .add_extension(x509.BasicConstraints(is_ca, None), True))
        if san:
            b = b.add_extension(x509.SubjectAlternativeName(san), False)
        return b.sign(self.key, hashes.SHA256())

    def issue(self, cn, orgs=(), san=None):
        key = ec.generate_private_key(ec.SECP256R1())
        return pem_cert(self._build(cn, orgs, key.public_key(), san, False)), pem_key(key)


def decode_protobuf_review(raw):
    """The TokenReview that client-go sends: "k8s", 0, Unknown{2: TokenReview{2: {1: token, 2: audiences}}}."""

    def fields(data):
        at = 0
        while at < len(data):
            key, at = varint(data, at)
            assert key & 7 == 2, "only length-delimited fields are expected"
            n, at = varint(data, at)
            yield key >> 3, data[at:at + n]
            at += n

    def varint(data, at):
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7f) << shift
            if byte < 0x80:
                return value, at
            shift += 7

    assert raw[:4] == b"k8s\0"
    unknown = dict(fields(raw[4:]))
    spec = dict(fields(unknown[2])).get(2, b"")
    return {"spec": {"token": next(v for k, v in fields(spec) if k == 1).decode(),
                     "audiences": [v.decode() for k, v in fields(spec) if k == 2]}}


class KubeApi:
    def __init__(self, folder):
        self.dir = pathlib.Path(folder)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self.version = 100
        self.objects = {}      # (prefix, resource, namespace or "", name) -> object
        self.watchers = []     # (prefix, resource, selector, queue)
        self.users = {}        # bearer token -> user name
        self.allowed = None    # set of "verb resource"; None: everything
        self.requests = []     # (method, path, user)
        self.trouble = []      # functions(handler, method, path) -> True when they answered
        self.tokens = {}       # service account token -> dict
        self.applied = {}      # key of an object -> {field manager: keys of its data}
        self.oldest = 0        # watches from before this version are refused
        self.sa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ca = Authority("kubernetes")
        cert, key = self.ca.issue("kube-apiserver", san=[x509.DNSName("kubernetes"), x509.DNSName("localhost"),
                                                         x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        (self.dir / "ca.crt").write_bytes(pem_cert(self.ca.cert))
        (self.dir / "server.pem").write_bytes(cert + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.dir / "server.pem")
        context.load_verify_locations(self.dir / "ca.crt")
        context.verify_mode = ssl.CERT_OPTIONAL
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def log_message(self, *args):
                pass

            def __getattr__(self, name):
                if name.startswith("do_"):
                    return lambda: api.handle(self)
                raise AttributeError(name)

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request, client_address):
                pass

            def finish_request(self, request, client_address):
                request.settimeout(60)
                request.do_handshake()
                super().finish_request(request, client_address)

        self.http = Server(("127.0.0.1", 0), Handler)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.http.server_address[1]
        self.closing = False
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def close(self):
        self.closing = True
        self.http.shutdown()
        self.http.server_close()

    # --- who we are to it ---

    def kubeconfig(self, name="kubeconfig", token=None, cert=None, inline=False):
        """A kubeconfig file for a token, or for a client certificate (PEM certificate, PEM key)."""
        path = self.dir / name
        if cert:
            if inline:
                user = {f"client-{what}-data": base64.b64encode(x).decode()
                        for what, x in zip(("certificate", "key"), cert)}
            else:
                (self.dir / f"{name}.crt").write_bytes(cert[0])
                (self.dir / f"{name}.key").write_bytes(cert[1])
                user = {"client-certificate": f"{name}.crt", "client-key": f"{name}.key"}
        else:
            token = token or self.user("admin")
            user = {"token": token}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "preferences": {},
                  "clusters": [{"name": "k", "cluster": {
                      "server": f"https://127.0.0.1:{self.port}",
                      "certificate-authority-data": base64.b64encode(pem_cert(self.ca.cert)).decode()}}],
                  "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                  "users": [{"name": "u", "user": user}]}
        path.write_text(json.dumps(config, indent=2))  # JSON is YAML
        path.chmod(0o600)
        return path

    def user(self, name):
        token = b64url(uuid.uuid4().bytes)
        self.users[token] = name
        return token

    # --- what is in it ---

    def put(self, prefix, resource, name, namespace="", **fields):
        kind, namespaced = RESOURCES[prefix][resource]
        labels = fields.pop("labels", None)
        with self.lock:
            key = (prefix, resource, namespace if namespaced else "", name)
            self.version += 1
            meta = {"name": name, "uid": str(uuid.uuid4()), "resourceVersion": str(self.version),
                    "creationTimestamp": "2026-01-01T00:00:00Z"}
            if namespaced:
                meta["namespace"] = namespace
            if labels:
                meta["labels"] = labels
            old = self.objects.get(key)
            obj = {"kind": kind, "apiVersion": api_version(prefix), "metadata": meta,
                   **fields}
            self.objects[key] = obj
            self._tell("MODIFIED" if old else "ADDED", key, obj)
            return obj

    def get(self, prefix, resource, name, namespace=""):
        with self.lock:
            return copy.deepcopy(self.objects.get((prefix, resource, namespace, name)))

    def config_map(self, namespace, name, **data):
        return self.put("/api/v1", "configmaps", name, namespace, data=data)

    def data_of(self, namespace, name):
        return (self.get("/api/v1", "configmaps", name, namespace) or {}).get("data", {})

    def node(self, name, **labels):
        return self.put("/api/v1", "nodes", name, labels=labels or None, spec={}, status={})

    def pod(self, namespace, name, node, account="spire-agent", host_ip="172.16.10.1", **labels):
        return self.put("/api/v1", "pods", name, namespace, labels=labels or None,
                        spec={"nodeName": node, "serviceAccountName": account}, status={"phase": "Running", "hostIP": host_ip})

    def _jwt(self, claims):
        head = b64url(json.dumps({"alg": "RS256", "kid": "sa-1"}).encode())
        body = b64url(json.dumps(claims).encode())
        sig = self.sa_key.sign(f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{head}.{body}.{b64url(sig)}"

    def projected_token(self, pod, audience=("spire-server",), lifetime=3600):
        """As the kubelet asks for it on behalf of a pod."""
        now = int(time.time())
        meta, account = pod["metadata"], pod["spec"]["serviceAccountName"]
        node = self.get("/api/v1", "nodes", pod["spec"]["nodeName"]) or {"metadata": {"uid": str(uuid.uuid4())}}
        claims = {"aud": list(audience), "exp": now + lifetime, "iat": now, "nbf": now,
                  "iss": OWN_AUDIENCE, "jti": str(uuid.uuid4()),
                  "kubernetes.io": {"namespace": meta["namespace"], "node": {"name": pod["spec"]["nodeName"]},
                                    "pod": {"name": meta["name"], "uid": meta["uid"]},
                                    "serviceaccount": {"name": account, "uid": str(uuid.uuid4())}},
                  "sub": f"system:serviceaccount:{meta['namespace']}:{account}"}
        token = self._jwt(claims)
        self.tokens[token] = {"claims": claims, "extra": {
            "authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"],
            "authentication.kubernetes.io/node-name": [pod["spec"]["nodeName"]],
            "authentication.kubernetes.io/node-uid": [node["metadata"]["uid"]],
            "authentication.kubernetes.io/pod-name": [meta["name"]],
            "authentication.kubernetes.io/pod-uid": [meta["uid"]]}}
        return token

    def account_token(self, namespace, account, audience=("spire-server",)):
        """By TokenRequest, for no pod."""
        now = int(time.time())
        claims = {"aud": list(audience), "exp": now + 3600, "iat": now, "nbf": now, "iss": OWN_AUDIENCE,
                  "jti": str(uuid.uuid4()), "kubernetes.io": {"namespace": namespace, "serviceaccount": {
                      "name": account, "uid": str(uuid.uuid4())}},
                  "sub": f"system:serviceaccount:{namespace}:{account}"}
        token = self._jwt(claims)
        self.tokens[token] = {"claims": claims, "extra": {
            "authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]}}
        return token

    def legacy_token(self, namespace, account):
        """As of a Secret: no audience, no end, no pod."""
        claims = {"iss": "kubernetes/serviceaccount", "kubernetes.io/serviceaccount/namespace": namespace,
                  "kubernetes.io/serviceaccount/secret.name": f"{account}-token-zjr8v",
                  "kubernetes.io/serviceaccount/service-account.name": account,
                  "kubernetes.io/serviceaccount/service-account.uid": str(uuid.uuid4()),
                  "sub": f"system:serviceaccount:{namespace}:{account}"}
        token = self._jwt(claims)
        self.tokens[token] = {"claims": claims, "extra": {}}
        return token

    def sa_public_pem(self):
        return self.sa_key.public_key().public_bytes(serialization.Encoding.PEM,
                                                     serialization.PublicFormat.SubjectPublicKeyInfo)

    # --- requests ---

    def handle(self, h):
        body = h.rfile.read(int(h.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(h.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        user = self._who(h)
        with self.lock:
            self.requests.append((h.command, h.path, user))
            trouble = list(self.trouble)
        for t in trouble:
            if t(h, h.command, h.path):
                return
        if user is None:
            return self.fail(h, 401, "Unauthorized", "Unauthorized")
        if url.path == "/apis/authentication.k8s.io/v1/tokenreviews" and h.command == "POST":
            if not self._may(h, user, "create", "tokenreviews", "/apis/authentication.k8s.io/v1"):
                return
            return self._review(h, body)
        self._object(h, user, url.path, query, body)

    def _who(self, h):
        bearer = h.headers.get("Authorization", "")
        if bearer.startswith("Bearer "):
            return self.users.get(bearer[7:])
        cert = h.connection.getpeercert()
        if cert:
            return dict(x[0] for x in cert["subject"]).get("commonName")
        return None

    def _may(self, h, user, verb, resource, prefix, namespace="", name=None):
        if self.allowed is None or f"{verb} {resource}" in self.allowed:
            return True
        what = qualified(prefix, resource) + (f' "{name}"' if name else "")
        where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        self.fail(h, 403, "Forbidden", f'{what} is forbidden: User "{user}" cannot {verb} resource "{resource}" in API group '
                  f'"{group_of(prefix)}" {where}')
        return False

    def reply(self, h, status, obj, headers=()):
        data = obj.encode() if isinstance(obj, str) else json.dumps(obj).encode()
        h.send_response(status)
        h.send_header("Content-Type", "text/plain; charset=utf-8" if isinstance(obj, str) else "application/json")
        h.send_header("Content-Length", str(len(data)))
        for k, v in headers:
            h.send_header(k, v)
        h.end_headers()
        h.wfile.write(data)

    def fail(self, h, status, reason, message, headers=()):
        self.reply(h, status, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                               "message": message, "reason": reason, "code": status}, headers)

    def _review(self, h, body):
        if h.headers.get("Content-Type", "").startswith("application/vnd.kubernetes.protobuf"):
            request = decode_protobuf_review(body)
        else:
            request = json.loads(body)
            assert request["kind"] == "TokenReview" and request["apiVersion"] == "authentication.k8s.io/v1"
        spec = request["spec"]
        wanted = spec.get("audiences") or [OWN_AUDIENCE]
        known = self.tokens.get(spec["token"])
        status = {"user": {}, "error": "invalid bearer token"}
        if known is None and is_service_account_token(spec["token"]):
            status["error"] = "[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]"
        if known:
            claims = known["claims"]
            fault = self._token_fault(claims, wanted)
            if fault:
                status["error"] = f"[invalid bearer token, {fault}]"
            else:
                has = claims.get("aud") or [OWN_AUDIENCE]
                namespace = claims["sub"].split(":")[2]
                status = {"authenticated": True, "audiences": [a for a in wanted if a in has],
                          "user": {"username": claims["sub"], "uid": str(uuid.uuid4()),
                                   "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}",
                                              "system:authenticated"]}}
                if known["extra"]:
                    status["user"]["extra"] = known["extra"]
        self.reply(h, 201, {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
                            "metadata": {"creationTimestamp": None}, "spec": spec, "status": status})

    def _token_fault(self, claims, wanted):
        """What an API server has against a token that it signed; None: nothing."""
        quote = lambda x: "[" + " ".join(json.dumps(a) for a in x) + "]"  # noqa: E731
        has = claims.get("aud") or [OWN_AUDIENCE]  # the legacy ones have none, and are for the API server
        pod = claims.get("kubernetes.io", {}).get("pod")
        if not set(has) & set(wanted):
            return f"token audiences {quote(has)} is invalid for the target audiences {quote(wanted)}"
        if claims.get("exp", 1 << 60) < time.time():
            return "service account token has expired"
        if pod:
            found = self.get("/api/v1", "pods", pod["name"], claims["kubernetes.io"]["namespace"])
            if found is None:
                return "service account token has been invalidated"
            if found["metadata"]["uid"] != pod["uid"]:
                return (f"pod UID ({found['metadata']['uid']}) does not match service account pod ref claim "
                        f"({pod['uid']})")
        return None

    def _find(self, path):
        for prefix, resources in RESOURCES.items():
            if not path.startswith(prefix + "/"):
                continue
            parts = [urllib.parse.unquote(p) for p in path[len(prefix) + 1:].split("/")]
            namespace = ""
            if parts[0] == "namespaces" and len(parts) > 2:
                namespace, parts = parts[1], parts[2:]
            if parts[0] in resources and len(parts) <= 2:
                return prefix, parts[0], namespace, parts[1] if len(parts) == 2 else None
        return None

    def _object(self, h, user, path, query, body):
        found = self._find(path)
        if not found and path.startswith(tuple(p.rpartition("/")[0] + "/" for p in RESOURCES)):
            return self.fail(h, 404, "NotFound", "the server could not find the requested resource")
        if not found:  # not of a group that there is
            return self.reply(h, 404, "404 page not found\n")
        prefix, resource, namespace, name = found
        watching = query.get("watch") in ("1", "true")
        verb = ("watch" if watching else "list" if name is None else "get") if h.command == "GET" else h.command.lower()
        verb = "create" if verb == "post" else verb
        field, _, selected = query.get("fieldSelector", "").partition("=")
        if not self._may(h, user, verb, resource, prefix, namespace, name or (selected if field == "metadata.name" else None)):
            return
        if verb == "watch":
            return self._watch(h, prefix, resource, query)
        if verb == "list":
            return self._list(h, prefix, resource, namespace, query)
        if verb == "create":
            return self.create(h, user, prefix, resource, namespace, json.loads(body))
        key = (prefix, resource, namespace, name)
        with self.lock:
            obj = self.objects.get(key)
            if verb == "patch":
                status, obj = self._patch(h, key, obj, h.headers["Content-Type"], json.loads(body), query)
            else:
                status = 200
            obj = copy.deepcopy(obj)
        if status == 409:
            return self.fail(h, 409, "Conflict", obj)
        if obj is None:
            return self.fail(h, 404, "NotFound", f'{qualified(prefix, resource)} "{name}" not found')
        self.reply(h, status, obj)

    def create(self, h, user, prefix, resource, namespace, obj):
        """Of what kind that may be said by who inherits from this."""
        self.fail(h, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    def _apply_conflict(self, key, obj, patch, manager):
        """Server-side apply of ConfigMaps: what this manager named before and does not name now goes; what is another's
        stays (and its message is returned)."""
        owners = self.applied.setdefault(key, {})
        data, new = obj.setdefault("data", {}), patch.get("data", {})
        taken = [(m, k) for m, keys in sorted(owners.items()) for k in sorted(keys)
                 if m != manager and k in new and data.get(k) != new[k]]
        if taken:
            return (f"Apply failed with {len(taken)} conflict{'s' * (len(taken) > 1)}: " +
                    ", ".join(f'conflict with "{m}": .data.{k}' for m, k in taken))
        for k in owners.get(manager, set()) - set(new):
            if not any(k in keys for m, keys in owners.items() if m != manager):
                data.pop(k, None)
        owners[manager] = set(new)
        return None

    def _patch(self, h, key, obj, kind, patch, query):
        """Status and object; 409 and a message."""
        prefix, resource, namespace, name = key
        if obj is None and not kind.startswith("application/apply-patch"):
            return 404, None
        status = 200
        if obj is None:
            assert query.get("fieldManager"), "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value"
            self.put(prefix, resource, name, namespace)
            obj, status = self.objects[key], 201
        wanted = patch.get("metadata", {}).get("resourceVersion")
        if wanted and wanted != obj["metadata"]["resourceVersion"]:
            return 409, (f'Operation cannot be fulfilled on {qualified(prefix, resource)} "{name}": the object has been '
                         "modified; please apply your changes to the latest version and try again")
        new = copy.deepcopy(obj)
        if kind.startswith("application/apply-patch"):
            conflict = self._apply_conflict(key, new, patch, query["fieldManager"])
            if conflict:
                return 409, conflict
        merge(new, {k: v for k, v in patch.items() if k not in ("kind", "apiVersion")}, "strategic" in kind)
        self.version += 1
        new["metadata"]["resourceVersion"] = str(self.version)
        self.objects[key] = new
        self._tell("MODIFIED", key, new)
        return status, new

    # --- lists and watches ---

    @staticmethod
    def _selected(obj, query):
        field, _, value = query.get("fieldSelector", "").partition("=")
        if field == "metadata.name" and obj["metadata"]["name"] != value:
            return False
        selector = query.get("labelSelector", "")
        labels = obj["metadata"].get("labels", {})
        return all(labels.get(k) == v for k, _, v in (s.partition("=") for s in selector.split(",") if s))

    def _list(self, h, prefix, resource, namespace, query):
        with self.lock:
            items = [copy.deepcopy(o) for (p, r, n, _), o in sorted(self.objects.items())
                     if (p, r) == (prefix, resource) and namespace in ("", n) and self._selected(o, query)]
            version = str(self.version)
        kind = RESOURCES[prefix][resource][0]
        for i in items:  # of a list, the items do not say what they are
            i.pop("kind"), i.pop("apiVersion")
        self.reply(h, 200, {"kind": kind + "List", "apiVersion": api_version(prefix), "metadata": {"resourceVersion": version},
                            "items": items})

    def _tell(self, event, key, obj):
        for prefix, resource, query, q in self.watchers:
            if (prefix, resource) == key[:2] and self._selected(obj, query):
                q.put({"type": event, "object": copy.deepcopy(obj)})

    def _watch(self, h, prefix, resource, query):
        q = queue.Queue()
        since = int(query.get("resourceVersion") or 0)
        with self.lock:
            if 0 < since < self.oldest:
                q.put({"type": "ERROR", "object": {
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired",
                    "message": f"too old resource version: {since} ({self.oldest})", "code": 410}})
                q.put(None)
            for (p, r, _, _), o in self.objects.items():
                if (p, r) == (prefix, resource) and int(o["metadata"]["resourceVersion"]) > since and \
                        self._selected(o, query):
                    q.put({"type": "ADDED", "object": copy.deepcopy(o)})
            if query.get("sendInitialEvents") == "true":  # instead of a list, to clients that ask for it
                q.put({"type": "BOOKMARK", "object": {
                    "kind": RESOURCES[prefix][resource][0],
                    "apiVersion": api_version(prefix),
                    "metadata": {"resourceVersion": str(self.version),
                                 "annotations": {"k8s.io/initial-events-end": "true"}}}})
            entry = (prefix, resource, query, q)
            self.watchers.append(entry)
        h.send_response(200)
        h.send_header("Content-Type", "application/json")
        h.send_header("Transfer-Encoding", "chunked")
        h.end_headers()
        try:
            while not self.closing:
                try:
                    event = q.get(timeout=0.1)
                except queue.Empty:
                    continue
                if event is None:  # drop_watches
                    break
                line = json.dumps(event).encode() + b"\n"
                h.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                h.wfile.flush()
            h.wfile.write(b"0\r\n\r\n")
        finally:
            with self.lock:
                self.watchers.remove(entry)

    def drop_watches(self):
        with self.lock:
            for *_, q in self.watchers:
                q.put(None)

    def forget(self):
        """As after a restart: no version from before is known, and connections are gone."""
        with self.lock:
            self.version += 1
            self.oldest = self.version
        self.drop_watches()

    def seen(self, method, part):
        with self.lock:
            return [r for r in self.requests if r[0] == method and part in r[1]]


def merge(into, patch, strategic):
    """RFC 7386; of lists of webhooks, strategic merge patch joins the items by their name."""
    for k, v in patch.items():
        if v is None:
            into.pop(k, None)
        elif isinstance(v, dict):
            merge(into.setdefault(k, {}), v, strategic)
        elif strategic and k == "webhooks":
            have = {w["name"]: w for w in into.get(k, [])}
            for w in v:
                if w["name"] in have:
                    merge(have[w["name"]], w, strategic)
                else:
                    into.setdefault(k, []).append(w)
        else:
            into[k] = v


def is_service_account_token(text):
    """It claims to be of an issuer that the API server has keys of."""
    try:
        body = text.split(".")[1]
        return "iss" in json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return False


def reattach(conf, blocks):
    """Puts another NodeAttestor in the place of join_token's in a configuration's text."""
    head, rest = conf.split('NodeAttestor "join_token" {', 1)
    end = rest.index("}", rest.index("plugin_data")) + 1
    return head + blocks + rest[rest.index("}", end) + 1:]


def agent(world, server, attestor, cluster, token_path, **kw):
    """An agent, not started, that attests by k8s_psat or k8s_sat."""
    a = world.agent(server, **kw)
    a.conf_path.write_text(reattach(a.conf_path.read_text(), f'''
    NodeAttestor "{attestor}" {{
        plugin_data {{
            cluster = "{cluster}"
            token_path = "{token_path}"
        }}
    }}'''))
    return a
