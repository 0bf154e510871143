"""SVIDStore "disk" in the real agent: files that fit, are renewed, and go; programs that are told."""

import os
import signal
import stat
import subprocess
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from plugins import agent as plugin_agent, server as plugin_server
from spire import wait_for

W = "spiffe://example.org/w"


def store(folder, more=""):
    folder.mkdir(exist_ok=True)
    return f'SVIDStore "disk" {{\nplugin_data {{\ndirectory = "{folder}"\n{more}\n}}\n}}\n'


def join(world, server, *blocks):
    made = plugin_agent(world, server, *blocks)
    made.id = f"spiffe://{server.td}/spire/agent/join_token/{(token := server.token())}"
    return made.start("-joinToken", token)


def paths(folder, *more):
    return [f"disk:certchainfile:{folder}/tls.crt", f"disk:keyfile:{folder}/tls.key", f"disk:bundlefile:{folder}/ca.crt",
            *[f"disk:{m}" for m in more]]


def read(folder):
    """(leaf, roots) of the files, when the key fits the leaf."""
    leaf = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
    key = serialization.load_pem_private_key((folder / "tls.key").read_bytes(), None)
    assert key.public_key() == leaf.public_key()
    return leaf, x509.load_pem_x509_certificates((folder / "ca.crt").read_bytes())


def spiffe_id(leaf):
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def test_files_come_change_and_go(world, tmp_path):
    server = plugin_server(world).start()
    agent = join(world, server, store(tmp_path / "svids"))
    entry = server.entry(agent.id, W, *paths("web"), storeSVID=True)
    web, db = tmp_path / "svids" / "web", tmp_path / "svids" / "db"
    leaf, roots = wait_for("the files", lambda: read(web), 30)
    assert spiffe_id(leaf) == [W]
    assert [r.public_bytes(serialization.Encoding.PEM).decode() for r in roots] == [server.bundle_pem()]
    leaf.verify_directly_issued_by(roots[0])
    modes = {n: stat.S_IMODE((web / n).stat().st_mode) for n in ("tls.crt", "tls.key", "ca.crt")}
    assert modes == {"tls.crt": 0o644, "tls.key": 0o600, "ca.crt": 0o644}
    assert agent.x509_ids() == []
    # elsewhere
    args = [x for s in paths("db", f"gid:{os.getegid()}") for x in ("-selector", s)]
    server.cli("entry", "update", "-entryID", entry, "-spiffeID", W, "-parentID", agent.id, "-storeSVID", *args)
    wait_for("the new place", lambda: read(db), 30)
    wait_for("the old place to be empty", lambda: list(web.iterdir()) == [])
    assert stat.S_IMODE((db / "tls.key").stat().st_mode) == 0o640
    # after a restart
    before = read(db)[0]
    agent.restart()
    wait_for("a new SVID", lambda: read(db)[0].serial_number != before.serial_number, 30)
    server.cli("entry", "delete", "-entryID", entry)
    wait_for("no files", lambda: list(db.iterdir()) == [], 30)


def test_what_goes_while_no_agent_runs_is_deleted_by_the_next(world, tmp_path):
    server = plugin_server(world).start()
    agent = join(world, server, store(tmp_path / "svids"))
    gone = server.entry(agent.id, W + "/gone", *paths("gone"), storeSVID=True)
    server.entry(agent.id, W + "/stays", *paths("stays"), storeSVID=True)
    svids = tmp_path / "svids"
    before = [wait_for("the files", lambda n=n: read(svids / n), 30)[0].serial_number for n in ("gone", "stays")]
    agent.kill()
    server.cli("entry", "delete", "-entryID", gone)
    agent.start()
    wait_for("a new SVID", lambda: read(svids / "stays")[0].serial_number != before[1], 30)
    wait_for("no files", lambda: list((svids / "gone").iterdir()) == [])
    agent.await_log("SVID deleted successfully")
    assert stat.S_IMODE((agent.dir / "data" / "agent-stores.json").stat().st_mode) == 0o600


