"""External plugins that lie, crash, hang and flood: the host survives and says what happened. Where SPIRE's own programs
differ on purpose (they never start a plugin again, and hand it their whole environment), the test says so."""

import os
import signal
import subprocess
import time

import pytest
from test_plugins import W, bundle, join, root_pem

import spire
from plugins import OWN_KEYS, UPSTREAM, Plugin, agent as plugin_agent, children, gone, log_lines, server as plugin_server
from spire import wait_for

ours_only = pytest.mark.skipif(UPSTREAM, reason="SPIRE never starts a plugin again")


@pytest.fixture
def make(plugins, tmp_path):
    return lambda *words, **data: Plugin(plugins, tmp_path / words[0], *words, **data)


def crash_error(server, limit=20):
    assert server.proc.wait(limit) == 1, server.log()
    return next(line["error"] for line in log_lines(server.log()) if line["msg"] == "Server crashed")


GENERATED = {
    "empty": 'keymanager(own): plugin response empty for key "x509-CA-A"',
    "other id": 'keymanager(own): plugin response has unexpected key id "somebody else\'s" for key "x509-CA-A"',
    "no id": 'keymanager(own): plugin response has unexpected key id "" for key "x509-CA-A"',
    "no pkix": 'keymanager(own): plugin response missing public key PKIX data for key "x509-CA-A"',
    "bad pkix": 'keymanager(own): unable to parse public key PKIX data for key "x509-CA-A": ',
    "no fingerprint": 'keymanager(own): fingerprint "" on key "x509-CA-A" does not match ',
    "oversize": "keymanager(own): ",
}
SIGNED = {
    "empty": "keymanager(own): plugin returned empty signature data",
    "other fingerprint": "keymanager(own): fingerprint ",
    "bad signature": "signature",
    "oversize": "",
}


@pytest.mark.parametrize("method,lie", [("GenerateKey", lie) for lie in GENERATED] + [("SignData", lie) for lie in SIGNED])
def test_key_manager_lies(world, make, method, lie):
    keys = make("server", "KeyManager", "own", faults={method: {"do": lie}})
    server = plugin_server(world, conf=OWN_KEYS, plugins=keys.block()).spawn()
    assert (GENERATED if method == "GenerateKey" else SIGNED)[lie] in crash_error(server)


MINTED = {
    "empty": "upstreamauthority(own): plugin response missing X.509 CA chain",
    "no chain": "upstreamauthority(own): plugin response missing X.509 CA chain",
    "no roots": "upstreamauthority(own): plugin response missing upstream X.509 roots",
    "nothing": "upstreamauthority(own): plugin closed stream unexpectedly",
    "bad certificate": "upstreamauthority(own): plugin response has malformed X.509 CA chain: ",
    "bad root": "upstreamauthority(own): plugin response has malformed upstream X.509 roots: ",
    "wrong key": "X509 CA minted by upstream authority is invalid",
    "oversize": "upstreamauthority(own): ",
    "error": "upstreamauthority(own): no way",
    "exit": "upstreamauthority(own): ",
}


@pytest.mark.parametrize("lie", MINTED)
def test_upstream_authority_lies(world, make, tmp_path, lie):
    root_pem(tmp_path / "root", "upstream root")
    up = make("server", "UpstreamAuthority", "own", root=tmp_path / "root",
              faults={"MintX509CAAndSubscribe": {"do": lie, "text": "no way"}})
    assert MINTED[lie] in crash_error(plugin_server(world, plugins=up.block()).spawn())


# lie: what the server's log says of it
ATTESTED = {
    "empty": "plugin response missing challenge or agent attributes",
    "nothing": "plugin closed stream unexpectedly",
    "no id": "plugin response missing agent ID",
    "other domain": "is not a member of trust domain",
    "the server": "gent ID cannot collide with the server ID",
    "no uri": "nvalid agent ID",
    "error": "no way",
    "oversize": "",
    "exit": "",
    "panic": "panic on purpose",
}


