"""What a bad plugin is answered with, at the start of a server and by `validate`: SPIRE's own texts, since people
search for them. Every case was recorded from spire-server and also holds for it (CSPIRE_BIN)."""

import os
import stat

import pytest

import spire
from plugins import Plugin, log_lines
from spire import wait_for

UNRECOGNIZED = 'failed to load plugin "x": failed to launch plugin: Unrecognized remote plugin message: '
NO_LINES = UNRECOGNIZED + "\nFailed to read any lines from plugin's stdout"
LAUNCH = 'failed to load plugin "x": failed to launch plugin: '
CONFIGURE = 'failed to configure plugin "x": '
MISSING = {"plugin_cmd": "/nonexistent/plugin"}

# name: (what the plugin or its block is, beginning of the error at the start)
PROGRAM = {
    "missing": (dict(options=MISSING), LAUNCH + "fork/exec /nonexistent/plugin: no such file or directory"),
    "a folder": (dict(options={"plugin_cmd": "/tmp"}), LAUNCH + "fork/exec /tmp: permission denied"),
    "not executable": (dict(file="x", mode=0o644), LAUNCH + "fork/exec {file}: permission denied"),
    "no interpreter": (dict(file="#!/nonexistent/interpreter\n"), LAUNCH + "fork/exec {file}: no such file or directory"),
    "no program": (dict(file="just text"), LAUNCH + "fork/exec {file}: exec format error"),
    "checksum wrong": (dict(options={"plugin_checksum": "0" * 64}), LAUNCH + "checksums did not match"),
    "checksum short": (dict(options={"plugin_checksum": "00" * 10}),
                       'failed to load plugin "x": expected checksum of length 64; got 20'),
    "checksum not hex": (dict(options={"plugin_checksum": "zz" * 32}),
                         'failed to load plugin "x": checksum is not a valid hex string'),
    "checksum of nothing": (dict(options={**MISSING, "plugin_checksum": "00" * 32}),
                            LAUNCH + "error verifying checksum: open /nonexistent/plugin: no such file or directory"),
}
HANDSHAKE = {
    "garbage": UNRECOGNIZED + "hello, I am no plugin",
    "empty": UNRECOGNIZED,
    "fields": UNRECOGNIZED + "1|1|unix",
    "binary": NO_LINES,
    "closed": NO_LINES,
    "exit": NO_LINES,
    "core": LAUNCH + "incompatible core API version with plugin. Plugin version: 2, Core version: 1",
    "version": LAUNCH + "incompatible API version with plugin. Plugin version: 2, Client versions: [1]",
    "number": LAUNCH + 'Error parsing protocol version "one"',
    "network": LAUNCH + "unknown address type: 127.0.0.1:1",
    "netrpc": LAUNCH + 'unsupported plugin protocol "netrpc". Supported: [grpc]',
    "old": LAUNCH + 'unsupported plugin protocol "netrpc". Supported: [grpc]',
    "services": 'failed to bind plugin "x": no supported plugin interface found in: ["made.up.Service" "made.up.Other"]',
    # of another kind than wanted: without services that are known, without configuration
    "cookie": 'failed to configure plugin "x": no supported configuration interface found',
    # nobody listens: words are each implementation's own
    "gone": 'failed to load plugin "x": ',
    "refused": 'failed to load plugin "x": ',
}
CONFIGURATION = {
    "refused": (dict(reject="no such luck"), CONFIGURE + "rpc error: code = InvalidArgument desc = no such luck"),
    "other code": (dict(faults={"Configure": {"do": "error", "text": "plain", "code": 2}}),
                   CONFIGURE + "rpc error: code = Unknown desc = plain"),
    "exit": (dict(faults={"Configure": {"do": "exit"}}), CONFIGURE),
    "panic": (dict(faults={"Configure": {"do": "panic", "text": "oops"}}), CONFIGURE),
    "not offered": (dict(flags=["unconfigured"]), CONFIGURE + "no supported configuration interface found"),
}
VALIDATE = {
    "good": (dict(), dict(), 0, "SPIRE server configuration file is valid.\n"),
    "notes": (dict(notes=["first", "second"]), dict(), 1, 'Validation errors:\n\tNotifier "x":\n\t\tfirst\n\t\tsecond\n'),
    "refused": (dict(reject="no such luck"), dict(), 1,
                '\tNotifier "x":\n\t\trpc error: code = InvalidArgument desc = no such luck\n'),
    "missing": (dict(), MISSING, 1, "Could not validate configuration file: " + PROGRAM["missing"][1]),
    "checksum": (dict(), {"plugin_checksum": "00"}, 1, "Could not validate configuration file: "
                 'failed to load plugin "x": expected checksum of length 64; got 2'),
    "no handshake": (dict(argv=["fault", "exit"]), dict(), 1, "Could not validate configuration file: " + NO_LINES),
    "services": (dict(argv=["fault", "services"]), dict(), 1, "Could not validate configuration file: " +
                 HANDSHAKE["services"]),
    "no data file": (dict(), {"file": "/nonexistent/data"}, 1, '\tNotifier "x":\n\t\tfailed to read plugin configuration: '
                     "open /nonexistent/data: no such file or directory\n"),
    "not offered": (dict(flags=["unconfigured"]), dict(), 0, "SPIRE server configuration file is valid.\n"),
    "disabled": (dict(), {**MISSING, "enabled": False}, 0, "SPIRE server configuration file is valid.\n"),
}


