"""A stand-in for a SCONE CAS: POST /session with the rules on names, versions and predecessors that the
sconecas_sessionmanager plugin lives by, over TLS with client certificates.

What is public of the real one is in its documentation (session language 0.3) and in what the plugin of UFCG expects:
201 with {"hash": ...}; 404 when a predecessor is named and there is no session; an error with the text "Session already
exists, please specify predecessor hash" when there is one and no predecessor is named. Status and text of a predecessor
that is not the last version are this stand-in's own.

It also hands out what a service of a session is given (environment, command, injected files), with imports from other
sessions resolved as their export clauses allow. The real CAS does that to attested enclaves only; here it is for
tests/scone/run.py, which has no enclave. Nobody should keep a secret in it.

    cas.py FOLDER [PORT]      makes keys in FOLDER, prints the address, serves until it is ended
"""

import datetime
import hashlib
import http.server
import json
import pathlib
import re
import socket
import ssl
import struct
import sys
import threading
import time

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

EXISTS = "Session already exists, please specify predecessor hash"
NAME = re.compile(r"[A-Za-z0-9_\-.~]{1,128}(/[A-Za-z0-9_\-.~]{1,128})*\Z")
HASH = re.compile(r"[0-9a-f]{64}\Z")


def issue(name, folder, issuer=None, ip=None):
    """FOLDER/NAME.crt and NAME.key; self-signed without `issuer`, else (certificate, key) of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    by, signer = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    build = (x509.CertificateBuilder().subject_name(subject).issuer_name(by).public_key(key.public_key())
             .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(minutes=5))
             .not_valid_after(now + datetime.timedelta(days=30))
             .add_extension(x509.BasicConstraints(issuer is None, None), True))
    if ip:
        import ipaddress
        build = build.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ip)),
                                                                 x509.DNSName("localhost")]), False)
    cert = build.sign(signer, hashes.SHA256())
    (folder / f"{name}.crt").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    path = folder / f"{name}.key"
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                       serialization.NoEncryption()))
    return cert, key


class Refused(Exception):
    def __init__(self, status, text):
        super().__init__(text)
        self.status, self.text = status, text


class Version:
    def __init__(self, text, data, number, creator):
        self.text, self.data, self.number, self.creator = text, data, number, creator
        self.hash = hashlib.sha256(f"{creator}\n{number}\n{text}".encode()).hexdigest()
        self.secrets = {s["name"]: s for s in data.get("secrets") or []}


class Cas:
    """Sessions in memory. `requests` is every body that came, `posts` the names of sessions that were taken, in order.
    `fault` may be set to a function of (name, body) that returns None, or what to do instead: ("status", code, text),
    ("raw", bytes), ("drop",), ("slow", event) waits for a threading.Event before it takes the session, ("silent", event)
    after it was taken, ("forget-hash",) takes it and answers 201 without one, ("late", seconds) answers after so long."""

    def __init__(self, folder, port=0):
        self.dir = pathlib.Path(folder)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.lock = threading.Lock()
        self.sessions, self.requests, self.posts, self.fault = {}, [], [], None
        self.under_way = self.most_under_way = 0
        self.stopping = threading.Event()
        root = issue("cas", self.dir)
        issue("cas-instance", self.dir, root, "127.0.0.1")
        issue("session", self.dir)
        self.port = port
        self.server = None
        self.start()

    def start(self):
        cas = self
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.dir / "cas-instance.crt", self.dir / "cas-instance.key")
        context.load_verify_locations(self.dir / "session.crt")
        context.verify_mode = ssl.CERT_REQUIRED

        class Handler(_Handler):
            pass
        Handler.cas = cas

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 256

            def get_request(self):
                sock, address = super().get_request()
                # the handshake is the thread's that serves the connection
                return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), address

            def handle_error(self, request, client_address):
                if not isinstance(sys.exc_info()[1], OSError):
                    super().handle_error(request, client_address)
        self.stopping.clear()
        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"

    def stop(self):
        self.stopping.set()
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.thread.join()
            self.server = None

    def forget(self):
        """As a CAS whose database is gone."""
        with self.lock:
            self.sessions.clear()

    # --- Sessions ---

    def versions(self, name):
        with self.lock:
            return list(self.sessions.get(name, []))

    def last(self, name):
        found = self.versions(name)
        return found[-1] if found else None

    def take(self, text, creator):
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as err:
            raise Refused(400, f"session is not YAML: {err}") from None
        if not isinstance(data, dict) or not isinstance(data.get("name"), str) or not NAME.match(data["name"]):
            raise Refused(400, "session has no good name")
        if str(data.get("version")) != "0.3":
            raise Refused(400, "unknown session language")
        name, before = data["name"], data.get("predecessor")
        if before is not None and (not isinstance(before, str) or not HASH.match(before)):
            raise Refused(400, "predecessor is not a hash")
        check_secrets(data)
        with self.lock:
            have = self.sessions.get(name, [])
            if not have and before is not None:
                raise Refused(404, "no such session")
            if have and before is None:
                raise Refused(409, EXISTS)
            if have and have[-1].hash != before:
                raise Refused(409, "predecessor is not the last version")
            if have and have[-1].creator != creator:
                raise Refused(403, "not the creator of the session")
            made = Version(text, data, len(have) + 1, creator)
            self.sessions.setdefault(name, []).append(made)
            self.posts.append(name)
        return made

    # --- What services get ---

    def config_of(self, path):
        """What the service SESSION/SERVICE starts with."""
        session, service = path.rsplit("/", 1)
        version = self.last(session)
        if version is None:
            raise Refused(404, f"no session {session}")
        found = [s for s in version.data.get("services") or [] if s["name"] == service]
        if not found:
            raise Refused(404, f"no service {service}")
        secrets = {}
        for s in version.secrets.values():
            if "import" in s:
                secrets[s["name"]] = self.imported(version, s["import"])
        image = [i for i in version.data.get("images") or [] if i["name"] == found[0].get("image_name")]
        files = {f["path"]: expand(f["content"], secrets) for i in image for f in i.get("injection_files") or []}
        return {"command": found[0]["command"], "files": files,
                "environment": {k: expand(str(v), secrets) for k, v in (found[0].get("environment") or {}).items()}}

    def imported(self, into, what):
        source = self.last(what["session"])
        secret = source.secrets.get(what["secret"]) if source else None
        if secret is None:
            raise Refused(404, f"{what['session']} has no secret {what['secret']}")
        allowed = secret.get("export_public") is True
        if "export" in secret:
            allowed |= (secret["export"].get("session") == into.data["name"] and
                        secret["export"].get("session_hash", into.hash) == into.hash)
        if not allowed:
            raise Refused(403, f"{what['secret']} is not exported to {into.data['name']}")
        out = {"crt": secret["value"]}
        for part, key in (("chain", "issuer"), ("privatekey", "private_key")):
            if key in secret:
                out[part] = source.secrets[secret[key]]["value"]
        return out


def check_secrets(data):
    """Certificates and keys are some, and a key is its certificate's."""
    known = {s.get("name"): s for s in data.get("secrets") or []}
    for s in known.values():
        value = s.get("value")
        try:
            if s.get("kind") == "x509":
                cert = x509.load_pem_x509_certificate(value.encode())
                key = serialization.load_pem_private_key(known[s["private_key"]]["value"].encode(), None)
                if key.public_key() != cert.public_key():
                    raise ValueError("the key is another's")
            elif s.get("kind") == "x509-ca" and value.strip():
                x509.load_pem_x509_certificates(value.encode())
        except (ValueError, KeyError, AttributeError) as err:
            # as careless as a server may be: the answer repeats what was posted
            raise Refused(400, f"secret {s.get('name')}: {err}: {value}") from None


