"""Entries with storeSVID, brought to one and the same plugin by our agent and by SPIRE's: the same calls in the same
order, the same files, the same lines in the log.

Needs CSPIRE_UPSTREAM_BIN: a folder with spire-server and spire-agent of SPIRE 1.15.
"""

import pytest
from cryptography import x509

from plugins import Plugin, agent as plugin_agent, log_lines, server as plugin_server
from spire import BIN, UPSTREAM, wait_for

W = "spiffe://example.org/w"
# Said for as long as an entry is there by SPIRE, once for each of its revisions by us.
LOUD = {"Error storing SVID: SVIDStore not found"}


def story(world, plugins, folder, server, bindir):
    """What the plugin was asked for, without immediate repetitions, and what the agent said about it."""
    store = Plugin(plugins, folder, "agent", "SVIDStore", "shelf", folder=folder / "shelf")
    agent = plugin_agent(world, server, store.block(), name="agent-" + folder.name)
    agent.bin = bindir
    parent = f"spiffe://{server.td}/spire/agent/join_token/{(token := server.token())}"
    agent.start("-joinToken", token)
    path = f"{W}/{folder.name}"
    entry = server.entry(parent, path, "shelf:name:a", "shelf:size:9", storeSVID=True, dns="a.example.org")
    lost = server.entry(parent, path + "/lost", "nowhere:name:a", storeSVID=True)
    store.await_call("PutX509SVID", limit=40)
    agent.await_log("Error storing SVID: SVIDStore not found", limit=40)

    def change(*selectors, **flags):
        args = ["entry", "update", "-entryID", entry, "-spiffeID", path, "-parentID", parent, "-storeSVID"]
        for s in selectors:
            args += ["-selector", s]
        for k, v in flags.items():
            args += [f"-{k}", v]
        server.cli(*args)

    change("shelf:name:a", "shelf:size:9", federatesWith="spiffe://far.test")
    store.await_call("PutX509SVID", lambda c: c["federated"], 40)
    wait_for("all files", lambda: len(list((folder / "shelf" / "a").iterdir())) == 4)
    files = {p.name: p.read_bytes() for p in (folder / "shelf" / "a").iterdir()}
    change("shelf:name:b")
    store.await_call("PutX509SVID", lambda c: c["metadata"] == ["name:b"], 40)
    server.cli("entry", "delete", "-entryID", entry)
    store.await_call("DeleteX509SVID", lambda c: c["metadata"] == ["name:b"], 40)
    agent.await_log("Entry removed", limit=40)
    server.cli("entry", "delete", "-entryID", lost)
    agent.stop()

    calls = []
    for line in store.lines():
        if line["call"] in ("PutX509SVID", "DeleteX509SVID"):
            call = (line["call"], sorted(line["metadata"]), line.get("federated"))
            if not calls or calls[-1] != call:
                calls.append(call)
    said = {(line["level"], line["msg"], tuple(sorted(set(line) - {"time"})))
            for line in log_lines(agent.log())
            if line.get("subsystem_name") in ("svid_store_service", "svid_store_cache") and line["msg"] not in LOUD
            and line.get("entry") != lost}
    return calls, files, said


@pytest.mark.parametrize("server_bin", [pytest.param(BIN, id="our-server"), pytest.param(UPSTREAM, id="their-server")])
def test_both_agents_store_alike(world, plugins, tmp_path, server_bin):
    server = plugin_server(world, bindir=server_bin).start()
    far = plugin_server(world, "far", td="far.test", bindir=BIN).start()
    pem = world.dir / "far.pem"
    pem.write_text(far.bundle_pem())
    server.cli("bundle", "set", "-id", "spiffe://far.test", "-path", pem)
    folders = [tmp_path / "ours", tmp_path / "theirs"]
    ours, theirs = (story(world, plugins, f, server, b) for f, b in zip(folders, (BIN, UPSTREAM)))
    assert ours[0] == theirs[0]
    assert sorted(ours[1]) == sorted(theirs[1])
    for name in ("bundle.pem", "federated.far.test.der"):
        assert ours[1][name] == theirs[1][name]
    mine, other = (x509.load_pem_x509_certificate(s[1]["svid.pem"]) for s in (ours, theirs))
    assert [e.oid for e in mine.extensions] == [e.oid for e in other.extensions]
    assert {"SVID stored successfully", "SVID deleted successfully", "Entry created", "Entry updated", "Bundle added",
            "Entry marked to be removed", "Entry removed", "SVID updated"} <= {msg for _, msg, _ in ours[2]}
    assert ours[2] == theirs[2]
