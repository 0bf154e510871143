"""Either half may be SPIRE's own, and may be swapped while the other goes on.

Needs CSPIRE_UPSTREAM_BIN: a folder with spire-server and spire-agent of SPIRE 1.15.
"""

import json

import pytest

from spire import BIN, UPSTREAM, wait_for

W = "spiffe://example.org/w"
SHORT = 'ca_ttl = "60s"\n    default_x509_svid_ttl = "12s"\n    agent_ttl = "16s"'
HALVES = [pytest.param(BIN, UPSTREAM, id="our-server-their-agent"), pytest.param(UPSTREAM, BIN, id="their-server-our-agent")]


@pytest.mark.parametrize("server_bin,agent_bin", HALVES)
def test_attest_fetch_restart(world, server_bin, agent_bin):
    server, agent = world.pair(server={"bindir": server_bin}, agent={"bindir": agent_bin})
    server.entry(agent.id, W)
    agent.await_ids(W)
    assert agent.fetch_jwt("aud")[0]["spiffe_id"] == W
    agent.restart()
    agent.await_ids(W)
    server.restart()
    server.entry(agent.id, "spiffe://example.org/x")
    agent.await_ids(W, "spiffe://example.org/x", limit=60)
    assert server.agent_ids() == [agent.id]


@pytest.mark.parametrize("server_bin,agent_bin", HALVES)
def test_rotation(world, server_bin, agent_bin):
    server, agent = world.pair(server={"bindir": server_bin, "server": SHORT}, agent={"bindir": agent_bin})
    server.entry(agent.id, W)
    agent.await_ids(W)
    first = agent.fetch_x509()["svids"][0]["x509_svid"]
    serial = server.agents()[0]["x509svid_serial_number"]
    wait_for("a new X509-SVID", lambda: agent.fetch_x509()["svids"][0]["x509_svid"] != first, 30, every=0.5)
    wait_for("a new agent SVID", lambda: server.agents()[0]["x509svid_serial_number"] != serial, 30, every=0.5)
    wait_for("a second CA", lambda: server.bundle_pem().count("BEGIN") >= 2, 80, every=0.5)
    server.entry(agent.id, "spiffe://example.org/x")
    agent.await_ids(W, "spiffe://example.org/x", limit=60)


@pytest.mark.parametrize("first,second", [pytest.param(UPSTREAM, BIN, id="theirs-then-ours"), pytest.param(BIN, UPSTREAM, id="ours-then-theirs")])
def test_swap_the_server_under_a_running_agent(world, first, second):
    """The data directory and the database made by one serve the other, and back."""
    server, agent = world.pair(server={"bindir": first}, agent={"bindir": UPSTREAM})
    server.entry(agent.id, W, dns="a.example.org", hint="h", x509SVIDTTL=600)
    agent.await_ids(W)
    before = (server.bundle_pem(), server.json("entry", "show"), server.agent_ids())
    for bindir in (second, first):
        server.restart(bindir=bindir)
        assert (server.bundle_pem(), server.json("entry", "show"), server.agent_ids()) == before
        name = f"spiffe://example.org/{pathlib_name(bindir)}"
        server.entry(agent.id, name)
        wait_for("the new entry", lambda: name in agent.x509_ids(), 60)
        before = (server.bundle_pem(), server.json("entry", "show"), server.agent_ids())


def pathlib_name(bindir):
    return "ours" if bindir == BIN else "theirs"


@pytest.mark.parametrize("first,second", [pytest.param(UPSTREAM, BIN, id="theirs-then-ours"), pytest.param(BIN, UPSTREAM, id="ours-then-theirs")])
def test_swap_the_agent_on_a_running_server(world, first, second):
    """The agent's data directory made by one serves the other: no new token."""
    server, agent = world.pair(server={"bindir": BIN}, agent={"bindir": first})
    server.entry(agent.id, W)
    agent.await_ids(W)
    for bindir in (second, first):
        agent.restart(bindir=bindir)
        agent.await_ids(W)
        assert server.agent_ids() == [agent.id]


@pytest.mark.parametrize("server_bin,agent_bin", HALVES)
def test_ban(world, server_bin, agent_bin):
    server, agent = world.pair(server={"bindir": server_bin}, agent={"bindir": agent_bin})
    server.cli("agent", "ban", "-spiffeID", agent.id)
    wait_for("the banned agent to end", lambda: not agent.alive(), 60)
    agent.proc = None


