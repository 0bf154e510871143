"""How an agent comes to trust its server and be known to it, and what its workloads can be told apart by."""

import base64
import grp
import json
import os
import pwd

import pytest
from cryptography import x509

from spire import wait_for


def token_agent(world, server, name="agent", **kw):
    """An agent that is not started, and a token for it."""
    agent = world.agent(server, name, **kw)
    token = server.token()
    agent.id = f"spiffe://{server.td}/spire/agent/join_token/{token}"
    return agent, token


def await_end(agent, limit=90):
    wait_for("the agent to end", lambda: not agent.alive(), limit)
    code = agent.proc.returncode
    agent.proc = None
    return code


# --- Trust in the server ---

def test_insecure_bootstrap(world):
    server = world.server().start()
    agent = world.agent(server, trust="insecure_bootstrap = true").join()
    assert "Insecure bootstrap enabled; skipping server certificate verification" in agent.log()
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    # what it learned is kept: the second start needs no leap of faith
    before = agent.log().count("Insecure bootstrap enabled")
    agent.restart()
    assert agent.log().count("Insecure bootstrap enabled") == before


def test_trust_bundle_in_spiffe_format(world):
    server = world.server().start()
    path = server.dir / "bundle.json"
    path.write_text(server.cli("bundle", "show", "-format", "spiffe").stdout)
    agent = world.agent(server, trust=f'trust_bundle_path = "{path}"\n    trust_bundle_format = "spiffe"').join()
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")


@pytest.mark.parametrize("content, said", [
    (None, "no such file or directory"),
    ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x509: malformed certificate"),
    ("", "no PEM blocks"),
])
def test_a_trust_bundle_that_comes_late(world, content, said):
    """A missing or broken file is tried again, until it is good."""
    server = world.server().start()
    path = server.dir / "bundle.pem"
    if content is not None:
        path.write_text(content)
    agent, token = token_agent(world, server, trust=f'trust_bundle_path = "{path}"')
    agent.spawn("-joinToken", token)
    agent.await_log(said)
    agent.await_log("Failed to retrieve attestation result")
    assert agent.alive()
    path.write_text(server.bundle_pem())
    agent.await_ready(40)


def test_a_bundle_of_somebody_else(world):
    """An agent does not talk to a server that it cannot verify; its token stays good."""
    server = world.server().start()
    other = world.server("other").start()
    path = server.dir / "bundle.pem"
    path.write_text(other.bundle_pem())
    agent, token = token_agent(world, server, trust=f'trust_bundle_path = "{path}"')
    agent.spawn("-joinToken", token)
    agent.await_log("certificate signed by unknown authority")
    assert server.agents() == []
    path.write_text(server.bundle_pem())
    agent.await_ready(60)
    assert server.agent_ids() == [agent.id]


def test_a_server_with_another_ca(world):
    """With a join token, which works once, there is no way back to a server that lost its CA: the agent ends."""
    server, agent = world.pair(agent={"agent": 'rebootstrap_mode = "auto"\n    rebootstrap_delay = "1s"'})
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    agent.restart()
    agent.await_log("you have requested rebootstrap support but the NodeAttestor plugin or the spire server configuration is "
                    "not allowing it. Disabling")
    agent.await_ids("spiffe://example.org/w")
    server.stop()
    for f in (server.dir / "data").iterdir():
        f.unlink()
    server.start()
    assert await_end(agent) == 1
    assert "certificate signed by unknown authority" in agent.log() and "Agent crashed" in agent.log()
    assert server.agents() == []


# --- Join tokens and keys ---

def test_join_token_in_the_configuration(world):
    server = world.server().start()
    token = server.token()
    agent = world.agent(server, agent=f'join_token = "{token}"').start()
    assert server.agent_ids() == [f"spiffe://example.org/spire/agent/join_token/{token}"]
    agent.restart()
    assert len(server.agents()) == 1


def test_join_token_from_a_file(world):
    server = world.server().start()
    path = server.dir / "token"
    token = server.token()
    path.write_text(f"{token}\n")
    world.agent(server, agent=f'join_token_file = "{path}"').start()
    assert server.agent_ids() == [f"spiffe://example.org/spire/agent/join_token/{token}"]


def test_join_token_files_that_are_no_good(world):
    server = world.server().start()
    path = server.dir / "token"
    agent = world.agent(server, agent=f'join_token_file = "{path}"').spawn()
    assert await_end(agent) == 1
    assert f'unable to read join token file "{path}": open {path}: no such file or directory' in agent.log()
    path.write_text(" \n")
    agent.spawn()
    assert await_end(agent) == 1
    assert "join token file is empty" in agent.log()


