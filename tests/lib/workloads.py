"""Stand-ins for those that WorkloadAttestors ask, and processes that are where a test wants them to be."""

import http.server
import json
import os
import pathlib
import re
import ssl
import threading

import plugins as plugin_lib


class StandIn:
    """An HTTP server on a free port, or a Unix socket; `answer(method, path, headers)` gives status and body. With `tls`,
    certificate and key, also `client_ca`: who calls must have a certificate of it, whose name goes to `clients`."""

    def __init__(self, answer, tls=None, unix=None, client_ca=None):
        self.requests, self.clients = [], []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.requests.append((self.path, dict(self.headers)))
                if client_ca:
                    outer.clients.append(dict(part[0] for part in self.connection.getpeercert()["subject"])["commonName"])
                status, body = answer(self.command, self.path, self.headers)
                data = body if isinstance(body, bytes) else body.encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Api-Version", "1.41")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_HEAD = do_GET

            def address_string(self):
                return "client"

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            if unix:
                address_family = __import__("socket").AF_UNIX

                def server_bind(self):
                    self.socket.bind(self.server_address)
                    self.server_name, self.server_port = "unix", 0

        self.server = Server(str(unix) if unix else ("127.0.0.1", 0), Handler)
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
            if client_ca:
                self.context.verify_mode = ssl.CERT_REQUIRED
                self.context.load_verify_locations(client_ca)
            self.server.socket = self.context.wrap_socket(self.server.socket, server_side=True)
        self.port = 0 if unix else self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def show(self, cert, key):
        """Another certificate from the next connection on."""
        self.context.load_cert_chain(cert, key)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def pod(uid, container_id, name="web-1", labels=None, filler=0):
    """A pod as kubelets list them; `filler` bytes of what nobody looks at."""
    status = {"name": "main", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "ready": True, "restartCount": 0,
              "image": "registry.test/web:1.2", "imageID": "registry.test/web@sha256:" + "ab" * 32,
              "containerID": f"containerd://{container_id}" if container_id else ""}
    side = {**status, "name": "side", "image": "registry.test/side:3", "containerID": "containerd://" + "5" * 64}
    init = {**status, "name": "init", "image": "registry.test/init:1", "imageID": "registry.test/init@sha256:" + "cd" * 32,
            "containerID": "containerd://" + "6" * 64}
    return {"metadata": {"name": name, "namespace": "prod", "uid": uid,
                         "labels": {"app": "web", "tier": "front/end"} if labels is None else labels,
                         "annotations": {"note": "x\"\\" * (filler // 3)},
                         "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs-1",
                                              "controller": True}]},
            "spec": {"serviceAccountName": "web-sa", "nodeName": "node-7", "containers": [{"name": "main", "image": "web"}]},
            "status": {"phase": "Running", "containerStatuses": [status, side], "initContainerStatuses": [init]}}


def pod_list(*pods):
    return json.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(pods)})


class Places:
    """Runs clients in cgroups of one's choice: by a /proc of the test's own ($HOST_PROC), or, for SPIRE's agent, which knows
    no other than the real one, in real cgroups (root only)."""

    def __init__(self, folder, real):
        self.proc = pathlib.Path(folder)
        self.proc.mkdir(parents=True, exist_ok=True)
        self.real = real
        self.made = []

    def at(self, path):
        """A preexec_fn that goes there."""
        if not self.real:
            def enter():
                folder = self.proc / str(os.getpid())
                folder.mkdir()
                (folder / "cgroup").write_text(f"0::{path}\n")
            return enter
        folders = []
        for top in sorted(pathlib.Path("/sys/fs/cgroup").iterdir()):
            if (top / "cgroup.procs").exists() and not top.is_symlink():
                folder = top
                for name in path.strip("/").split("/"):
                    above, folder = folder, folder / name
                    folder.mkdir(exist_ok=True)
                    for setting in ("cpuset.cpus", "cpuset.mems"):  # empty ones let nobody in
                        if (folder / setting).exists():
                            (folder / setting).write_text((above / setting).read_text())
                folders.append(folder)
                self.made.append((top, folder))

        def enter():
            for folder in folders:
                (folder / "cgroup.procs").write_text(str(os.getpid()))
        return enter

    def close(self):
        for top, folder in self.made:
            while folder != top and folder.exists() and not any(p.is_dir() for p in folder.iterdir()):
                folder.rmdir()
                folder = folder.parent


def workload_agent(world, server, workload, name="agent", bindir=None, keys=None):
    """An agent with this one WorkloadAttestor."""
    made = plugin_lib.agent(world, server, name=name, workload=workload)
    if bindir:
        made.bin = pathlib.Path(bindir)
    return made.start("-joinToken", server.token())


def attest(agent, where):
    """A call of the Workload API from there; the selectors as the agent's log has them, or the fault that it logs."""
    before = len(agent.log())
    agent.fetch_x509(check=False, preexec_fn=where)
    text = agent.log()[before:]
    fault = re.search(r'msg="Workload attestation failed".*', text)
    if fault:
        return fault.group(0)
    said = [line for line in text.splitlines() if "PID attested to have selectors" in line]
    assert said, text
    return sorted(re.findall(r'type:\\?"\w+\\?"\s+value:\\?"(.*?)\\?"(?= |\])', said[-1]))
