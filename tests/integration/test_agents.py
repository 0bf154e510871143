"""Banning, evicting, counting and purging agents."""

from spire import wait_for


def test_ban(world):
    server, agent = world.pair()
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    assert server.cli("agent", "ban", "-spiffeID", agent.id).stdout == "Agent banned successfully\n"
    wait_for("the banned agent to end", lambda: not agent.alive(), 30)
    assert agent.proc.returncode == 1
    agent.proc = None
    shown = server.agents()[0]
    assert shown["banned"] and shown["x509svid_serial_number"] == ""
    assert "Banned            : true" in server.cli("agent", "list").stdout
    agent.spawn()
    wait_for("the banned agent to be refused", lambda: not agent.alive(), 60)
    agent.proc = None
    assert server.json("agent", "count", "-banned", "true") == {"count": 1}
    assert server.json("agent", "count", "-banned", "false") == {"count": 0}


def test_evict(world):
    server, agent = world.pair()
    assert server.cli("agent", "evict", "-spiffeID", agent.id).stdout == "Agent evicted successfully\n"
    assert server.agents() == []
    wait_for("the evicted agent to end: its token is used up", lambda: not agent.alive(), 60)
    agent.proc = None
    # a new token brings it back
    agent.join()
    assert server.agent_ids() == [agent.id]


def test_show_and_unknown(world):
    server, agent = world.pair()
    out = server.cli("agent", "show", "-spiffeID", agent.id).stdout
    assert out.startswith(f"Found an attested agent given its SPIFFE ID\n\nSPIFFE ID         : {agent.id}\n")
    assert "Attestation type  : join_token\n" in out and "Can re-attest     : false\n" in out
    missing = server.cli("agent", "show", "-spiffeID", "spiffe://example.org/spire/agent/join_token/x", check=False)
    assert missing.returncode == 1
    assert missing.stderr == "Error: rpc error: code = NotFound desc = agent not found\n"
    wrong = server.cli("agent", "evict", "-spiffeID", "spiffe://example.org/w", check=False)
    assert wrong.returncode == 1 and "code = InvalidArgument" in wrong.stderr
    assert server.cli("agent", "purge").stdout == "No agents to purge.\n"
