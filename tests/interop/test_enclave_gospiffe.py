"""go-spiffe programs inside an enclave: they find the Workload API by SPIFFE_ENDPOINT_SOCKET, and talk to ones outside."""

import json
import os

import nitro
from nitro import enclave, module
from spire import run, wait_for
from test_gospiffe import Follow

INSIDE = "spiffe://example.org/app"
OUTSIDE = "spiffe://example.org/db"


def test_mtls_between_the_enclave_and_a_server_outside(world, gospiffe):
    nsm = module(world)
    server = world.server(server=nitro.SERVER_OPTIONS, plugins=nsm.plugin(require_key_binding=True)).start()
    outside = world.agent(server).join()
    server.entry(outside.id, OUTSIDE)
    outside.await_ids(OUTSIDE)
    db = Follow([gospiffe, "serve", outside.socket, INSIDE])
    try:
        address = wait_for("the server outside", lambda: db.last("serving").get("address"))
        command = json.dumps([str(gospiffe), "call", "env", OUTSIDE, address])
        e = enclave(world, server, nsm, enclave=f"command = {command}")
        server.entry(e.id, INSIDE, "nitro_enclave:*")
        e.spawn()
        assert e.end(60) == 0, e.log()
        assert '{"event":"called","reply":"echo: hello from the enclave\\n"}' in e.log()
        wait_for("the server to have answered", lambda: db.last("served").get("peer") == INSIDE)
    finally:
        db.close()


def test_a_caller_with_another_identity_is_refused(world, gospiffe):
    nsm = module(world)
    server = world.server(server=nitro.SERVER_OPTIONS, plugins=nsm.plugin()).start()
    outside = world.agent(server).join()
    server.entry(outside.id, OUTSIDE)
    outside.await_ids(OUTSIDE)
    db = Follow([gospiffe, "serve", outside.socket, INSIDE])
    try:
        address = wait_for("the server outside", lambda: db.last("serving").get("address"))
        command = json.dumps([str(gospiffe), "call", "env", OUTSIDE, address])
        e = enclave(world, server, nsm, enclave=f"command = {command}")
        server.entry(e.id, "spiffe://example.org/somebody", "nitro_enclave:*")
        e.spawn()
        assert e.end(60) == 1
        assert "called" not in e.log()
        wait_for("a refusal", lambda: "unexpected ID" in db.last("refused").get("error", ""))
    finally:
        db.close()


def test_all_of_go_spiffe_over_tcp(world, gospiffe):
    nsm = module(world)
    server = world.server(server=nitro.SERVER_OPTIONS, plugins=nsm.plugin()).start()
    e = enclave(world, server, nsm)
    server.entry(e.id, INSIDE, "nitro_enclave:*")
    e.start()
    env = {**os.environ, "SPIFFE_ENDPOINT_SOCKET": f"tcp://{e.api}"}
    event = json.loads(run([gospiffe, "mtls", "env", INSIDE], limit=60, env=env).stdout)
    assert event["reply"] == "echo: hello\n"
    event = json.loads(run([gospiffe, "jwt", "env", INSIDE], limit=60, env=env).stdout)
    assert event["sub"] == INSIDE
