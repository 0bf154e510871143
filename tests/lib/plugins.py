"""External plugins for tests: configuration of the Go plugins of tests/interop/plugins, and what they wrote down."""

import json
import os
import pathlib
import re
import signal

import spire
from spire import wait_for

# A KeyManager of the test's own instead of the one on disk.
OWN_KEYS = spire.SERVER_CONF[:spire.SERVER_CONF.index('    KeyManager "disk"')] + "    {plugins}\n}}\n{top}\n"

AGENT_CONF = """
agent {{
    data_dir = "{dir}/data"
    log_level = "DEBUG"
    server_address = "127.0.0.1"
    server_port = "{port}"
    socket_path = "{socket}"
    trust_domain = "{td}"
    trust_bundle_path = "{dir}/bootstrap.pem"
    {agent}
    experimental {{
        sync_interval = "1s"
    }}
}}
plugins {{
    {plugins}
}}
"""
JOIN = 'NodeAttestor "join_token" { plugin_data {} }'
DISK = 'KeyManager "disk" {{ plugin_data {{ directory = "{dir}/data" }} }}'
UNIX = 'WorkloadAttestor "unix" { plugin_data {} }'


class PluginAgent(spire.Agent):
    """An agent whose plugins are all the test's: pass texts for those that are not the usual ones."""

    def __init__(self, folder, server, plugins, attestor=JOIN, keys=None, workload=UNIX, agent=""):
        super().__init__(folder, server)
        text = "\n    ".join([attestor, keys or DISK.format(dir=self.dir), workload, *plugins])
        self.conf_path.write_text(AGENT_CONF.format(port=server.port, socket=self.socket, td=server.td, dir=self.dir,
                                                    agent=agent, plugins=text))


def agent(world, server, *plugins, name="agent", **kw):
    made = PluginAgent(world.dir / name, server, plugins, **kw)
    world.made.append(made)
    return made


def server(world, *args, server="", **kw):
    """A server that sees its own changes at once, so that tests need not wait for them."""
    return world.server(*args, server='experimental {\n        cache_reload_interval = "1s"\n    }\n    ' + server, **kw)


def quoted(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(quoted, value)) + "]"
    return str(value) if isinstance(value, int) else json.dumps(str(value))


def is_go(program):
    """SPIRE's own programs are of Go; the few differences on purpose hang on this."""
    return b"\xff Go buildinf:" in pathlib.Path(program).read_bytes()


UPSTREAM = (spire.BIN / "spire-server").exists() and is_go(spire.BIN / "spire-server")


class Plugin:
    """One external plugin: its block in a configuration, its journal, its processes."""

    def __init__(self, binary, under, program, kind, name, faults=None, flags=(), argv=None, **data):
        self.binary, self.program, self.kind, self.name = pathlib.Path(binary), program, kind, name
        self.dir = pathlib.Path(under) / f"{kind}-{name}"
        self.dir.mkdir(parents=True)
        self.argv = argv or [program, kind, f"starts={self.dir}", *flags]
        self.faults = faults or {}
        self.fields = {"journal": self.dir / "journal", "name": name, **data}

    def data(self, **changes):
        lines = [f"{k} = {quoted(v)}" for k, v in {**self.fields, **changes}.items()]
        for method, f in self.faults.items():
            lines.append(f'fault "{method}" {{\n' + "\n".join(f"{k} = {quoted(v)}" for k, v in f.items()) + "\n}")
        return "\n".join(lines) + "\n"

    def block(self, data=None, file=None, **options):
        """Text for the configuration; options: plugin_checksum, enabled, plugin_cmd."""
        lines = [f"{k} = {quoted(v)}" for k, v in {"plugin_cmd": self.binary, "plugin_args": self.argv, **options}.items()]
        if file:
            lines.append(f"plugin_data_file = {quoted(file)}")
        else:
            lines.append("plugin_data {\n" + (self.data() if data is None else data) + "}")
        return f'{self.kind} "{self.name}" {{\n' + "\n".join(lines) + "\n}\n"

    def lines(self, file="journal"):
        path = self.dir / file
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def calls(self, method):
        return [line for line in self.lines() if line["call"] == method]

    def await_call(self, method, accept=lambda line: True, limit=15):
        return wait_for(f"{method} in the journal of {self.name}",
                        lambda: next((c for c in self.calls(method) if accept(c)), None), limit)

    def pids(self):
        return [start["pid"] for start in self.lines("starts")]

    def kill(self):
        os.kill(self.pids()[-1], signal.SIGKILL)


def gone(pid):
    return not pathlib.Path(f"/proc/{pid}").exists()


def children(pid):
    """(pid, state) of the direct children of a process."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append((int(stat.parent.name), fields[0]))
    return found


LINE = re.compile(r'(?:^| )([^ =]+)=("(?:[^"\\]|\\.)*"|\S*)')


def log_lines(text):
    """Lines of a log as maps of their fields; those without a level are left out."""
    out = []
    for line in text.splitlines():
        fields = {k: json.loads(v) if v.startswith('"') and "\\x" not in v else v.strip('"') for k, v in LINE.findall(line)}
        if "level" in fields and "msg" in fields:
            out.append(fields)
    return out
