"""Plugins written with the kit in C, loaded by our own programs; tests/upstream has the same with SPIRE's."""

import os
import pathlib
import signal
import subprocess

import pytest

import kit as k
import kitstories
from spire import BIN, wait_for


@pytest.mark.parametrize("story", kitstories.STORIES, ids=lambda s: s.__name__)
def test_kit(world, kit, story, monkeypatch):
    kitstories.own_sockets(world, monkeypatch)
    story(world, kit, BIN, BIN)


def test_a_crashed_plugin_comes_back(world, kit):
    """SPIRE lets it lie; ours starts it again, configured as it was."""
    server = k.server(world, kit)
    k.secret_file(server.secrets / "n1")
    agent = k.agent(world, kit, server).start()
    server.entry(agent.id, kitstories.W, f"process:exe:{kitstories.workload_program(agent)}")
    agent.await_ids(kitstories.W)
    for child in (kit.process, kit.secret_server):
        old = k.alive(child)
        os.kill(old[0], signal.SIGKILL)
        wait_for("a new process", lambda: k.alive(child) and k.alive(child) != old)
    agent.await_ids(kitstories.W)
    second = k.agent(world, kit, server, name="n2")
    k.secret_file(server.secrets / "n2")
    second.start()
    assert sorted(server.agent_ids()) == sorted([agent.id, second.id])


def test_by_hand(kit):
    """Whoever runs a plugin is told what it is, on standard error, and nothing else happens."""
    done = subprocess.run([kit.secret_server], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[0] == ("shared-secret-server is a NodeAttestor plugin: a SPIRE server starts it, "
                                           "it does nothing when started by hand.")
    assert 'NodeAttestor "NAME" {' in done.stderr


def host(kit, tmp_path, *before, **env):
    """A process of the test's own as host, which knows go-plugin's start."""
    proc = subprocess.Popen([*before, kit.process], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "WorkloadAttestor": "WorkloadAttestor", "TMPDIR": str(tmp_path), **env})
    return proc


def test_handshake_and_signals(kit, tmp_path):
    proc = host(kit, tmp_path, PLUGIN_PROTOCOL_VERSIONS="1")
    parts = proc.stdout.readline().rstrip("\n").split("|")
    assert parts[:3] == ["1", "1", "unix"] and parts[4:] == ["grpc", ""]
    socket = pathlib.Path(parts[3])
    assert socket.is_socket() and socket.parent.parent == tmp_path
    assert socket.stat().st_mode & 0o777 == 0o600 and socket.parent.stat().st_mode & 0o777 == 0o700
    proc.send_signal(signal.SIGINT)
    proc.send_signal(signal.SIGTERM)
    assert proc.wait(10) == 0
    assert list(tmp_path.iterdir()) == []
    assert proc.stdout.read() == "" and proc.stderr.read() == ""


def test_multiplexing_is_declined(kit, tmp_path):
    proc = host(kit, tmp_path, PLUGIN_MULTIPLEX_GRPC="true")
    assert proc.stdout.readline().endswith("|grpc||false\n")
    proc.terminate()
    assert proc.wait(10) == 0


def test_automtls_is_declined(kit, tmp_path):
    proc = host(kit, tmp_path, PLUGIN_CLIENT_CERT="-----BEGIN CERTIFICATE-----")
    out, err = proc.communicate(timeout=10)
    assert (proc.returncode, out) == (1, "")
    assert err == "process: the host asks for AutoMTLS (PLUGIN_CLIENT_CERT), which this plugin does not speak\n"
    assert list(tmp_path.iterdir()) == []


def test_other_protocol_version(kit, tmp_path):
    """As go-plugin's own plugins: the answer is what we speak, and the host says that it does not fit."""
    proc = host(kit, tmp_path, PLUGIN_PROTOCOL_VERSIONS="2,3")
    assert proc.stdout.readline().startswith("1|1|unix|")
    assert "the host speaks plugin protocol 2,3, this plugin speaks 1" in proc.stderr.readline()
    proc.terminate()
    assert proc.wait(10) == 0


