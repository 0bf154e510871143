"""What was acknowledged survives a kill; what cannot be stored is refused clearly."""

import json
import os
import subprocess
import threading

from spire import wait_for


def test_kill_9_under_load_loses_nothing_acknowledged(world, tmp_path):
    server = world.server().start()
    acknowledged, lock, stop = [], threading.Lock(), threading.Event()

    def create(worker):
        n = 0
        while not stop.is_set():
            entries = [{"entry_id": f"w{worker}-{n}-{i}", "parent_id": "spiffe://example.org/p",
                        "spiffe_id": f"spiffe://example.org/w{worker}/{n}/{i}",
                        "selectors": [{"type": "unix", "value": f"uid:{i}"}]} for i in range(5)]
            n += 1
            done = server.cli("entry", "create", "-data", "-", "-output", "json", stdin=json.dumps({"entries": entries}),
                              check=False)
            if done.returncode != 0:
                return
            with lock:
                acknowledged.extend(r["entry"]["id"] for r in json.loads(done.stdout)["results"] if r["status"]["code"] == 0)

    for _ in range(3):
        stop.clear()
        before = len(acknowledged)
        threads = [threading.Thread(target=create, args=(f"{w}x{before}",)) for w in range(3)]
        for t in threads:
            t.start()
        wait_for("some load", lambda: len(acknowledged) > before + 50, 40)
        server.kill()
        stop.set()
        for t in threads:
            t.join()
        server.start()
        kept = {e["id"] for e in server.json("entry", "show")["entries"]}
        assert set(acknowledged) <= kept
    assert server.json("entry", "count")["count"] == len(kept)


def test_agent_killed_comes_back_with_its_identity(world):
    server, agent = world.pair()
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    for _ in range(3):
        agent.kill()
        agent.start()
        agent.await_ids("spiffe://example.org/w")
    assert server.agent_ids() == [agent.id]


def test_a_locked_database_is_waited_for_or_refused_clearly(world):
    server = world.server().start()
    db = server.dir / "data" / "datastore.sqlite3"
    lock = subprocess.Popen(["sqlite3", "-interactive", db], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        lock.stdin.write("BEGIN IMMEDIATE;\nSELECT 'held';\n")
        lock.stdin.flush()
        wait_for("the lock", lambda: "held" in lock.stdout.readline())
        done = server.cli("token", "generate", check=False)
        if done.returncode != 0:
            assert "database is locked" in done.stderr or "locked" in done.stderr
        assert server.cli("entry", "show").stdout == "Found 0 entries\n"
    finally:
        lock.stdin.write("ROLLBACK;\n.quit\n")
        lock.stdin.close()
        lock.wait()
        lock.stdout.close()
    server.cli("token", "generate")
    assert server.alive()


def test_a_broken_database_stops_the_start(world):
    server = world.server()
    (server.dir / "data" / "datastore.sqlite3").write_bytes(os.urandom(4096))
    server.spawn()
    wait_for("the server to end", lambda: not server.alive())
    assert server.proc.returncode == 1
    assert "file is not a database" in server.log()
    server.proc = None


def test_broken_keys_stop_the_start(world):
    server = world.server()
    (server.dir / "data" / "keys.json").write_text('{"keys": {"x509-CA-A": "AAAA"}}')
    server.spawn()
    wait_for("the server to end", lambda: not server.alive())
    assert server.proc.returncode == 1
    assert "x509-CA-A" in server.log() or "keys" in server.log()
    server.proc = None
