"""A second start on the same data goes on with the same CA, entries and agents."""

import signal
import subprocess

from spire import wait_for


def test_server_restart_keeps_everything(world):
    server, agent = world.pair()
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    before = (server.bundle_pem(), server.json("entry", "show"), server.agent_ids())
    assert server.stop() == 0
    server.start()
    assert (server.bundle_pem(), server.json("entry", "show"), server.agent_ids()) == before
    server.entry(agent.id, "spiffe://example.org/after")
    agent.await_ids("spiffe://example.org/after", "spiffe://example.org/w")


def test_agent_restart_needs_no_new_token(world):
    server, agent = world.pair()
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    agent.restart()
    agent.await_ids("spiffe://example.org/w")
    assert server.agent_ids() == [agent.id]


def test_agent_outlives_its_server(world):
    """Cached identities stay available while the server is away, and syncing resumes after."""
    server, agent = world.pair()
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    server.stop()
    assert agent.x509_ids() == ["spiffe://example.org/w"]
    server.start()
    server.entry(agent.id, "spiffe://example.org/new")
    agent.await_ids("spiffe://example.org/new", "spiffe://example.org/w", limit=90)


def test_end_within_five_seconds_with_open_streams(world):
    server, agent = world.pair()
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    watch = subprocess.Popen([agent.bin / "spire-agent", "api", "watch", "-socketPath", agent.socket],
                                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert watch.stdout.readline().startswith(b"Received 1 svid")
        assert agent.stop(limit=5) == 0
        assert server.stop(signal.SIGINT, limit=5) == 0
    finally:
        watch.kill()
        watch.wait()
        watch.stdout.close()


def test_a_used_token_is_refused(world):
    server = world.server().start()
    token = server.token()
    world.agent(server, "a1").start("-joinToken", token)
    second = world.agent(server, "a2").spawn("-joinToken", token)
    second.await_log("join token does not exist or has already been used")
    assert len(server.agent_ids()) == 1


def test_a_taken_port_is_said_and_ends_with_1(world):
    first = world.server("s1").start()
    second = world.server("s2")
    second.conf_path.write_text(second.conf_path.read_text().replace(str(second.port), str(first.port)))
    second.spawn()
    wait_for("the second server to end", lambda: not second.alive())
    assert second.proc.returncode == 1
    assert "address already in use" in second.log()
    second.proc = None