def test_node_attestor_lies(world, make):
    """All at one server, one after the other: none gets an agent in, none takes the server down."""
    made = {lie: make("server", "NodeAttestor", f"n{i}", rounds=1, faults={"Attest": {"do": lie, "text": "no way"}})
            for i, lie in enumerate(ATTESTED)}
    good = make("server", "NodeAttestor", "good", rounds=1)
    server = plugin_server(world, plugins="".join(p.block() for p in [*made.values(), good])).start()
    for i, (lie, text) in enumerate(ATTESTED.items()):
        before = len(server.log())
        partner = make("agent", "NodeAttestor", f"n{i}")
        agent = plugin_agent(world, server, attestor=partner.block(), name=f"agent{i}").spawn()
        wait_for(f"the server to speak of {lie!r}", lambda: text in server.log()[before:] and made[lie].calls("Attest"))
        wait_for(f"the agent to hear of {lie!r}", lambda: not agent.alive() or any(
            line["level"] in ("error", "warning") and "ttest" in line.get("error", "") for line in log_lines(agent.log())))
        agent.kill()
    assert server.agent_ids() == []
    partner = make("agent", "NodeAttestor", "good")
    plugin_agent(world, server, attestor=partner.block()).start()
    assert server.agent_ids() == ["spiffe://example.org/spire/agent/good/good"]
    if not UPSTREAM:
        assert server.rss_kib() < 120 * 1024


def test_too_many_selectors_of_a_node(world, make):
    """A million of them are not worth a crash; SPIRE takes them all."""
    theirs = make("server", "NodeAttestor", "n", faults={"Attest": {"do": "many selectors"}})
    server = plugin_server(world, plugins=theirs.block()).start()
    agent = plugin_agent(world, server, attestor=make("agent", "NodeAttestor", "n").block()).spawn()
    theirs.await_call("Attest")
    wait_for("an answer", lambda: server.agent_ids() or "n)" in server.log(), 30)
    agent.kill()
    server.cli("healthcheck")
    if not UPSTREAM:
        assert server.rss_kib() < 250 * 1024


@pytest.mark.parametrize("lie,text", [
    ("nothing", "nodeattestor(interop): plugin closed stream before returning attestation data"),
    ("empty", "nodeattestor(interop): plugin response missing attestation payload"),
    ("response first", "nodeattestor(interop): plugin response missing attestation payload"),
    ("error", "nodeattestor(interop): no way"),
    ("exit", "nodeattestor(interop): "),
    ("oversize", ""),
])
def test_agent_node_attestor_lies(world, make, lie, text):
    server = plugin_server(world, plugins=make("server", "NodeAttestor", "interop").block()).start()
    partner = make("agent", "NodeAttestor", "interop", faults={"AidAttestation": {"do": lie, "text": "no way"}})
    agent = plugin_agent(world, server, attestor=partner.block()).spawn()
    partner.await_call("AidAttestation")
    wait_for("the agent to say it", lambda: any(text in line["error"] for line in log_lines(agent.log()) if "error" in line))
    assert server.agent_ids() == []
    agent.kill()


def test_workload_attestor_lies(world, make, tmp_path):
    """All in one agent: what the others say of a process still counts. The large answers come once only, they take long."""
    server = plugin_server(world).start()
    lies = ["empty", "many", "oversize", "error", "exit", "panic"]
    made = [make("agent", "WorkloadAttestor", f"bad{i}", faults={"Attest": {
        "do": lie, "text": "no way", "once": tmp_path / lie if lie in ("many", "oversize") else ""}})
            for i, lie in enumerate(lies)]
    agent = join(world, server, *[p.block() for p in made])
    server.entry(agent.id, W)
    agent.await_ids(W)
    for i, lie in enumerate(lies):
        if lie in ("error", "exit", "panic"):
            assert f'workload attestor \\"bad{i}\\" failed' in agent.log() and f"workloadattestor(bad{i}): " in agent.log()
    assert (tmp_path / "many").exists() and (tmp_path / "oversize").exists()
    if not UPSTREAM:
        assert agent.rss_kib() < 150 * 1024


