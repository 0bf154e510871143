"""One SQLite database, written by SPIRE's server and by ours in turn.

Needs CSPIRE_UPSTREAM_BIN, as test_swap.py.
"""

import sqlite3

import pytest

from spire import BIN, UPSTREAM

ORDERS = [pytest.param(UPSTREAM, BIN, id="theirs-then-ours"), pytest.param(BIN, UPSTREAM, id="ours-then-theirs")]
NODE = "spiffe://example.org/node"


def rows(server, sql):
    with sqlite3.connect(f"file:{server.dir}/data/datastore.sqlite3?mode=ro", uri=True) as db:
        return db.execute(sql).fetchall()


def schema(server):
    """By name: upstream makes the indexes of a table in any order."""
    return rows(server, "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")


def everything(server):
    """What the API shows of the database."""
    entries = server.json("entry", "show")["entries"]
    return {
        "entries": sorted(entries, key=lambda e: e["id"]),
        "bundle": server.bundle_pem(),
        "federated": server.cli("bundle", "list", "-format", "spiffe").stdout,
        "agents": server.agent_ids(),
    }


def fill(server, mark):
    other = f"spiffe://{mark}.test"
    bundle = server.cli("bundle", "show", "-format", "spiffe").stdout
    server.cli("bundle", "set", "-id", other, "-format", "spiffe", stdin=bundle)
    server.entry(NODE, f"spiffe://example.org/{mark}/all", "unix:uid:7", "unix:gid:7", dns=["b.example.org", "a.example.org"],
                 hint=mark, x509SVIDTTL=600, jwtSVIDTTL=300, entryExpiry=1900000000, admin=True, downstream=True,
                 federatesWith=other)
    server.entry(NODE, f"spiffe://example.org/{mark}/stored", "k8s:ns:a", "k8s:sa:b", storeSVID=True)
    server.entry(NODE, f"spiffe://example.org/{mark}/updated", entryID=f"{mark}-id")
    server.cli("entry", "update", "-entryID", f"{mark}-id", "-parentID", NODE, "-spiffeID", f"spiffe://example.org/{mark}/new",
               "-selector", "x:2", "-selector", "x:1", "-hint", f"{mark}-later")
    server.entry(NODE, f"spiffe://example.org/{mark}/gone", entryID=f"{mark}-gone")
    server.cli("entry", "delete", "-entryID", f"{mark}-gone")
    server.token(f"spiffe://example.org/{mark}/alias")


def test_the_schema_is_the_same(world):
    ours, theirs = world.server("ours", bindir=BIN).start(), world.server("theirs", bindir=UPSTREAM).start()
    ours.stop(), theirs.stop()
    assert schema(ours) == schema(theirs)
    assert rows(ours, "SELECT id, version FROM migrations") == rows(theirs, "SELECT id, version FROM migrations")


@pytest.mark.parametrize("first,second", ORDERS)
def test_each_reads_and_changes_what_the_other_wrote(world, first, second):
    server = world.server(bindir=first, cli_bindir=UPSTREAM).start()
    fill(server, "one")
    seen, tables = everything(server), schema(server)
    for mark, bindir in (("two", second), ("three", first)):
        server.restart(bindir=bindir)
        assert everything(server) == seen
        fill(server, mark)
        before = "one" if mark == "two" else "two"
        server.cli("entry", "update", "-entryID", f"{before}-id", "-parentID", NODE, "-spiffeID",
                   f"spiffe://example.org/{before}/again", "-selector", "x:3", "-hint", f"{before}-again")
        failed = server.cli("bundle", "delete", "-id", f"spiffe://{before}.test", check=False)
        assert "cannot delete bundle; federated with 1 registration entries" in failed.stdout + failed.stderr
        server.cli("bundle", "delete", "-id", f"spiffe://{before}.test", "-mode", "dissociate")
        seen = everything(server)
    server.restart(bindir=second)
    assert everything(server) == seen
    server.stop()
    assert schema(server) == tables


@pytest.mark.parametrize("writer", [pytest.param(UPSTREAM, id="theirs"), pytest.param(BIN, id="ours")])
def test_rows_have_the_same_form(world, writer):
    """Column types and the shape of each value, written by either."""
    server = world.server(bindir=writer, cli_bindir=UPSTREAM).start()
    fill(server, "one")
    server.stop()
    stamp = "____-__-__ __:__:__%+00:00"
    for (table,) in rows(server, "SELECT name FROM sqlite_master WHERE sql LIKE '%created_at%'"):
        assert rows(server, f"SELECT count(*) FROM {table} WHERE created_at NOT LIKE '{stamp}' OR updated_at NOT LIKE '{stamp}'"
                    ) == [(0,)], table
    assert rows(server, "SELECT typeof(ttl), typeof(admin), typeof(expiry), typeof(revision_number), typeof(store_svid), "
                "typeof(hint), typeof(jwt_svid_ttl), typeof(additional_attributes) FROM registered_entries GROUP BY 1,2,3,4,5,6,7,8"
                ) == [("integer", "integer", "integer", "integer", "integer", "text", "integer", "null")]
    assert rows(server, "SELECT admin, downstream, store_svid FROM registered_entries WHERE hint = 'one'") == [(1, 1, 0)]
    assert rows(server, "SELECT type || ':' || value FROM selectors WHERE type = 'unix' ORDER BY id LIMIT 2"
                ) == [("unix:uid:7",), ("unix:gid:7",)]
    assert rows(server, "SELECT count(*) FROM registered_entries_events") == [(7,)]
    assert rows(server, "SELECT typeof(data) FROM bundles UNION SELECT typeof(data) FROM ca_journals") == [("blob",)]
