"""Enclaves without Nitro: the test module that signs attestation documents, and agents in enclave mode."""

import contextlib
import json
import os
import pathlib
import select
import socket
import subprocess
import threading

import spire
from spire import BIN, Daemon, Failed, free_port, run, wait_for

# The statically linked agent when there is one to be tested (build/static/bin), else the ordinary one.
ENCLAVE_BIN = pathlib.Path(os.environ.get("CSPIRE_STATIC_BIN", BIN)).resolve()
NSM = BIN.parent / "tests" / "test-nsm"
IMAGE = "c0ffee" * 16  # PCR0 of the image that most tests pretend to run
OTHER_IMAGE = "beef00" * 16

# No limit of one attestation per second and address: all come from here.
SERVER_OPTIONS = 'ratelimit { attestation = false }\n'


class Nsm:
    """The test module on a Unix socket, with a root of its own in its folder."""

    def __init__(self, folder, *args, root=None, pcr0=IMAGE):
        self.dir = pathlib.Path(folder)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.socket = self.dir / "nsm"
        self.root = pathlib.Path(root or self.dir / "root")
        self.args = [*args, *(["-pcr0", pcr0] if pcr0 else [])]
        self.proc = None
        self.start()

    def start(self):
        self.proc = subprocess.Popen([NSM, "-socket", self.socket, "-root", self.root, *self.args], stdout=subprocess.PIPE,
                                     text=True)
        line = self.proc.stdout.readline()
        if not line.startswith("pcr0 "):
            raise Failed(f"test-nsm said {line!r}")
        self.pcr0 = line.split()[1]
        return self

    def stop(self):
        self.proc.terminate()
        self.proc.wait()
        self.proc.stdout.close()

    def sanitizer_reports(self):
        return []

    def plugin(self, **options):
        """The server's NodeAttestor for documents of this module."""
        lines = "\n".join(f"{k} = {json.dumps(v)}" for k, v in options.items())
        return (f'NodeAttestor "nitro_enclave" {{ plugin_data {{\n'
                f'root_ca_path = "{self.root / "root.pem"}"\n{lines}\n}} }}')


CONF = """
agent {{
    data_dir = "{data}"
    log_level = "DEBUG"
    server_address = "{address}"
    server_port = "{port}"
    trust_domain = "{td}"
    trust_bundle_path = "{bundle}"
    {agent}
    enclave {{
        svid_dir = "{svids}"
        workload_api_addr = "{api}"
        {enclave}
    }}
}}
plugins {{
    NodeAttestor "nitro_enclave" {{
        plugin_data {{ nsm_path = "{nsm}" }}
    }}
    {keymanager}
}}
"""


class Enclave(Daemon):
    """An agent in enclave mode."""

    program = "spire-agent"

    def __init__(self, folder, server, nsm, agent="", enclave="", address="127.0.0.1", bindir=None,
                 keymanager='KeyManager "memory" { plugin_data {} }'):
        super().__init__(folder, bindir or ENCLAVE_BIN)
        self.server, self.nsm = server, nsm
        self.svids = self.dir / "spiffe"
        self.api = f"127.0.0.1:{free_port()}"
        bundle = self.dir / "bootstrap.pem"
        bundle.write_text(server.bundle_pem())
        self.conf_path.write_text(CONF.format(data=self.dir / "data", address=address, port=server.port, td=server.td,
                                              bundle=bundle, agent=agent, svids=self.svids, api=self.api,
                                              enclave=enclave, nsm=nsm.socket, keymanager=keymanager))
        self.id = f"spiffe://{server.td}/spire/agent/nitro-enclave/{nsm.pcr0}"

    def cli(self, *args, check=True):
        words = list(args)
        at = next((i for i, w in enumerate(words) if str(w).startswith("-")), len(words))
        words[at:at] = ["-socketPath", f"tcp://{self.api}"]
        return run([self.bin / "spire-agent", *words], check=check)

    def fetch_jwt(self, audience):
        return json.loads(self.cli("api", "fetch", "jwt", "-audience", audience, "-output", "json").stdout)[0]["svids"]

    def x509_ids(self):
        done = self.cli("api", "fetch", "x509", "-output", "json", check=False)
        return sorted(s["spiffe_id"] for s in json.loads(done.stdout)["svids"]) if done.returncode == 0 else []

    def await_file(self, name="svid.pem", limit=30):
        wait_for(f"{name}", (self.svids / name).exists, limit)
        return self.svids / name

    def end(self, limit=15):
        """Waits until it ends by itself; its exit status."""
        self.proc.wait(limit * spire.PATIENCE)
        code = self.proc.returncode
        self.proc = None
        return code


def enclave(world, server, nsm, name="enclave", **kw):
    e = Enclave(world.dir / name, server, nsm, **kw)
    world.made.append(e)
    return e


def module(world, name="module", **kw):
    n = Nsm(world.dir / name, **kw)
    world.made.append(n)
    return n


def read_generation(folder):
    """The three files through one opened folder: None when it went away meanwhile."""
    try:
        fd = os.open(folder / "..data", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        texts = []
        for name in ("svid.pem", "svid_key.pem", "svid_bundle.pem"):
            with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=fd), "rb") as f:
                texts.append(f.read())
        return texts
    except FileNotFoundError:
        return None
    finally:
        os.close(fd)


def has_vsock():
    """Can this machine be its own parent over vsock (module vsock_loopback)?"""
    try:
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as l, socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as c:
            l.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
            l.listen()
            c.settimeout(2)
            c.connect((socket.VMADDR_CID_LOCAL, l.getsockname()[1]))
            return True
    except (OSError, AttributeError):
        return False


class ConnectProxy:
    """An HTTP proxy that knows CONNECT; `answer` instead of a tunnel when given. Counts and remembers."""

    def __init__(self, answer=None, names=None, vsock=False, fixed=None):
        """`fixed`: no CONNECT, everything goes to this address."""
        self.answer, self.names, self.targets, self.fixed = answer, names or {}, [], fixed
        if vsock:
            self.listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            self.listener.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
            self.listener.listen()
        else:
            self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError, ValueError):
            if self.fixed is not None:
                with socket.create_connection(self.fixed) as up:
                    self.targets.append(("", ""))
                    return self._pump(client, up)
            head = b""
            while b"\r\n\r\n" not in head and len(head) < 8192:
                head += client.recv(1)
            method, target, _ = head.split(b" ", 2)
            self.targets.append((method.decode(), target.decode()))
            if self.answer is not None:
                client.sendall(self.answer)
                return
            host, port = target.decode().rsplit(":", 1)
            with socket.create_connection((self.names.get(host, host), int(port))) as up:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._pump(client, up)

    @staticmethod
    def _pump(client, up):
        while True:
            for s in select.select([client, up], [], [])[0]:
                data = s.recv(65536)
                if not data:
                    return
                (up if s is client else client).sendall(data)