@pytest.mark.parametrize("method,lie,text", [
    ("ComposeWorkloadX509SVID", "error", "credentialcomposer(bad): no way"),
    ("ComposeWorkloadX509SVID", "bad oid", "credentialcomposer(bad): plugin returned invalid X509SVID attributes: "),
    ("ComposeWorkloadX509SVID", "exit", "credentialcomposer(bad): "),
    ("ComposeWorkloadJWTSVID", "error", "credentialcomposer(bad): no way"),
    ("ComposeWorkloadJWTSVID", "no sub", 'invalid JWT-SVID "sub" claim: expected "spiffe://example.org/w"'),
    ("ComposeWorkloadJWTSVID", "exit", "credentialcomposer(bad): "),
])
def test_composer_lies(world, make, method, lie, text):
    bad = make("server", "CredentialComposer", "bad", ou="x", oid="1.2.3.4", claim="c",
               faults={method: {"do": lie, "text": "no way"}})
    server = plugin_server(world, plugins=bad.block()).spawn()
    wait_for("the server to answer", lambda: server.cli("bundle", "count", check=False).returncode == 0)
    args = ["x509", "mint", "-spiffeID", W] if "X509" in method else ["jwt", "mint", "-spiffeID", W, "-audience", "a"]
    done = server.cli(*args, check=False)
    assert done.returncode == 1 and text in done.stdout + done.stderr
    assert server.cli("bundle", "count").returncode == 0


def test_a_composer_cannot_put_another_identity_into_a_certificate(world, make):
    bad = make("server", "CredentialComposer", "bad", ou="x", oid="1.2.3.4", claim="c",
               faults={"ComposeWorkloadX509SVID": {"do": "san"}})
    server = plugin_server(world, plugins=bad.block()).spawn()
    wait_for("the server to answer", lambda: server.cli("bundle", "count", check=False).returncode == 0)
    assert server.cli("x509", "mint", "-spiffeID", W, check=False).returncode == 1


# ---- Crashes and restarts ----

@ours_only
def test_a_killed_plugin_is_started_again_with_its_latest_configuration(world, make, tmp_path):
    server = plugin_server(world).start()
    one = make("agent", "WorkloadAttestor", "one")
    file = tmp_path / "data"
    file.write_text(one.data(selectors=["colour:blue"]))
    agent = join(world, server, one.block(file=file))
    file.write_text(one.data(selectors=["colour:red"]))
    agent.proc.send_signal(signal.SIGUSR1)
    agent.await_log("Plugin reconfigured")
    one.kill()
    wait_for("another process", lambda: len(one.pids()) == 2)
    server.entry(agent.id, W, "one:colour:red")
    agent.await_ids(W)
    said = [line for line in log_lines(agent.log()) if line.get("plugin_name") == "one" and
            line["level"] in ("error", "warning") and line["msg"] != "Plugin checksum not configured"]
    assert said, "nobody was told that the plugin had died"


@ours_only
def test_key_manager_crashes_and_the_server_goes_on(world, make, tmp_path):
    keys = make("server", "KeyManager", "own", keys=tmp_path / "keys",
                faults={"SignData": {"do": "exit", "after": 15, "once": tmp_path / "crashed"}})
    server = plugin_server(world, conf=OWN_KEYS, plugins=keys.block()).start()
    agent = join(world, server)
    server.entry(agent.id, W)
    agent.await_ids(W)
    for i in range(16):
        server.cli("x509", "mint", "-spiffeID", f"{W}{i}", check=False)
    wait_for("the crash", lambda: (tmp_path / "crashed").exists())
    wait_for("a signature after it", lambda: server.cli("x509", "mint", "-spiffeID", W, check=False).returncode == 0)
    assert len(keys.pids()) == 2 and len(bundle(server)) == 1
    assert any("exit status 7" in line.get("error", "") for line in log_lines(server.log())
               if line.get("plugin_name") == "own")