def fatal(world, block):
    """Start a server that cannot; the error it ends with."""
    server = world.server(plugins=block).spawn()
    assert server.proc.wait(20) == 1, server.log()
    lines = [line for line in log_lines(server.log()) if line["msg"] == "Server crashed"]
    assert len(lines) == 1, server.log()
    return server, lines[0]["error"]


@pytest.fixture
def x(plugins, tmp_path):
    return lambda **more: Plugin(plugins, tmp_path / "p", "server", "Notifier", "x", **more)


@pytest.mark.parametrize("case", PROGRAM)
def test_programs(world, x, tmp_path, case):
    how, wanted = PROGRAM[case]
    options, file = dict(how.get("options", {})), tmp_path / "file"
    if "file" in how:
        file.write_text(how["file"])
        os.chmod(file, how.get("mode", stat.S_IRWXU))
        options["plugin_cmd"] = file
    _, error = fatal(world, x().block(**options))
    assert error == wanted.format(file=file)


@pytest.mark.parametrize("case", HANDSHAKE)
def test_handshakes(world, x, case):
    server, error = fatal(world, x(argv=["fault", case]).block())
    assert error.startswith(HANDSHAKE[case])
    assert case != "exit" or "cannot start: there is no licence" in server.log()


@pytest.mark.parametrize("case", CONFIGURATION)
def test_configurations(world, x, case):
    how, wanted = CONFIGURATION[case]
    server, error = fatal(world, x(**how).block())
    assert error.startswith(wanted)
    if case == "panic":
        assert any(line["level"] == "error" and "panic on purpose: oops" in line["msg"] for line in log_lines(server.log()))


def test_a_kind_that_is_not_served(world, x):
    """The magic cookie tells the program that it is not wanted as that kind."""
    _, error = fatal(world, x(argv=["server", "KeyManager"]).block())
    assert error.startswith(NO_LINES)


@pytest.mark.parametrize("case", VALIDATE)
def test_validate(world, x, case):
    how, options, code, wanted = VALIDATE[case]
    plugin = x(**how)
    server = world.server(plugins=plugin.block(**options))
    done = spire.run([server.bin / "spire-server", "validate", "-config", server.conf_path], check=False)
    assert done.returncode == code and wanted in done.stdout + done.stderr, done.stdout + done.stderr
    wait_for("the plugin to end", lambda: not any(os.path.exists(f"/proc/{pid}") for pid in plugin.pids()))


# message: (level, fields) of lines that a plugin writes, the file descriptor or hclog's JSON
SAID = {
    "chatter of level debug": ("debug", {"number": "7", "text": "two words"}),
    "chatter of level info": ("info", {"flag": "true", "list": "[a b]"}),
    "chatter of level warn": ("warning", {"error": 'no "such" thing\nsecond line'}),
    "chatter of level error": ("error", {"float": "1.5"}),
    "chatter of a sub-logger": ("info", {"fixed": "yes"}),
    "chatter without form": ("debug", {}),
    "[WARN] chatter with a mark": ("warning", {}),
    "chatter without time": ("info", {}),
}


def test_what_a_plugin_says_is_in_the_log(world, x):
    server = world.server(plugins=x(chatter=True).block()).start()
    server.await_log("control")
    lines = {line["msg"]: line for line in log_lines(server.log()) if line.get("plugin_name") == "x"}
    for text, (level, fields) in SAID.items():
        line = lines[text]
        assert line["level"] == level, line
        assert (line["plugin_type"], line["external"]) == ("Notifier", "true")
        assert line["subsystem_name"].startswith("x.")
        for key, value in fields.items():
            assert line[key] == value, line
    assert "chatter of level trace" not in lines
    # a plugin cannot pass its fields off as ours, nor write to the terminal of whoever reads the log
    assert not any(ord(c) < 32 and c not in "\n\t" for c in server.log())
    assert lines["chatter of level error"]["plugin_name"] == "x"
