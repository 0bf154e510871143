"""Rotation with lifetimes of seconds: workload SVIDs, the agent's own, CA and JWT keys."""

import base64
import json
import time

from cryptography import x509

from spire import wait_for

SHORT = 'ca_ttl = "60s"\n    default_x509_svid_ttl = "12s"\n    default_jwt_svid_ttl = "10s"\n    agent_ttl = "16s"'


def leaf(agent):
    svid = agent.fetch_x509()["svids"][0]
    return x509.load_der_x509_certificate(base64.b64decode(svid["x509_svid"]))


def claims(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_workload_svid_rotates_before_it_expires(world):
    server, agent = world.pair(server={"server": SHORT})
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    first = leaf(agent)

    def rotated():
        now = leaf(agent)
        assert now.not_valid_after_utc.timestamp() > time.time(), "an expired SVID was served"
        return now.serial_number != first.serial_number
    wait_for("a new X509-SVID", rotated, 25, every=0.3)
    assert first.not_valid_after_utc.timestamp() > time.time() - 2, "rotated too late"


def test_agent_svid_rotates_and_the_old_serial_dies(world):
    server, agent = world.pair(server={"server": SHORT})
    serial = server.agents()[0]["x509svid_serial_number"]
    wait_for("a new agent SVID", lambda: server.agents()[0]["x509svid_serial_number"] != serial, 30, every=0.3)
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    agent.restart()
    agent.await_ids("spiffe://example.org/w")


def test_jwt_svid_is_cached_and_renewed_early(world):
    server, agent = world.pair(server={"server": SHORT})
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    first = agent.fetch_jwt("aud")[0]["svid"]
    assert agent.fetch_jwt("aud")[0]["svid"] == first, "the JWT-SVID was not cached"
    assert agent.fetch_jwt("other")[0]["svid"] != first
    renewed = wait_for("a renewed JWT-SVID", lambda: (lambda t: t if t != first else None)(agent.fetch_jwt("aud")[0]["svid"]),
                       12, every=0.3)
    assert claims(first)["exp"] > time.time(), "renewed only after it had expired"
    assert claims(renewed)["exp"] > claims(first)["exp"]


def test_ca_rotation_reaches_bundle_and_streams(world):
    server, agent = world.pair(server={"server": SHORT})
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")
    first = server.bundle_pem()

    def prepared():
        return server.bundle_pem().count("BEGIN CERTIFICATE") >= 2
    wait_for("a prepared CA in the bundle", prepared, 75, every=0.5)
    assert first.strip() in server.bundle_pem()

    def issuer_changed():
        got = agent.fetch_x509()["svids"][0]
        cert = x509.load_der_x509_certificate(base64.b64decode(got["x509_svid"]))
        aki = cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        root = x509.load_pem_x509_certificate(first.encode())
        return aki != root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    wait_for("an SVID of the new CA", issuer_changed, 75, every=0.5)
    server.restart()
    server.entry(agent.id, "spiffe://example.org/x")
    agent.await_ids("spiffe://example.org/w", "spiffe://example.org/x", limit=60)