def test_keys_in_memory_need_a_new_token(world):
    server = world.server().start()
    agent = world.agent(server)
    conf = agent.conf_path.read_text()
    at = conf.index('KeyManager "disk"')
    agent.conf_path.write_text(conf[:at] + 'KeyManager "memory" {\n        plugin_data {}\n    }\n' +
                               conf[conf.index('WorkloadAttestor "unix"'):])
    agent.join()
    agent.await_log("Node attestation is not reattestable and the 'memory' key manager is in use")
    first = agent.id
    agent.stop()
    agent.spawn()
    agent.await_log("join token was not provided")
    agent.stop()
    agent.join()
    assert sorted(server.agent_ids()) == sorted([first, agent.id])


def test_two_agents_of_one_server(world):
    server = world.server().start()
    one = world.agent(server, "one").join()
    two = world.agent(server, "two").join()
    server.entry(one.id, "spiffe://example.org/one")
    server.entry(two.id, "spiffe://example.org/two")
    one.await_ids("spiffe://example.org/one")
    two.await_ids("spiffe://example.org/two")
    assert sorted(server.agent_ids()) == sorted([one.id, two.id])
    server.cli("agent", "evict", "-spiffeID", one.id)
    await_end(one)
    assert two.x509_ids() == ["spiffe://example.org/two"]


# --- What workloads get ---

def test_users_and_groups(world):
    server, agent = world.pair()
    me = pwd.getpwuid(os.getuid()).pw_name
    mine = grp.getgrgid(os.getgid()).gr_name
    server.entry(agent.id, "spiffe://example.org/user", f"unix:user:{me}", f"unix:group:{mine}")
    server.entry(agent.id, "spiffe://example.org/nobody", "unix:user:nobody")
    agent.await_ids("spiffe://example.org/user")


def test_supplementary_groups(world):
    """Root puts a group on and off; anybody else has groups, and others that it has not."""
    server, agent = world.pair()
    extra = next(g for g in grp.getgrall() if g.gr_gid not in (0, os.getgid(), *os.getgroups()))
    if os.geteuid() != 0:
        own = sorted(set(os.getgroups()))
        assert own, "this user has no groups at all"
        for gid in (*own, extra.gr_gid):
            server.entry(agent.id, f"spiffe://example.org/gid/{gid}", f"unix:supplementary_gid:{gid}")
        agent.await_ids(*(f"spiffe://example.org/gid/{gid}" for gid in own))
        return
    server.entry(agent.id, "spiffe://example.org/gid", f"unix:supplementary_gid:{extra.gr_gid}")
    server.entry(agent.id, "spiffe://example.org/group", f"unix:supplementary_group:{extra.gr_name}")

    def ids(groups):
        got = agent.fetch_x509(check=False, preexec_fn=lambda: os.setgroups(groups))
        return sorted(s["spiffe_id"] for s in got["svids"]) if got else []
    wait_for("the SVIDs of the group", lambda: ids([extra.gr_gid]) == ["spiffe://example.org/gid",
                                                                       "spiffe://example.org/group"], 30)
    assert ids([]) == []


def test_lifetime_of_an_entry(world):
    server, agent = world.pair()
    server.entry(agent.id, "spiffe://example.org/w", x509SVIDTTL=120, jwtSVIDTTL=90)
    agent.await_ids("spiffe://example.org/w")
    leaf = x509.load_der_x509_certificate(base64.b64decode(agent.fetch_x509()["svids"][0]["x509_svid"]))
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() == 120 + 10  # for clocks that are behind
    part = agent.fetch_jwt("a")[0]["svid"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert claims["exp"] - claims["iat"] == 90


def test_jwt_svids_switched_off(world):
    server, agent = world.pair(server={"server": "disable_jwt_svids = true"})
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    refused = agent.cli("api", "fetch", "jwt", "-audience", "a", check=False)
    assert refused.returncode == 1
    assert "could not fetch JWT-SVID: " in refused.stderr and "JWT functionality is disabled" in refused.stderr
    assert agent.x509_ids() == ["spiffe://example.org/w"]


def test_many_entries_of_one_workload(world):
    """More than a page of entries and more than a batch of requests, all of them for one caller."""
    server, agent = world.pair()
    ids = [f"spiffe://example.org/many/{i}" for i in range(600)]
    data = server.dir / "entries.json"
    data.write_text(json.dumps({"entries": [{"parent_id": agent.id, "spiffe_id": i, "selectors": [
        {"type": "unix", "value": f"uid:{os.getuid()}"}]} for i in ids]}))
    server.cli("entry", "create", "-data", data)
    wait_for("600 SVIDs", lambda: len(agent.x509_ids()) == 600, 60, every=0.5)
    assert agent.x509_ids() == sorted(ids)
    gone = server.json("entry", "show", "-spiffeID", ids[0])["entries"][0]["id"]
    server.cli("entry", "delete", "-entryID", gone)
    wait_for("599 SVIDs", lambda: len(agent.x509_ids()) == 599, 30, every=0.5)
