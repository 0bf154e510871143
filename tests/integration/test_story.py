"""The first hour of a user: server, join token, agent, entry, SVID, files."""

import os
import pathlib
import subprocess

from cryptography import x509
from cryptography.hazmat.primitives import serialization

import spire
from spire import run, wait_for


def uri_of(cert):
    san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return san.get_values_for_type(x509.UniformResourceIdentifier)


def test_join_token_entry_and_svid_files(world, tmp_path):
    server, agent = world.pair()
    server.cli("entry", "create", "-parentID", agent.id, "-spiffeID", "spiffe://example.org/workload", "-selector",
               f"unix:uid:{os.getuid()}")
    agent.await_ids("spiffe://example.org/workload")

    out = agent.cli("api", "fetch", "x509", "-write", str(tmp_path) + "/").stdout
    assert out.startswith("Received 1 svid after ")
    assert "SPIFFE ID:\t\tspiffe://example.org/workload\n" in out
    assert f"Writing SVID #0 to file {tmp_path}/svid.0.pem.\n" in out
    chain = x509.load_pem_x509_certificates((tmp_path / "svid.0.pem").read_bytes())
    key = serialization.load_pem_private_key((tmp_path / "svid.0.key").read_bytes(), None)
    assert uri_of(chain[0]) == ["spiffe://example.org/workload"]
    assert key.public_key() == chain[0].public_key()
    assert (tmp_path / "svid.0.key").stat().st_mode & 0o777 == 0o600
    verified = run(["openssl", "verify", "-x509_strict", "-CAfile", tmp_path / "bundle.0.pem", tmp_path / "svid.0.pem"])
    assert verified.stdout.strip().endswith(": OK")


def test_token_with_spiffe_id_is_a_second_parent(world):
    """A token's -spiffeID makes a node alias that entries can hang on."""
    server = world.server().start()
    agent = world.agent(server).join("spiffe://example.org/host")
    server.entry("spiffe://example.org/host", "spiffe://example.org/host/workload")
    agent.await_ids("spiffe://example.org/host/workload")


def test_a_caller_without_identity_gets_it_as_soon_as_there_is_one(world):
    server, agent = world.pair()
    denied = agent.cli("api", "fetch", "x509", check=False)
    assert denied.returncode == 1
    assert "code = PermissionDenied desc = no identity issued" in denied.stderr
    server.entry(agent.id, "spiffe://example.org/late")
    agent.await_ids("spiffe://example.org/late")


def test_jwt_svid_fetch_and_validate(world):
    server, agent = world.pair()
    server.entry(agent.id, "spiffe://example.org/w", jwtSVIDTTL=300)
    agent.await_ids("spiffe://example.org/w")
    svid = agent.fetch_jwt("a,b")[0]
    assert svid["spiffe_id"] == "spiffe://example.org/w"
    good = agent.cli("api", "validate", "jwt", "-audience", "b", "-svid", svid["svid"]).stdout
    assert good.startswith("SVID is valid.\nSPIFFE ID : spiffe://example.org/w\nClaims    : {")
    bad = agent.cli("api", "validate", "jwt", "-audience", "c", "-svid", svid["svid"], check=False)
    assert bad.returncode == 1 and bad.stderr.startswith("SVID is not valid: ")
    broken = svid["svid"][:-6] + ("AAAAAA" if not svid["svid"].endswith("AAAAAA") else "BBBBBB")
    assert agent.cli("api", "validate", "jwt", "-audience", "b", "-svid", broken, check=False).returncode == 1


def test_selectors_decide(world):
    """Only entries whose selectors all hold for the caller are given out."""
    server, agent = world.pair()
    uid, gid = os.getuid(), os.getgid()
    server.entry(agent.id, "spiffe://example.org/both", f"unix:uid:{uid}", f"unix:gid:{gid}")
    server.entry(agent.id, "spiffe://example.org/other", f"unix:uid:{uid + 1}")
    server.entry(agent.id, "spiffe://example.org/half", f"unix:uid:{uid}", f"unix:gid:{gid + 1}")
    agent.await_ids("spiffe://example.org/both")


def test_workload_path_and_hash(world):
    server, agent = world.pair(agent={"unix": "discover_workload_path = true"})
    exe = pathlib.Path(agent.bin / "spire-agent").resolve()
    digest = run(["sha256sum", exe]).stdout.split()[0]
    server.entry(agent.id, "spiffe://example.org/path", f"unix:path:{exe}")
    server.entry(agent.id, "spiffe://example.org/hash", f"unix:sha256:{digest}")
    server.entry(agent.id, "spiffe://example.org/wrong", f"unix:sha256:{'0' * 64}")
    agent.await_ids("spiffe://example.org/hash", "spiffe://example.org/path")


def test_mint_without_entry(world, tmp_path):
    server = world.server().start()
    server.cli("x509", "mint", "-spiffeID", "spiffe://example.org/minted", "-dns", "a.example.org", "-write", tmp_path)
    cert = x509.load_pem_x509_certificate((tmp_path / "svid.pem").read_bytes())
    san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == ["a.example.org"]
    run(["openssl", "verify", "-x509_strict", "-CAfile", tmp_path / "bundle.pem", tmp_path / "svid.pem"])
    token = server.cli("jwt", "mint", "-spiffeID", "spiffe://example.org/minted", "-audience", "x").stdout.strip()
    assert token.count(".") == 2


def test_the_upstreamca_block_of_old_configurations(world, tmp_path):
    """SPIRE 0.2 called the UpstreamAuthority plugin UpstreamCA."""
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout",
         tmp_path / "ca.key", "-out", tmp_path / "ca.crt", "-subj", "/C=US/O=SPIFFE", "-addext",
         "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign,cRLSign"])
    plugin = f'''UpstreamCA "disk" {{
        plugin_data {{
            ttl = "1h"
            key_file_path = "{tmp_path}/ca.key"
            cert_file_path = "{tmp_path}/ca.crt"
        }}
    }}'''
    server = world.server(plugins=plugin).start()
    root = x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes())
    assert x509.load_pem_x509_certificates(server.bundle_pem().encode()) == [root]
    assert "UpstreamCA" in server.log() and "deprecated" in server.log()