COMMANDS = [
    ["healthcheck"], ["healthcheck", "-verbose"], ["bundle", "show"], ["bundle", "show", "-format", "spiffe"],
    ["bundle", "show", "-output", "json"], ["bundle", "list"], ["bundle", "count"], ["bundle", "count", "-output", "json"],
    ["entry", "show"], ["entry", "show", "-output", "json"], ["entry", "show", "-selector", "unix:uid:1"],
    ["entry", "show", "-selector", "unix:uid:1", "-matchSelectorsOn", "any"], ["entry", "show", "-hint", "h"],
    ["entry", "show", "-downstream"], ["entry", "show", "-entryID", "one"], ["entry", "show", "-entryID", "nope"],
    ["entry", "show", "-parentID", "spiffe://example.org/p"], ["entry", "show", "-spiffeID", "bad"],
    ["entry", "count"], ["entry", "count", "-output", "json"], ["entry", "delete", "-entryID", "nope"],
    ["entry", "delete", "-entryID", "nope", "-output", "json"], ["agent", "list"], ["agent", "list", "-output", "json"],
    ["agent", "count"], ["agent", "count", "-banned", "true"], ["agent", "list", "-attestationType", "x"],
    ["agent", "show", "-spiffeID", "spiffe://example.org/spire/agent/join_token/none"], ["agent", "purge"],
    ["agent", "evict", "-spiffeID", "spiffe://example.org/w"], ["agent", "ban", "-spiffeID", "nonsense"],
    ["agent", "list", "-expiresBefore", "2096-01-02 15:04:05 -0700 -07"], ["agent", "list", "-expiresBefore", "x"],
    ["entry", "create", "-spiffeID", "spiffe://example.org/a", "-parentID", "spiffe://example.org/p", "-selector", "unix:uid:1",
     "-entryID", "one"],
    ["entry", "create", "-spiffeID", "spiffe://other.org/a", "-parentID", "spiffe://example.org/p", "-selector", "a:b"],
    ["entry", "create", "-spiffeID", "spiffe://other.org/a", "-parentID", "spiffe://example.org/p", "-selector", "a:b", "-output",
     "json"],
    ["entry", "create", "-spiffeID", "spiffe://example.org/a", "-parentID", "spiffe://example.org/p", "-selector", "nocolon"],
    ["entry", "create", "-spiffeID", "spiffe://example.org/a", "-parentID", "spiffe://example.org/p", "-selector", "a:b", "-dns", ""],
    ["entry", "create", "-spiffeID", "spiffe://example.org/a", "-parentID", "spiffe://example.org/p", "-selector", "a:b",
     "-x509SVIDTTL", "-1"],
    ["entry", "update", "-entryID", "nope", "-spiffeID", "spiffe://example.org/a", "-parentID", "spiffe://example.org/p",
     "-selector", "a:b"],
    ["entry", "update", "-entryID", "nope", "-spiffeID", "spiffe://example.org/a", "-parentID", "spiffe://example.org/p",
     "-selector", "a:b", "-output", "json"],
    ["bundle", "delete", "-id", "far.test"], ["bundle", "delete", "-id", "far.test", "-mode", "x"],
    ["bundle", "list", "-id", "far.test"], ["bundle", "set", "-id", "example.org", "-path", "/dev/null"],
    ["token", "generate", "-ttl", "0"], ["token", "generate", "-ttl", "-5"], ["token", "generate", "-spiffeID", "x"],
    ["jwt", "mint"], ["jwt", "mint", "-spiffeID", "spiffe://other.org/w", "-audience", "a"], ["x509", "mint", "-spiffeID", "q"],
    ["x509", "mint", "-spiffeID", "spiffe://other.org/w"],
]


@pytest.mark.parametrize("server_bin", [pytest.param(BIN, id="on-ours"), pytest.param(UPSTREAM, id="on-theirs")])
def test_both_command_lines_say_the_same(world, server_bin):
    """Each command by our program and by theirs on one server: same output, same exit status."""
    server = world.server(bindir=server_bin).start()
    server.entry("spiffe://example.org/p", "spiffe://example.org/a", "unix:uid:1", entryID="one", hint="h", dns=["b.org", "a.org"],
                 x509SVIDTTL=60, admin=True)
    server.entry("spiffe://example.org/p", "spiffe://example.org/b", "unix:uid:1", "unix:gid:2", downstream=True,
                 entryExpiry=4000000000)
    differences = []
    for command in COMMANDS:
        ours = server.cli(*command, check=False, bindir=BIN)
        theirs = server.cli(*command, check=False, bindir=UPSTREAM)
        for what in ("returncode", "stdout", "stderr"):
            a, b = getattr(ours, what), getattr(theirs, what)
            if a != b:
                differences.append(f"{' '.join(command)}: {what}\n  ours:   {a!r}\n  theirs: {b!r}")
    assert not differences, "\n".join(differences)


