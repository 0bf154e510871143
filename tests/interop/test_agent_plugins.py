"""What the agent does with external plugins: entries with storeSVID, keys that are elsewhere, plugins that hang. Where
SPIRE's own agent does the same, the test also holds for it (CSPIRE_BIN)."""

import signal
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from plugins import UPSTREAM, Plugin, agent as plugin_agent, gone, server as plugin_server
from spire import wait_for

W = "spiffe://example.org/w"
OURS = pytest.mark.skipif(UPSTREAM, reason="SPIRE is known to behave otherwise")


@pytest.fixture
def make(plugins, tmp_path):
    return lambda *words, **data: Plugin(plugins, tmp_path / words[0], *words, **data)


def join(world, server, *more, **kw):
    made = plugin_agent(world, server, *more, **kw)
    made.id = f"spiffe://{server.td}/spire/agent/join_token/{(token := server.token())}"
    return made.start("-joinToken", token)


def puts(store):
    return [(c["id"].rsplit("/", 1)[1], c["metadata"], c["federated"]) for c in store.calls("PutX509SVID")]


def update(server, entry, spiffe_id, parent, *selectors, **flags):
    args = ["entry", "update", "-entryID", entry, "-spiffeID", spiffe_id, "-parentID", parent, "-storeSVID"]
    for s in selectors:
        args += ["-selector", s]
    for k, v in flags.items():
        args += [f"-{k}", str(v)]
    server.cli(*args)


def root_of(server):
    return x509.load_pem_x509_certificate(server.bundle_pem().encode()).public_bytes(serialization.Encoding.DER)


# ---- Stores ----

def test_what_is_stored_and_what_is_not(world, make, tmp_path):
    """Entries of two stores, of none, of two at once; the Workload API has none of them."""
    server = plugin_server(world).start()
    one = make("agent", "SVIDStore", "one", folder=tmp_path / "one")
    two = make("agent", "SVIDStore", "two", folder=tmp_path / "two")
    agent = join(world, server, one.block(), two.block())
    server.entry(agent.id, W)
    server.entry(agent.id, "spiffe://example.org/a", "one:name:a", "one:size:9", storeSVID=True)
    server.entry(agent.id, "spiffe://example.org/b", "two:name:b", storeSVID=True)
    server.entry(agent.id, "spiffe://example.org/c", "three:name:c", storeSVID=True)
    agent.await_ids(W)
    one.await_call("PutX509SVID", limit=30)
    two.await_call("PutX509SVID", limit=30)
    assert [(i, sorted(m), f) for i, m, f in puts(one)] == [("a", ["name:a", "size:9"], [])]
    assert puts(two) == [("b", ["name:b"], [])]
    agent.await_log("Error storing SVID: SVIDStore not found")
    for said in ("SVID stored successfully", "Entry created"):
        agent.await_log(said)
    assert agent.x509_ids() == [W]
    # SPIRE's server refuses selectors of two types for such an entry, as ours does
    done = server.cli("entry", "create", "-parentID", agent.id, "-spiffeID", W, "-storeSVID", "-selector", "one:name:x",
                      "-selector", "two:name:x", check=False)
    assert done.returncode != 0 and "selector types must be the same when store SVID is enabled" in done.stdout + done.stderr


def test_each_change_reaches_the_store(world, make, tmp_path):
    server = plugin_server(world).start()
    far = plugin_server(world, "far", td="far.test").start()
    pem = world.dir / "far.pem"
    pem.write_text(far.bundle_pem())
    server.cli("bundle", "set", "-id", "spiffe://far.test", "-path", pem)
    store = make("agent", "SVIDStore", "shelf", folder=tmp_path / "shelf")
    agent = join(world, server, store.block())
    entry = server.entry(agent.id, W, "shelf:name:one", storeSVID=True)
    store.await_call("PutX509SVID", limit=30)
    # federation
    update(server, entry, W, agent.id, "shelf:name:one", federatesWith="spiffe://far.test")
    store.await_call("PutX509SVID", lambda c: c["federated"] == ["spiffe://far.test"], 30)
    # a new root of theirs
    der = tmp_path / "shelf" / "one" / "federated.far.test.der"
    wait_for("their root", lambda: der.exists() and der.read_bytes() == root_of(far))
    second = plugin_server(world, "other", td="far.test").start()
    pem.write_text(far.bundle_pem() + second.bundle_pem())
    server.cli("bundle", "set", "-id", "spiffe://far.test", "-path", pem)
    both = sorted([root_of(far), root_of(second)])
    wait_for("both roots", lambda: der.read_bytes() in (both[0] + both[1], both[1] + both[0]), 30)
    # another place: the old one is cleaned first
    update(server, entry, W, agent.id, "shelf:name:two")
    store.await_call("PutX509SVID", lambda c: c["metadata"] == ["name:two"], 30)
    assert [c["metadata"] for c in store.calls("DeleteX509SVID")] == [["name:one"]]
    wait_for("the old files to go", lambda: not (tmp_path / "shelf" / "one").exists())
    # after a restart everything is put again
    before = len(puts(store))
    agent.restart()
    wait_for("a put after the restart", lambda: len(puts(store)) > before, 30)
    assert puts(store)[-1] == ("w", ["name:two"], [])
    server.cli("entry", "delete", "-entryID", entry)
    store.await_call("DeleteX509SVID", lambda c: c["metadata"] == ["name:two"], 30)
    agent.await_log("SVID deleted successfully")