def test_ends_with_its_parent(kit, tmp_path):
    """A shell in between that is killed, while all pipes stay open."""
    proc = host(kit, tmp_path, "sh", "-c", '"$0" & echo $!; wait')
    pid = int(proc.stdout.readline())
    assert proc.stdout.readline().startswith("1|1|unix|")
    proc.kill()
    proc.wait()
    wait_for("the end of the plugin", lambda: not pathlib.Path(f"/proc/{pid}/exe").exists())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["stdout", "stderr"])
def test_ends_when_nobody_reads(kit, tmp_path, end):
    """A host whose process lives on, but not its end of a pipe."""
    proc = host(kit, tmp_path)
    proc.stdout.readline()
    getattr(proc, end).close()
    assert proc.wait(10) == 0
    assert list(tmp_path.iterdir()) == []


def test_too_long_a_path(kit, tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    proc = host(kit, tmp_path, PLUGIN_UNIX_SOCKET_DIR=str(long))
    out, err = proc.communicate(timeout=10)
    assert (proc.returncode, out) == (1, "")
    assert "would be too long" in err


def test_compiles_alone(kit, tmp_path):
    """The header needs nothing, as C11, C17 and C++; and the library exports nothing but its own names."""
    source = tmp_path / "x.c"
    source.write_text('#include <cspire/plugin.h>\nint main(void) { return cspire_plugin_version()[0] == 0; }\n')
    for n, (compiler, standard) in enumerate([("cc", "-std=c11"), ("cc", "-std=c17"), ("c++", "-std=c++11"), ("c++", "-std=c++20")]):
        program = tmp_path / str(n)
        copy = tmp_path / f"x{n}.{'cc' if compiler == 'c++' else 'c'}"
        copy.write_text(source.read_text())
        kit.build(copy, program, "-pedantic", compiler=compiler, standard=standard)
        assert subprocess.run([program]).returncode == 0
    kit.build(source, tmp_path / "static", static=True)
    assert subprocess.run([tmp_path / "static"]).returncode == 0
    assert "libcspire" not in subprocess.run(["ldd", tmp_path / "static"], capture_output=True, text=True).stdout
    names = subprocess.run(["nm", "-D", "--defined-only", next(kit.libdir().glob("libcspire-plugin.so.0"))],
                           capture_output=True, text=True, check=True).stdout.split()[2::3]
    assert len(names) > 35 and all(n.startswith(("cspire_", "CSPIRE_PLUGIN_0")) for n in names)
    names = subprocess.run(["nm", "--defined-only", "-g", kit.libdir() / "libcspire-plugin.a"],
                           capture_output=True, text=True, check=True).stdout.split("\n")
    assert all(line.split()[2].startswith("cspire_") for line in names if len(line.split()) == 3)


@pytest.mark.parametrize("cgroup,unit", [
    ("/system.slice/web.service", "web.service"),
    ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
    ("/system.slice/a.service/web.service", "a.service"),  # made by a.service in what was delegated to it
    ("/system.slice/docker-0a1b.scope/x", "docker-0a1b.scope"),
    ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", ""),  # of a user's own systemd
    ("/system.slice", ""), ("/system.slice/", ""), ("/system.slice//x", ""), ("/system.slice/x.slice", ""),
    ("/", ""), ("", ""), ("/../system.slice/web.service", "")])
def test_units_of_the_process_example(kit, tmp_path, cgroup, unit):
    program = tmp_path / "unit.c"
    program.write_text(f'''#define main example
#include "{kit.dir}/process/process.c"
#undef main
int main(int argc, char **argv)
{{
    size_t len = 0;
    const char *unit = argc == 2 ? unit_of(argv[1], &len) : NULL;
    printf("%.*s", unit != NULL ? (int)len : 0, unit != NULL ? unit : "");
    return 0;
}}
''')
    kit.build(program, tmp_path / "unit", "-Wno-unused-function", libs=["libcrypto"])
    assert subprocess.run([tmp_path / "unit", cgroup], capture_output=True, text=True).stdout == unit