def test_json_entries_file(world, tmp_path):
    """A data file gives the same entries through either program."""
    data = {"entries": [{"entry_id": f"{w}-{i}", "parent_id": "spiffe://example.org/p", "spiffe_id": f"spiffe://example.org/{w}{i}",
                         "selectors": [{"type": "unix", "value": f"uid:{i}"}], "x509_svid_ttl": 30 + i, "jwt_svid_ttl": 5,
                         "dns_names": ["x.org"], "hint": f"h{i}", "entryExpiry": 4000000000,
                         "additional_attributes": {"jwt_svid_include_jti": True}} for i in range(3)] for w in "a"}
    server = world.server(bindir=UPSTREAM).start()
    path = tmp_path / "entries.json"
    shown = []
    for bindir, word in ((BIN, "ours"), (UPSTREAM, "theirs")):
        for e in data["entries"]:
            e["spiffe_id"] = e["spiffe_id"]
        path.write_text(json.dumps(data))
        server.cli("entry", "create", "-data", path, bindir=bindir)
        listing = server.json("entry", "show", bindir=UPSTREAM)["entries"]
        shown.append([{k: v for k, v in e.items() if k != "created_at"} for e in listing])
        for e in listing:
            server.cli("entry", "delete", "-entryID", e["id"], bindir=bindir)
    assert shown[0] == shown[1] and len(shown[0]) == 3


USAGES = [[], ["-h"], ["bogus"], ["entry"], ["entry", "-h"], ["entry", "bogus"], ["-bogus", "run"], ["entry", "create", "-x"],
          ["entry", "create", "-selector"], ["entry", "create", "-x509SVIDTTL", "1x"], ["entry", "create", "-admin=maybe"],
          ["jwt", "mint", "-ttl", "5"], ["entry", "show", "-output", "xml"], ["entry", "show", "-output", "json", "-output", "pretty"],
          ["run", "-x"], ["validate", "-x"], ["entry", "create", "---x"], ["version"], ["run", "-config", "/nonexistent"],
          ["validate", "-config", "/nonexistent"], ["entry", "show", "-instance", "a"]]


def shape(text):
    """Usage texts without the descriptions, which are our own words."""
    lines = text.split("\n")
    return [("    \t" if line.startswith("    \t") else " ".join(line.split("    ")[:2]) if line.startswith("    ") else line)
            for line in lines]


@pytest.mark.parametrize("program", ["spire-server", "spire-agent"])
def test_usage_and_flag_errors(program):
    from spire import run
    differences = []
    cases = USAGES if program == "spire-server" else [
        [], ["-h"], ["bogus"], ["api"], ["api", "-h"], ["api", "fetch", "-h"], ["api", "fetch", "x509", "-x"],
        ["api", "fetch", "jwt"], ["api", "validate", "jwt"], ["api", "validate", "jwt", "-audience", "a"],
        ["api", "fetch", "x509", "-timeout", "5"], ["healthcheck", "-h"], ["healthcheck", "-x"], ["api", "watch", "-x"],
        ["run", "-x"], ["validate", "-x"], ["validate", "-config", "/nonexistent"], ["run", "-config", "/nonexistent"],
        ["api", "fetch", "jwt", "-audience", "a", "-format", "xml"], ["api", "fetch", "-instance", "a"]]
    for args in cases:
        ours, theirs = (run([b / program, *args], check=False) for b in (BIN, UPSTREAM))
        for what in ("returncode", "stdout", "stderr"):
            a, b = getattr(ours, what), getattr(theirs, what)
            if what != "returncode":
                a, b = shape(a), shape(b)
            if a != b:
                differences.append(f"{' '.join(args)}: {what}\n  ours:   {a!r}\n  theirs: {b!r}")
    assert not differences, "\n".join(differences)