@ours_only
def test_upstream_authority_crashes_and_is_subscribed_to_again(world, make, tmp_path):
    root_pem(tmp_path / "root", "upstream root")
    up = make("server", "UpstreamAuthority", "own", root=tmp_path / "root", next_root=tmp_path / "later")
    server = plugin_server(world, plugins=up.block(), server='ca_ttl = "60s"').start()
    up.kill()
    wait_for("another process", lambda: len(up.pids()) == 2)
    root_pem(tmp_path / "later", "second root")
    wait_for("the next CA, and with it the pushed root", lambda: len(bundle(server)) == 2, 80)


@ours_only
def test_a_plugin_that_always_dies_is_started_less_and_less_often(world, make):
    n = make("server", "Notifier", "one")
    server = plugin_server(world, plugins=n.block()).start()
    began = time.monotonic()
    while time.monotonic() < began + 6:
        if not gone(n.pids()[-1]):
            n.kill()
        time.sleep(0.05)
    assert 2 <= len(n.pids()) <= 8, "no pause between starts, or no start at all"
    server.cli("healthcheck")


def test_a_call_that_hangs_holds_up_nobody_else(world, make):
    theirs = make("server", "NodeAttestor", "n", faults={"Attest": {"do": "hang"}})
    server = plugin_server(world, plugins=theirs.block()).start()
    stuck = plugin_agent(world, server, attestor=make("agent", "NodeAttestor", "n").block(), name="stuck").spawn()
    theirs.await_call("Attest")
    agent = join(world, server)
    server.entry(agent.id, W)
    agent.await_ids(W)
    stuck.kill()
    agent.stop()
    began = time.monotonic()
    server.stop(limit=20)
    assert time.monotonic() - began < 18 and gone(theirs.pids()[0])


@pytest.mark.skipif(UPSTREAM, reason="SPIRE waits for ever")
def test_a_configuration_that_hangs_can_be_interrupted(world, make):
    n = make("server", "Notifier", "one", faults={"Configure": {"do": "hang"}})
    server = plugin_server(world, plugins=n.block()).spawn()
    n.await_call("Configure")
    server.stop(limit=15)
    assert gone(n.pids()[0])


@pytest.mark.skipif(UPSTREAM, reason="SPIRE waits for ever")
@pytest.mark.parametrize("kind,method", [("KeyManager", "GenerateKey"), ("UpstreamAuthority", "MintX509CAAndSubscribe"),
                                         ("CredentialComposer", "ComposeServerX509CA"), ("Notifier", "NotifyAndAdvise"),
                                         ("BundlePublisher", "PublishBundle")])
def test_a_start_that_hangs_can_be_interrupted(world, make, tmp_path, kind, method):
    root_pem(tmp_path / "root", "upstream root")
    p = make("server", kind, "own", root=tmp_path / "root", faults={method: {"do": "hang"}})
    server = plugin_server(world, plugins=p.block(), **({"conf": OWN_KEYS} if kind == "KeyManager" else {})).spawn()
    p.await_call(method)
    server.stop(limit=15)
    assert gone(p.pids()[0])


