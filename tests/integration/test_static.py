"""The statically linked agent: it runs with nothing else in its image, and is as small as is promised."""

import os
import shutil
import subprocess
import sys

import pytest

import nitro
from nitro import Enclave, module
from spire import run, wait_for

if "CSPIRE_STATIC_BIN" not in os.environ:
    pytest.skip("CSPIRE_STATIC_BIN does not name the folder of `make static`", allow_module_level=True)

WORKLOAD = "spiffe://example.org/app"
PROGRAM = nitro.ENCLAVE_BIN / "spire-agent"
# A new root folder is root's business, or that of somebody who is root in a namespace.
AS_ROOT = [] if os.geteuid() == 0 else [shutil.which("unshare"), "--user", "--map-root-user"]
CHROOT = shutil.which("chroot") or "/usr/sbin/chroot"


def may_change_root(*flags):
    done = subprocess.run(["unshare", *(["--user", "--map-root-user"] if os.geteuid() else []), *flags, "true"],
                          capture_output=True)
    return done.returncode == 0


class Image(Enclave):
    """An enclave whose root folder holds the program, its configuration, and nothing else."""

    def __init__(self, folder, server, nsm_dir, hosts="", **kw):
        self.root = folder / "image"
        self.root.mkdir(parents=True)
        super().__init__(folder, server, nsm_dir, **kw)
        shutil.copy(PROGRAM, self.root / "spire-agent")
        text = self.conf_path.read_text()
        for path, name in ((self.dir / "data", "/data"), (self.dir / "bootstrap.pem", "/bootstrap.pem"),
                           (self.svids, "/run/spiffe"), (nsm_dir.socket, "/nsm")):
            text = text.replace(str(path), name)
        (self.root / "conf").write_text(text)
        shutil.copy(self.dir / "bootstrap.pem", self.root / "bootstrap.pem")
        if hosts:
            (self.root / "etc").mkdir()
            (self.root / "etc/hosts").write_text(hosts)
            # what no image of this size has; it must not be heeded
            (self.root / "etc/nsswitch.conf").write_text("hosts: resolve mymachines\n")
        self.svids = self.root / "run/spiffe"

    def spawn(self, *args):
        with open(self.log_path, "ab") as log:
            self.proc = subprocess.Popen([*AS_ROOT, CHROOT, self.root, "/spire-agent", "run", "-config", "/conf", *args],
                                         stdout=log, stderr=log, env={})
        return self


def test_it_refuses_plugins_of_modules(tmp_path):
    conf = tmp_path / "conf"
    conf.write_text(f'''
agent {{
    data_dir = "{tmp_path}"
    server_address = "127.0.0.1"
    server_port = "8081"
    trust_domain = "example.org"
    insecure_bootstrap = true
}}
plugins {{
    NodeAttestor "k8s_psat" {{
        plugin_data {{
            cluster = "c"
        }}
    }}
    KeyManager "memory" {{
        plugin_data {{}}
    }}
    WorkloadAttestor "unix" {{
        plugin_data {{}}
    }}
    SVIDStore "sconecas_sessionmanager" {{
        plugin_data {{}}
    }}
}}''')
    done = run([PROGRAM, "run", "-config", conf], check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert ('failed to load plugin \\"sconecas_sessionmanager\\": plugin \\"sconecas_sessionmanager\\" needs a module, '
            "which the static build cannot load") in said
    # the agent's half of Kubernetes needs none
    assert 'msg="Plugin loaded" external=false plugin_name=k8s_psat' in said


def test_it_needs_no_other_file():
    headers = run(["readelf", "-lW", PROGRAM]).stdout
    assert "INTERP" not in headers
    assert "NEEDED" not in run(["readelf", "-dW", PROGRAM]).stdout
    assert PROGRAM.stat().st_size < 8 << 20


@pytest.mark.skipif(not may_change_root(), reason="no right to make a namespace")
def test_a_whole_life_in_an_empty_image(world):
    nsm = module(world)
    server = world.server(server=nitro.SERVER_OPTIONS, plugins=nsm.plugin(require_key_binding=True)).start()
    e = Image(world.dir / "e", server, nsm, address="spire.test", hosts="127.0.0.1 localhost spire.test\n")
    world.made.append(e)
    nsm.stop()  # its socket goes into the image
    nsm.socket = e.root / "nsm"
    nsm.start()
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.start()
    assert e.fetch_jwt("db")[0]["spiffe_id"] == WORKLOAD
    assert e.x509_ids() == [WORKLOAD]
    e.await_file("svid_key.pem")
    inside = sorted(str(p.relative_to(e.root)) for p in e.root.rglob("*") if p.is_file())
    assert [p for p in inside if not p.startswith(("data/", "run/"))] == [
        "bootstrap.pem", "conf", "etc/hosts", "etc/nsswitch.conf", "spire-agent"]
    assert e.rss_kib() < 10 << 10
    print("RSS", e.rss_kib(), "KiB;", PROGRAM.stat().st_size, "bytes")
    assert e.stop() == 0


DNS = r"""
import os, socket, struct, sys
dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dns.bind(("0.0.0.0", 53))  # the loopback interface is down, as in a new enclave
if os.fork() == 0:
    while True:
        q, peer = dns.recvfrom(512)
        end = 12
        while q[end]:
            end += q[end] + 1
        question, kind = q[12:end + 5], q[end + 2]
        a = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([127, 0, 0, 9]) if kind == 1 else b""
        dns.sendto(q[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, len(a) > 0, 0, 0) + question + a, peer)
os.chroot(sys.argv[1])
os.chdir("/")
os.execve("/spire-agent", ["/spire-agent", "run", "-config", "/conf"], {})
"""


@pytest.mark.skipif(not may_change_root("--net", "--pid", "--fork"), reason="no right to make a network namespace")
def test_it_brings_the_loopback_up_and_asks_the_servers_of_names(world):
    nsm = module(world)
    server = world.server(plugins=nsm.plugin()).start()
    e = Image(world.dir / "e", server, nsm, address="spire.test")
    nsm.stop()
    nsm.socket = e.root / "nsm"
    nsm.start()
    (e.root / "etc").mkdir()
    (e.root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    # all of the namespace ends with its first process
    with open(e.log_path, "ab") as log:
        p = subprocess.Popen(["unshare", *(["--user", "--map-root-user"] if os.geteuid() else []), "--net", "--pid", "--fork",
                              "--kill-child", sys.executable, "-c", DNS, e.root], stdout=log, stderr=log)
    try:
        # nobody is there, but that address only the server of names knew
        e.await_log("Brought the loopback interface up")
        wait_for("the address", lambda: f"dial tcp 127.0.0.9:{server.port}: connect: connection refused" in e.log(), 20)
    finally:
        p.terminate()
        p.wait()
