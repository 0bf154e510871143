"""The plugin kit in C as others would use it: installed into a folder, found by pkg-config, and the examples
built with nothing else."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess

import plugins
import spire

BUILD = spire.BIN.parent if (spire.BIN.parent / "CMakeCache.txt").exists() else spire.REPO / "build"
SECRET = "a secret of at least thirty-two bytes, of this node alone"


class Kit:
    """An installed kit, in a folder that may hold it already, and the paths of the examples' programs."""

    def __init__(self, folder):
        self.dir = pathlib.Path(folder)
        whole = self.dir / "whole"
        if not whole.exists():
            self.install()
        self.env = {**os.environ, "PKG_CONFIG_PATH": str(next(self.dir.glob("usr/lib*/**/pkgconfig"))),
                    # found without installing it into the system
                    "LDFLAGS": f"-Wl,-rpath,{self.libdir()}"}
        self.process = self.dir / "process" / "process"
        self.secret_server = self.dir / "shared-secret" / "shared-secret-server"
        self.secret_agent = self.dir / "shared-secret" / "shared-secret-agent"
        self.others = self.dir / "kit_program"
        self.authority = self.dir / "authority_program"
        self.built_ins = BUILD / "tests" / "suite_plugin"
        if not whole.exists():
            self.compile()
            whole.touch()

    def install(self):
        subprocess.run(["cmake", "--build", BUILD, "--target", "plugin-kit", "suite_plugin", "spire-server", "spire-agent"], check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run(["cmake", "--install", BUILD, "--prefix", self.dir / "usr"], check=True, stdout=subprocess.DEVNULL)

    def compile(self):
        for example in ("process", "shared-secret"):
            shutil.copytree(spire.REPO / "examples" / "plugins" / example, self.dir / example, dirs_exist_ok=True)
            subprocess.run(["make", "-s", "-B", "-C", self.dir / example], check=True, env=self.env)
        self.build(spire.REPO / "tests" / "suite" / "kit_program.c", self.others, "-pthread")
        self.build(spire.REPO / "tests" / "suite" / "authority_program.c", self.authority, "-pthread", libs=["libcrypto"])

    def libdir(self):
        return next(self.dir.glob("usr/lib*/**/libcspire-plugin.a")).parent

    def build(self, source, out, *options, compiler="cc", standard="-std=gnu11", static=False, libs=()):
        """Compiles one file against the kit."""
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", *(["--static"] if static else []), "cspire-plugin", *libs],
                               check=True, capture_output=True, text=True, env=self.env).stdout.split()
        if static:
            flags = [str(self.libdir() / "libcspire-plugin.a") if f == "-lcspire-plugin" else f for f in flags]
        subprocess.run([compiler, standard, "-Wall", "-Wextra", "-Werror", *options, "-o", out, source, self.env["LDFLAGS"], *flags],
                       check=True)
        return pathlib.Path(out)


def block(kind, name, program, data="", **options):
    """Text for a configuration."""
    lines = [f"{k} = {plugins.quoted(v)}" for k, v in {"plugin_cmd": program, "plugin_checksum": sha256(program), **options}.items()]
    if "plugin_data_file" not in options:
        lines.append("plugin_data {\n" + data + "\n}")
    return f'{kind} "{name}" {{\n' + "\n".join(lines) + "\n}\n"


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def secret_file(path, text=SECRET):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


def server(world, kit, **kw):
    """A server that knows nodes by their secrets, in the folder of the result's `secrets`."""
    secrets = world.dir / "secrets"
    secrets.mkdir(exist_ok=True)
    made = plugins.server(world, plugins=block("NodeAttestor", "shared_secret", kit.secret_server,
                                               f"secrets_dir = {json.dumps(str(secrets))}"), **kw)
    made.secrets = secrets
    return made.start()


def agent(world, kit, server, name="n1", secret=SECRET, workload=None, bindir=None):
    """An agent that proves to know its secret, and says which programs its workloads are."""
    file = secret_file(world.dir / f"{name}.secret", secret)
    attestor = block("NodeAttestor", "shared_secret", kit.secret_agent,
                     f'name = "{name}"\nsecret_file = {json.dumps(str(file))}')
    made = plugins.agent(world, server, name=name, attestor=attestor,
                         workload=workload or block("WorkloadAttestor", "process", kit.process))
    if bindir:
        made.bin = pathlib.Path(bindir)
    made.id = f"spiffe://{server.td}/spire/agent/shared_secret/{name}"
    return made


def alive(program):
    """pids of the processes that run this program."""
    found = []
    for exe in pathlib.Path("/proc").glob("[0-9]*/exe"):
        try:
            if os.readlink(exe) == str(program):
                found.append(int(exe.parent.name))
        except OSError:
            continue
    return found