def test_what_fails_is_tried_again(world, make, tmp_path):
    server = plugin_server(world).start()
    store = make("agent", "SVIDStore", "shelf", folder=tmp_path / "shelf",
                 faults={"PutX509SVID": {"do": "error", "text": "shelf is full", "code": 14, "once": tmp_path / "put"},
                         "DeleteX509SVID": {"do": "error", "text": "shelf is stuck", "once": tmp_path / "delete"}})
    agent = join(world, server, store.block())
    entry = server.entry(agent.id, W, "shelf:name:db", storeSVID=True)
    wait_for("a second try", lambda: len(puts(store)) == 2, 40)
    agent.await_log("Failed to put X509-SVID")
    agent.await_log("rpc error: code = Unavailable desc = svidstore(shelf): shelf is full")
    wait_for("the files", (tmp_path / "shelf" / "db" / "svid.pem").exists)
    server.cli("entry", "delete", "-entryID", entry)
    wait_for("a second try", lambda: len(store.calls("DeleteX509SVID")) == 2, 40)
    agent.await_log("rpc error: code = Internal desc = svidstore(shelf): shelf is stuck")
    wait_for("the files to go", lambda: not (tmp_path / "shelf" / "db").exists())


@OURS
def test_a_store_that_hangs_holds_up_nobody(world, make, tmp_path):
    server = plugin_server(world).start()
    stuck = make("agent", "SVIDStore", "stuck", folder=tmp_path / "stuck", faults={"PutX509SVID": {"do": "hang"}})
    good = make("agent", "SVIDStore", "good", folder=tmp_path / "good")
    agent = join(world, server, stuck.block(), good.block())
    server.entry(agent.id, "spiffe://example.org/s", "stuck:name:s", storeSVID=True)
    stuck.await_call("PutX509SVID", limit=30)
    server.entry(agent.id, "spiffe://example.org/g", "good:name:g", storeSVID=True)
    server.entry(agent.id, W)
    good.await_call("PutX509SVID", limit=15)
    agent.await_ids(W, limit=15)
    assert len(stuck.calls("PutX509SVID")) == 1


@OURS
def test_a_dead_store_is_told_all_when_it_is_back(world, make, tmp_path):
    server = plugin_server(world).start()
    store = make("agent", "SVIDStore", "shelf", folder=tmp_path / "shelf",
                 faults={"PutX509SVID": {"do": "exit", "once": tmp_path / "once"}})
    agent = join(world, server, store.block())
    server.entry(agent.id, W, "shelf:name:db", storeSVID=True)
    wait_for("the files", (tmp_path / "shelf" / "db" / "svid.pem").exists, 60)
    assert len(store.pids()) == 2


# ---- Keys that are elsewhere ----

@pytest.mark.parametrize("attestor", ["join_token", "challenges"])
def test_rotation_with_keys_that_are_elsewhere(world, make, tmp_path, attestor):
    """Each new SVID of the agent has a key of the plugin's, and its connections are signed there."""
    theirs = make("server", "NodeAttestor", "interop", secret="s", rounds=2, can_reattest=True)
    ours = make("agent", "NodeAttestor", "interop", secret="s")
    server = plugin_server(world, server='agent_ttl = "20s"', plugins=theirs.block()).start()
    keys = make("agent", "KeyManager", "own", keys=tmp_path / "keys")
    if attestor == "join_token":
        agent = join(world, server, keys=keys.block())
    else:
        ours.fields["name"] = "n"
        agent = plugin_agent(world, server, attestor=ours.block(), keys=keys.block()).start()
        agent.id = "spiffe://example.org/spire/agent/interop/n"
    server.entry(agent.id, W)
    agent.await_ids(W)
    wait_for("three keys", lambda: len(keys.calls("GenerateKey")) >= 3, 60)
    assert {c["id"] for c in keys.calls("GenerateKey")} == {"agent-svid-A", "agent-svid-B"}
    # each key signs a request and a handshake at least
    assert len(keys.calls("SignData")) >= 2 * (len(keys.calls("GenerateKey")) - 1)
    server.entry(agent.id, "spiffe://example.org/x")
    agent.await_ids(W, "spiffe://example.org/x")
    if attestor == "challenges":
        assert len(ours.calls("AidAttestation")) >= 3 and len(ours.calls("Challenge")) >= 6


