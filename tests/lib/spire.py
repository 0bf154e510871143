"""Starting servers and agents for tests: ours by default, any other directory of binaries on request.

Every process lives in its own temporary folder, listens on free ports, logs into that folder and is
ended with the test. Nothing here sleeps for a fixed time: waits are on conditions, with a limit.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

REPO = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("CSPIRE_BIN", REPO / "build" / "bin")).resolve()
UPSTREAM = pathlib.Path(os.environ["CSPIRE_UPSTREAM_BIN"]).resolve() if os.environ.get("CSPIRE_UPSTREAM_BIN") else None
# Sanitizers make everything slower; limits are multiplied by this.
PATIENCE = float(os.environ.get("CSPIRE_PATIENCE", "1"))


class Failed(AssertionError):
    pass


def wait_for(what, condition, limit=15.0, every=0.02):
    """Poll `condition` until it returns something true, and return that."""
    end = time.monotonic() + limit * PATIENCE
    last = None
    while time.monotonic() < end:
        try:
            result = condition()
            if result:
                return result
            last = result
        except (Failed, OSError, subprocess.SubprocessError, ValueError, LookupError) as err:
            last = err
        time.sleep(every)
    raise Failed(f"waited in vain for {what}; last: {last!r}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(argv, check=True, stdin=None, limit=30, env=None, preexec_fn=None):
    """Run a command to its end; returns the CompletedProcess with text output."""
    done = subprocess.run([str(a) for a in argv], input=stdin, capture_output=True, text=True, timeout=limit * PATIENCE,
                          env={**os.environ, **(env or {})}, preexec_fn=preexec_fn)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, argv))} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Daemon:
    """One spire-server or spire-agent."""

    program = ""

    def __init__(self, folder, bindir):
        self.dir = pathlib.Path(folder)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.bin = pathlib.Path(bindir or BIN)
        self.log_path = self.dir / "log"
        self.conf_path = self.dir / "conf"
        self.proc = None
        self.extra_args = []

    def spawn(self, *args):
        with open(self.log_path, "ab") as log:
            self.proc = subprocess.Popen([str(self.bin / self.program), "run", "-config", str(self.conf_path), *self.extra_args,
                                          *args], stdout=log, stderr=log, cwd=self.dir)
        return self

    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def await_ready(self, limit=20):
        def healthy():
            if not self.alive():
                raise Failed(f"{self.program} ended with {self.proc.returncode}:\n{self.log()}")
            return self.cli("healthcheck", check=False).returncode == 0
        try:
            wait_for(f"{self.program} to be healthy", healthy, limit)
        except Failed as err:
            raise Failed(f"{err}\n{self.log()[-4000:]}") from None
        return self

    def start(self, *args):
        return self.spawn(*args).await_ready()

    def stop(self, sig=signal.SIGTERM, limit=10):
        if self.proc is None:
            return None
        if self.proc.poll() is None:
            self.proc.send_signal(sig)
            try:
                self.proc.wait(limit * PATIENCE)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
                raise Failed(f"{self.program} did not end within {limit} s of signal {sig}:\n{self.log()[-3000:]}") from None
        code = self.proc.returncode
        self.proc = None
        return code

    def kill(self):
        if self.alive():
            self.proc.kill()
            self.proc.wait()
        self.proc = None

    def restart(self, *args, bindir=None):
        self.stop()
        if bindir is not None:
            self.bin = pathlib.Path(bindir)
        return self.start(*args)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def sanitizer_reports(self):
        """What a sanitizer had to say of this daemon, from its first word on."""
        text = self.log()
        found = re.search(r"(?:ERROR|WARNING): (?:Address|Leak|Thread)Sanitizer|runtime error: ", text)
        return [f"{self.program}: {text[max(0, found.start() - 200):found.start() + 4000]}"] if found else []

    def await_log(self, text, limit=15):
        wait_for(f"{text!r} in the log of {self.program}", lambda: text in self.log(), limit)

    def rss_kib(self):
        for line in open(f"/proc/{self.proc.pid}/smaps_rollup"):
            if line.startswith("Rss:"):
                return int(line.split()[1])
        return 0


SERVER_CONF = """
server {{
    bind_address = "127.0.0.1"
    bind_port = "{port}"
    socket_path = "{socket}"
    trust_domain = "{td}"
    data_dir = "{dir}/data"
    log_level = "DEBUG"
    {server}
}}
plugins {{
    DataStore "sql" {{
        plugin_data {{
            database_type = "sqlite3"
            connection_string = "{dir}/data/datastore.sqlite3"
        }}
    }}
    NodeAttestor "join_token" {{
        plugin_data {{}}
    }}
    KeyManager "disk" {{
        plugin_data {{
            keys_path = "{dir}/data/keys.json"
        }}
    }}
    {plugins}
}}
{top}
"""


class Server(Daemon):
    program = "spire-server"

    def __init__(self, folder, bindir=None, cli_bindir=None, td="example.org", server="", plugins="", top="", conf=None):
        super().__init__(folder, bindir)
        (self.dir / "data").mkdir(exist_ok=True)
        self.cli_bin = cli_bindir
        self.td = td
        self.port = free_port()
        self.socket = self.dir / "s.sock"
        text = (conf or SERVER_CONF).format(port=self.port, socket=self.socket, td=td, dir=self.dir, server=server,
                                            plugins=plugins, top=top)
        self.conf_path.write_text(text)

    def cli(self, *args, check=True, stdin=None, bindir=None):
        words = [a for a in args]
        at = next((i for i, w in enumerate(words) if str(w).startswith("-")), len(words))
        words[at:at] = ["-socketPath", str(self.socket)]
        return run([pathlib.Path(bindir or self.cli_bin or self.bin) / "spire-server", *words], check=check, stdin=stdin)

    def json(self, *args, **kw):
        return json.loads(self.cli(*args, "-output", "json", **kw).stdout)

    def token(self, spiffe_id=None, ttl=600):
        args = ["token", "generate", "-ttl", ttl]
        if spiffe_id:
            args += ["-spiffeID", spiffe_id]
        return self.json(*args)["value"]

    def entry(self, parent, spiffe_id, *selectors, **flags):
        args = ["entry", "create", "-parentID", parent, "-spiffeID", spiffe_id]
        for s in selectors or (f"unix:uid:{os.getuid()}",):
            args += ["-selector", s]
        for k, v in flags.items():
            for each in v if isinstance(v, (list, tuple)) else [v]:
                args += [f"-{k}"] if each is True else [f"-{k}", str(each)]
        result = self.json(*args)["results"][0]
        if result["status"]["code"] != 0:
            raise Failed(f"entry create: {result['status']}")
        return result["entry"]["id"]

    def agents(self):
        return self.json("agent", "list")["agents"]

    def agent_ids(self):
        return [f"spiffe://{a['id']['trust_domain']}{a['id']['path']}" for a in self.agents()]

    def bundle_pem(self):
        return self.cli("bundle", "show").stdout


AGENT_CONF = """
agent {{
    data_dir = "{dir}/data"
    log_level = "DEBUG"
    server_address = "127.0.0.1"
    server_port = "{port}"
    socket_path = "{socket}"
    trust_domain = "{td}"
    {trust}
    {agent}
}}
plugins {{
    NodeAttestor "join_token" {{
        plugin_data {{}}
    }}
    KeyManager "disk" {{
        plugin_data {{
            directory = "{dir}/data"
        }}
    }}
    WorkloadAttestor "unix" {{
        plugin_data {{
            {unix}
        }}
    }}
}}
{top}
"""


class Agent(Daemon):
    program = "spire-agent"

    def __init__(self, folder, server, bindir=None, cli_bindir=None, agent="", unix="", top="", trust=None):
        super().__init__(folder, bindir)
        (self.dir / "data").mkdir(exist_ok=True)
        self.server = server
        self.cli_bin = cli_bindir
        self.socket = self.dir / "public" / "a.sock"
        if trust is None:
            bundle = self.dir / "bootstrap.pem"
            bundle.write_text(server.bundle_pem())
            trust = f'trust_bundle_path = "{bundle}"'
        self.conf_path.write_text(AGENT_CONF.format(port=server.port, socket=self.socket, td=server.td, dir=self.dir,
                                                    trust=trust, agent=agent, unix=unix, top=top))
        self.id = None

    def join(self, spiffe_id=None):
        """Attest with a fresh join token and wait until healthy."""
        token = self.server.token(spiffe_id)
        self.id = f"spiffe://{self.server.td}/spire/agent/join_token/{token}"
        return self.start("-joinToken", token)

    def cli(self, *args, check=True, bindir=None, preexec_fn=None):
        words = [a for a in args]
        at = next((i for i, w in enumerate(words) if str(w).startswith("-")), len(words))
        words[at:at] = ["-socketPath", str(self.socket)]
        return run([pathlib.Path(bindir or self.cli_bin or self.bin) / "spire-agent", *words], check=check,
                   preexec_fn=preexec_fn)

    def fetch_x509(self, check=True, **kw):
        done = self.cli("api", "fetch", "x509", "-output", "json", check=check, **kw)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def x509_ids(self):
        got = self.fetch_x509(check=False)
        return sorted(s["spiffe_id"] for s in got["svids"]) if got else []

    def await_ids(self, *ids, limit=30):
        wait_for(f"the SVIDs {ids}", lambda: self.x509_ids() == sorted(ids), limit)

    def fetch_jwt(self, audience, check=True):
        done = self.cli("api", "fetch", "jwt", "-audience", audience, "-output", "json", check=check)
        return json.loads(done.stdout)[0]["svids"] if done.returncode == 0 else None
