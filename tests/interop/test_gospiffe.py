"""go-spiffe programs on our agent: sources, mTLS, JWT-SVIDs, bundle watches."""

import json
import subprocess
import threading

from spire import PATIENCE, run, wait_for

W = "spiffe://example.org/w"


class Follow:
    """A long-running mode of the program; its events as they come."""

    def __init__(self, argv):
        self.proc = subprocess.Popen([str(a) for a in argv], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT)
        self.events = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.proc.stdout:
            self.events.append(json.loads(line))

    def last(self, event):
        return next((e for e in reversed(self.events) if e["event"] == event), {})

    def close(self):
        self.proc.stdin.close()
        try:
            self.proc.wait(10 * PATIENCE)
        finally:
            self.proc.kill()
            self.proc.wait()
        self.thread.join()


def test_mtls_both_ways(world, gospiffe):
    server, agent = world.pair()
    server.entry(agent.id, W)
    agent.await_ids(W)
    event = json.loads(run([gospiffe, "mtls", agent.socket, W], limit=60).stdout)
    assert event == {"event": "mtls", "reply": "echo: hello\n"}


def test_jwt_svids(world, gospiffe):
    server, agent = world.pair()
    server.entry(agent.id, W, jwtSVIDTTL=120)
    agent.await_ids(W)
    event = json.loads(run([gospiffe, "jwt", agent.socket, W], limit=60).stdout)
    assert event["sub"] == W and event["aud"] == ["one", "two"]


def test_watch_sees_identities_and_bundles_change(world, gospiffe):
    server, agent = world.pair(server={"server": 'ca_ttl = "60s"\n    default_x509_svid_ttl = "12s"'})
    server.entry(agent.id, W)
    agent.await_ids(W)
    follow = Follow([gospiffe, "watch", agent.socket])
    try:
        wait_for("the first context", lambda: follow.last("x509").get("ids") == [W])
        wait_for("the first JWT bundle", lambda: follow.last("jwt_bundles").get("keys") == {"example.org": 1})
        server.entry(agent.id, "spiffe://example.org/x")
        wait_for("the second identity", lambda: sorted(follow.last("x509").get("ids", [])) == [W, "spiffe://example.org/x"], 30)
        wait_for("the prepared CA", lambda: follow.last("x509").get("roots", {}).get("example.org", 0) >= 2, 80)
        wait_for("the prepared JWT key", lambda: follow.last("jwt_bundles").get("keys", {}).get("example.org", 0) >= 2, 80)
        assert not follow.last("x509_error") and not follow.last("jwt_bundles_error")
    finally:
        follow.close()


def test_many_streams_are_served_and_given_back(world, gospiffe):
    server, agent = world.pair()
    server.entry(agent.id, W)
    agent.await_ids(W)
    follow = Follow([gospiffe, "hold", agent.socket, "200"])
    try:
        wait_for("200 streams", lambda: follow.last("holding"), 60)
        server.entry(agent.id, "spiffe://example.org/x")
        agent.await_ids(W, "spiffe://example.org/x")
    finally:
        follow.close()
    assert agent.x509_ids() == [W, "spiffe://example.org/x"]


def test_federated_bundles_are_delivered(world, gospiffe):
    server, agent = world.pair()
    far = world.server("far", td="far.test").start()
    pem = world.dir / "far.pem"
    pem.write_text(far.bundle_pem())
    server.cli("bundle", "set", "-id", "spiffe://far.test", "-path", pem)
    server.entry(agent.id, W, federatesWith="spiffe://far.test")
    agent.await_ids(W)
    follow = Follow([gospiffe, "watch", agent.socket])
    try:
        wait_for("both bundles", lambda: follow.last("x509").get("roots") == {"example.org": 1, "far.test": 1}, 30)
    finally:
        follow.close()