@OURS
def test_a_signer_that_hangs_holds_up_no_signals(world, make, tmp_path):
    """The handshake waits for a signature; health and the log's reopening do not."""
    server = plugin_server(world).start()
    # the first signature is the request's, the second the handshake's
    keys = make("agent", "KeyManager", "own", keys=tmp_path / "keys", faults={"SignData": {"do": "hang", "after": 1}})
    made = plugin_agent(world, server, keys=keys.block()).spawn("-joinToken", server.token())
    wait_for("the handshake's signature", lambda: len(keys.calls("SignData")) == 2, 20)
    log = made.log_path.read_text()
    made.proc.send_signal(signal.SIGUSR1)
    began = time.monotonic()
    made.stop(limit=10)
    assert time.monotonic() - began < 5 and "Node attestation was successful" in log
    assert gone(keys.pids()[0])


# ---- The end ----

HANGS = [
    ("NodeAttestor", "AidAttestation"),
    ("NodeAttestor", "Configure"),
    ("KeyManager", "GenerateKey"),
    ("KeyManager", "SignData"),
    ("WorkloadAttestor", "Configure"),
    ("WorkloadAttestor", "Attest"),
    ("SVIDStore", "PutX509SVID"),
    ("SVIDStore", "DeleteX509SVID"),
]


@OURS
@pytest.mark.parametrize("kind,method", HANGS)
def test_the_agent_ends_while_a_plugin_hangs(world, make, tmp_path, kind, method):
    theirs = make("server", "NodeAttestor", "p", can_reattest=True)
    server = plugin_server(world, plugins=theirs.block()).start()
    plugin = make("agent", kind, "p", keys=tmp_path / "keys", folder=tmp_path / "shelf", faults={method: {"do": "hang"}})
    parts = {"attestor": plugin.block() if kind == "NodeAttestor" else make("agent", "NodeAttestor", "p").block()}
    if kind == "KeyManager":
        parts["keys"] = plugin.block()
    more = [plugin.block()] if kind in ("SVIDStore", "WorkloadAttestor") else []
    agent = plugin_agent(world, server, *more, **parts).spawn()
    if kind in ("SVIDStore", "WorkloadAttestor") and method != "Configure":
        agent.await_ready()
        entry = server.entry(server.agent_ids()[0], W, "p:name:x", **({"storeSVID": True} if kind == "SVIDStore" else {}))
    if method == "Attest":
        asking = subprocess.Popen([str(agent.bin / "spire-agent"), "api", "fetch", "x509", "-socketPath", str(agent.socket)],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if method == "DeleteX509SVID":
        plugin.await_call("PutX509SVID", limit=30)
        server.cli("entry", "delete", "-entryID", entry)
    plugin.await_call(method, limit=30)
    began = time.monotonic()
    agent.stop(limit=15)
    assert time.monotonic() - began < 10
    assert gone(plugin.pids()[0])
    if method == "Attest":
        asking.wait(20)


@OURS
def test_syncing_goes_on_while_a_plugin_hangs_over_its_configuration(world, make, tmp_path):
    server = plugin_server(world).start()
    one = make("agent", "WorkloadAttestor", "one", faults={"Configure": {"do": "hang", "after": 1}})
    file = tmp_path / "one.conf"
    file.write_text(one.data())
    agent = join(world, server, one.block(file=file))
    file.write_text(one.data(selectors=["colour:red"]))
    agent.proc.send_signal(signal.SIGUSR1)
    wait_for("the second Configure", lambda: len(one.calls("Configure")) == 2)
    server.entry(agent.id, W)
    agent.await_ids(W, limit=15)


@OURS
def test_a_workload_attestor_that_hangs_costs_its_selectors_alone(world, make):
    server = plugin_server(world).start()
    bad = make("agent", "WorkloadAttestor", "bad", faults={"Attest": {"do": "hang"}})
    agent = join(world, server, bad.block())
    server.entry(agent.id, W)
    agent.await_ids(W, limit=60)  # the first who asks waits
    agent.await_log("workloadattestor(bad): plugin did not answer within 30s")
    began = time.monotonic()
    for _ in range(5):
        assert agent.x509_ids() == [W]
    assert time.monotonic() - began < 10
    agent.await_log("workloadattestor(bad): plugin does not answer")
