"""Changes reach open Workload API streams."""

import os
import subprocess
import threading

from spire import wait_for


class Watch:
    """`spire-agent api watch`, its output gathered as it comes."""

    def __init__(self, agent):
        self.proc = subprocess.Popen([agent.bin / "spire-agent", "api", "watch", "-socketPath", agent.socket], text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.proc.stdout:
            self.lines.append(line)

    def updates(self):
        return [u.split("\n") for u in "".join(self.lines).split("Received ")[1:]]

    def ids(self):
        last = self.updates()[-1] if self.updates() else []
        return sorted(line.split("\t")[-1] for line in last if line.startswith("SPIFFE ID:"))

    def close(self):
        self.proc.kill()
        self.proc.wait()
        self.thread.join()


def test_entries_come_and_go_on_an_open_stream(world):
    server, agent = world.pair()
    first = server.entry(agent.id, "spiffe://example.org/one")
    agent.await_ids("spiffe://example.org/one")
    watch = Watch(agent)
    try:
        wait_for("the first update", lambda: watch.ids() == ["spiffe://example.org/one"])
        second = server.entry(agent.id, "spiffe://example.org/two")
        wait_for("the new entry", lambda: watch.ids() == ["spiffe://example.org/one", "spiffe://example.org/two"], 30)
        server.cli("entry", "update", "-entryID", second, "-parentID", agent.id, "-spiffeID", "spiffe://example.org/three",
                   "-selector", f"unix:uid:{os.getuid()}")
        wait_for("the changed entry", lambda: watch.ids() == ["spiffe://example.org/one", "spiffe://example.org/three"], 30)
        server.cli("entry", "delete", "-entryID", first)
        wait_for("the deleted entry to go", lambda: watch.ids() == ["spiffe://example.org/three"], 30)
    finally:
        watch.close()


def test_a_waiting_caller_is_served_on_retry(world):
    server, agent = world.pair()
    watch = Watch(agent)
    try:
        wait_for("the refusal", lambda: any("PermissionDenied" in line for line in watch.lines))
        server.entry(agent.id, "spiffe://example.org/late")
        wait_for("the identity", lambda: watch.ids() == ["spiffe://example.org/late"], 45)
    finally:
        watch.close()


def test_hints_tell_entries_apart(world):
    server, agent = world.pair()
    server.entry(agent.id, "spiffe://example.org/a", hint="internal")
    server.entry(agent.id, "spiffe://example.org/b", hint="external")
    agent.await_ids("spiffe://example.org/a", "spiffe://example.org/b")
    hints = {s["spiffe_id"]: s["hint"] for s in agent.fetch_x509()["svids"]}
    assert hints == {"spiffe://example.org/a": "internal", "spiffe://example.org/b": "external"}