def expand(text, secrets):
    def put(m):
        words = m.group(1).split(":")
        return secrets.get(words[0], {}).get(words[1], "")
    return re.sub(r"\$\$SCONE::([A-Za-z0-9_:.\-]+)\$\$", put, text)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cas = None

    def log_message(self, *args):
        pass

    def answer(self, status, body, kind="application/json"):
        body = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        try:
            if not self.path.startswith("/stand-in/config/"):
                raise Refused(404, "not found")
            self.answer(200, json.dumps(self.cas.config_of(self.path[len("/stand-in/config/"):])))
        except Refused as r:
            self.answer(r.status, r.text, "text/plain")

    def do_POST(self):
        cas = self.cas
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with cas.lock:
            cas.requests.append({"path": self.path, "type": self.headers["Content-Type"], "body": body})
            cas.under_way += 1
            cas.most_under_way = max(cas.most_under_way, cas.under_way)
        try:
            self.post(body)
        finally:
            with cas.lock:
                cas.under_way -= 1

    def drop(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def wait(self, event):
        while not event.wait(0.05):
            if self.cas.stopping.is_set():
                self.drop()
                return False
        return True

    def post(self, body):
        creator = hashlib.sha256(self.connection.getpeercert(True)).hexdigest()
        found = re.match(r"name: *(\S+)", body)
        fault = self.cas.fault and self.cas.fault(found.group(1) if found else "", body)
        what = fault[0] if fault else None
        if what == "status":
            return self.answer(fault[1], fault[2], "text/plain")
        if what == "raw":
            self.wfile.write(fault[1])
            self.close_connection = True
            return None
        if what == "drop":
            return self.drop()
        if what == "slow" and not self.wait(fault[1]):
            return None
        if what == "late":
            self.cas.stopping.wait(fault[1])
        try:
            if self.path != "/session":
                raise Refused(404, "not found")
            made = self.cas.take(body, creator)
        except Refused as r:
            return self.answer(r.status, r.text, "text/plain")
        if what == "silent" and not self.wait(fault[1]):
            return None
        return self.answer(201, json.dumps({} if what == "forget-hash" else {"hash": made.hash, "warnings": []}))


def main():
    folder = pathlib.Path(sys.argv[1])
    cas = Cas(folder, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(cas.url, flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        cas.stop()


if __name__ == "__main__":
    main()
