"""An agent whose key is in an external KeyManager, at either server: Go's TLS and ours take the signatures.

Needs CSPIRE_UPSTREAM_BIN: a folder with spire-server and spire-agent of SPIRE 1.15.
"""

import pytest

from plugins import Plugin, agent as plugin_agent, server as plugin_server
from spire import BIN, UPSTREAM, wait_for

W = "spiffe://example.org/w"


@pytest.mark.parametrize("server_bin,agent_bin", [pytest.param(UPSTREAM, BIN, id="their-server-our-agent"),
                                                  pytest.param(BIN, UPSTREAM, id="our-server-their-agent")])
def test_rotation(world, plugins, tmp_path, server_bin, agent_bin):
    server = plugin_server(world, bindir=server_bin, server='agent_ttl = "20s"').start()
    keys = Plugin(plugins, tmp_path, "agent", "KeyManager", "own", keys=tmp_path / "keys")
    agent = plugin_agent(world, server, keys=keys.block())
    agent.bin = agent_bin
    parent = f"spiffe://{server.td}/spire/agent/join_token/{(token := server.token())}"
    agent.start("-joinToken", token)
    server.entry(parent, W)
    agent.await_ids(W, limit=40)
    serial = server.agents()[0]["x509svid_serial_number"]
    wait_for("a second key", lambda: len(keys.calls("GenerateKey")) >= 2, 60)
    wait_for("the second SVID in use", lambda: server.agents()[0]["x509svid_serial_number"] != serial, 40)
    server.entry(parent, "spiffe://example.org/x")
    agent.await_ids(W, "spiffe://example.org/x", limit=60)
    assert {c["id"] for c in keys.calls("SignData")} == {"agent-svid-A", "agent-svid-B"}