def test_a_pair_is_a_pair_through_renewals(world, tmp_path):
    """Who opens ..data once never reads a key that does not fit, while SVIDs live for seconds."""
    server = plugin_server(world).start()
    agent = join(world, server, store(tmp_path / "svids"))
    server.entry(agent.id, W, *paths("web"), storeSVID=True, x509SVIDTTL=8)
    web = tmp_path / "svids" / "web"
    wait_for("the files", lambda: read(web), 30)
    seen, wrong, done = set(), [], threading.Event()

    def look():
        while not done.is_set():
            fd = os.open(web / "..data", os.O_RDONLY | os.O_DIRECTORY)
            try:
                texts = []
                for name in ("tls.crt", "tls.key"):
                    with open(os.open(name, os.O_RDONLY, dir_fd=fd), "rb") as f:
                        texts.append(f.read())
            finally:
                os.close(fd)
            leaf = x509.load_pem_x509_certificate(texts[0])
            if serialization.load_pem_private_key(texts[1], None).public_key() != leaf.public_key():
                wrong.append(leaf.serial_number)
            seen.add(leaf.serial_number)
    reader = threading.Thread(target=look)
    reader.start()
    try:
        wait_for("three renewals", lambda: len(seen) > 3 or wrong or not reader.is_alive(), 60)
    finally:
        done.set()
        reader.join()
    assert len(seen) > 3 and not wrong
    # That before the last stays for who still reads it; an older one goes a moment after the link was changed.
    wait_for("two generations at the most", lambda: len(list(web.glob("..gen_*"))) <= 2)


def test_programs_are_told(world, tmp_path):
    # A shell cannot trap what its parent ignores, such as SIGHUP under nohup.
    sleeper = subprocess.Popen(["/bin/sh", "-c", "trap 'echo told >> told' HUP; echo up > up; while :; do sleep 0.05; done"],
                               cwd=tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    try:
        wait_for("the program", (tmp_path / "up").exists)
        (tmp_path / "pid").write_text(f"{sleeper.pid}\n")
        (tmp_path / "pid").chmod(0o644)
        script = tmp_path / "hook"
        script.write_text(f'#!/bin/sh\nls "$SVID_DIR" > {tmp_path}/ran.new && mv {tmp_path}/ran.new {tmp_path}/ran\n')
        script.chmod(0o755)
        server = plugin_server(world).start()
        hooks = f'hook "both" {{\ncommand = ["{script}"]\npid_file = "{tmp_path}/pid"\n}}\n'
        agent = join(world, server, store(tmp_path / "svids", hooks))
        server.entry(agent.id, W, *paths("web", "hook:both"), storeSVID=True)
        wait_for("the command", (tmp_path / "ran").exists, 30)
        wait_for("the signal", (tmp_path / "told").exists)
        assert (tmp_path / "ran").read_text().split() == ["ca.crt", "tls.crt", "tls.key"]
    finally:
        sleeper.send_signal(signal.SIGKILL)
        sleeper.wait()


def test_what_entries_cannot_do(world, tmp_path):
    """Paths outside, hooks that nobody configured, files of others: an error that names it, and nothing else suffers."""
    server = plugin_server(world).start()
    svids = tmp_path / "svids"
    agent = join(world, server, store(svids))
    (svids / "web").mkdir()
    (svids / "web" / "tls.key").write_text("theirs")
    server.entry(agent.id, W + "/1", *paths("../out"), storeSVID=True)
    server.entry(agent.id, W + "/2", *paths("/etc/out"), storeSVID=True)
    server.entry(agent.id, W + "/3", *paths("two", "hook:rm"), storeSVID=True)
    server.entry(agent.id, W + "/4", *paths("web"), storeSVID=True)
    server.entry(agent.id, W + "/5", *paths("good"), storeSVID=True)
    wait_for("the good one", lambda: read(svids / "good"), 30)
    for text in ('certchainfile \\"../out/tls.crt\\" is no path of a file', "is in none of the configured directories",
                 'hook \\"rm\\" is not configured', "tls.key is there and of somebody else"):
        agent.await_log(text)
    assert (svids / "web" / "tls.key").read_text() == "theirs"
    assert not (tmp_path / "out").exists() and not (svids / "two").exists()


@pytest.mark.parametrize("text,note", [
    ("", "directory must be configured"),
    ('directory = "/x"\nshell = true', 'unknown option \\"shell\\"'),
])
def test_a_bad_configuration_is_refused(world, tmp_path, text, note):
    server = plugin_server(world).start()
    block = f'SVIDStore "disk" {{\nplugin_data {{\n{text}\n}}\n}}\n'
    made = plugin_agent(world, server, block).spawn("-joinToken", "x")
    assert made.proc.wait(20) == 1
    assert f'failed to configure plugin \\"disk\\"' in made.log() and note in made.log()