@ours_only
def test_a_composer_that_hangs_holds_up_those_who_need_it(world, make):
    """And nobody else: whatever is not signed goes on, and so does the end."""
    bad = make("server", "CredentialComposer", "bad", ou="x", oid="1.2.3.4", claim="c",
               faults={"ComposeWorkloadX509SVID": {"do": "hang"}})
    server = plugin_server(world, plugins=bad.block()).spawn()
    wait_for("the server to answer", lambda: server.cli("bundle", "count", check=False).returncode == 0)
    stuck = [subprocess.Popen([server.bin / "spire-server", "x509", "mint", "-spiffeID", f"{W}{i}", "-socketPath",
                               server.socket], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for i in range(8)]
    bad.await_call("ComposeWorkloadX509SVID")
    agent = join(world, server)
    server.entry(agent.id, "spiffe://example.org/x")
    server.cli("jwt", "mint", "-spiffeID", W, "-audience", "a")
    agent.stop()
    for proc in stuck:
        proc.kill()
        proc.wait()
    began = time.monotonic()
    server.stop(limit=20)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("how", ["hangs in Deinit", "stubborn"])
def test_a_plugin_that_does_not_go_is_made_to(world, make, how):
    n = make("server", "Notifier", "one", flags=["stubborn"] if how == "stubborn" else [],
             faults={} if how == "stubborn" else {"Close": {"do": "hang"}})
    server = plugin_server(world, plugins=n.block()).start()
    server.stop(limit=20)
    assert gone(n.pids()[0])


# ---- Floods ----

@pytest.mark.parametrize("how", ["flood", "flood stdio", pytest.param("stdout", marks=pytest.mark.skipif(
    UPSTREAM, reason="SPIRE stops reading at a long line, and the plugin stands still"))])
def test_floods_are_bounded(world, make, how):
    """Written as fast as the host reads for two seconds, while configured: memory and log stay small, nobody hangs."""
    n = make("server", "Notifier", "one", faults={"Configure": {"do": how, "ms": 2000}})
    server = plugin_server(world, plugins=n.block()).spawn()
    n.await_call("Configure")
    peak = 0
    def over():
        nonlocal peak
        peak = max(peak, server.rss_kib())
        return server.cli("healthcheck", check=False).returncode == 0
    wait_for("the end of the flood", over, 60)
    n.await_call("NotifyAndAdvise")
    if not UPSTREAM:
        assert peak < 64 * 1024, f"{peak} KiB"
        assert len(server.log()) < 8 << 20, f"a log of {len(server.log())} bytes"


# ---- Processes, files, environment ----

def test_nothing_is_left(world, make, monkeypatch):
    """No zombies while it runs, no processes and no sockets or folders after it ended."""
    temporary = world.dir / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    made = [make("server", "Notifier", f"n{i}") for i in range(3)]
    dies = make("server", "BundlePublisher", "dies", path=world.dir / "bundle")
    server = plugin_server(world, plugins="".join(p.block() for p in [*made, dies])).start()
    pids = [p for m in made for p in m.pids()]
    dead = dies.pids()[0]
    dies.kill()
    wait_for("the dead plugin to be reaped", lambda: gone(dead))
    assert [state for _, state in children(server.proc.pid) if state == "Z"] == []
    server.stop()
    wait_for("the plugins to end", lambda: all(gone(p) for p in pids))
    left = sorted(p.name for p in temporary.rglob("*"))
    # a plugin that was killed leaves its socket to its host: SPIRE does not take it away
    assert left == [] or UPSTREAM and len(left) == 1


def test_plugins_end_with_a_killed_host(world, make):
    n = make("server", "Notifier", "one", flags=["stubborn"])
    server = plugin_server(world, plugins=n.block()).start()
    server.kill()
    wait_for("the plugin to end", lambda: gone(n.pids()[0]))


def test_environment(world, make, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "s3cret")
    monkeypatch.setenv("CSPIRE_TEST_TOKEN", "s3cret")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    n = make("server", "Notifier", "one")
    plugin_server(world, plugins=n.block()).start()
    env = n.lines("starts")[0]["env"]
    assert {"AWS_REGION", "PATH", "Notifier"} <= set(env)
    assert UPSTREAM or not {"DB_PASSWORD", "CSPIRE_TEST_TOKEN"} & set(env)


def test_descriptors_of_the_host_are_not_the_plugins(world, make):
    n = make("server", "Notifier", "one")
    server = plugin_server(world, plugins=n.block()).start()
    held = [os.readlink(f"/proc/{n.pids()[0]}/fd/{fd}") for fd in os.listdir(f"/proc/{n.pids()[0]}/fd")]
    assert not any(str(server.dir) in target for target in held), held


def test_a_plugin_that_is_not_needed_for_an_answer_may_be_dead(world, make):
    """A dead notifier does not take the server with it."""
    n = make("server", "Notifier", "one")
    server = plugin_server(world, plugins=n.block()).start()
    n.kill()
    wait_for("the plugin to end", lambda: gone(n.pids()[0]))
    server.cli("healthcheck")
    assert spire.run([server.bin / "spire-server", "validate", "-config", server.conf_path]).returncode == 0
