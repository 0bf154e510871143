"""Enclaves of AWS Nitro against the server, with the calls that Enclaver's agent makes, and with hostile ones.

Documents are signed below a root of the test's own; documents of AWS are looked at where they are there.
"""

import json

import pytest

import enclaver
from enclaver import DEFAULT_ID, IMAGE, OTHER_IMAGE
from spire import run

DENIED, INVALID = "PermissionDenied", "InvalidArgument"


@pytest.fixture
def enclaves(world, nitro_agent):
    return enclaver.Nitro(world.dir, nitro_agent)


def refused(got, code, text):
    assert (got.get("code"), text in got.get("message", "")) == (code, True), got


def attested(got, agent_id=DEFAULT_ID):
    assert "code" not in got, got
    assert got["agent_id"] == agent_id
    assert got["reattestable"] is False
    return got


def selectors(server, agent_id):
    found = [a for a in server.agents() if agent_id.endswith(a["id"]["path"])]
    assert len(found) == 1
    return {f'{s["type"]}:{s["value"]}' for s in found[0]["selectors"]}


def test_the_sequence_of_enclavers_agent(world, enclaves):
    server = enclaves.serve(world)
    server.entry(DEFAULT_ID, "spiffe://example.org/myservice", "nitro_enclave:*")
    got = attested(enclaves.attest(until="all"))
    assert got["entries"] == ["spiffe://example.org/myservice"]
    assert got["svid"] == "spiffe://example.org/myservice"
    claims = json.loads(got["jwt"])
    assert (claims["sub"], claims["aud"]) == ("spiffe://example.org/myservice", ["shop"])
    assert (got["authorities"], got["jwt_keys"]) == (1, 1)
    assert selectors(server, DEFAULT_ID) == {
        f"nitro_enclave:pcr0:{IMAGE}", f"nitro_enclave:pcr1:{IMAGE}", f"nitro_enclave:pcr2:{IMAGE}",
        f"nitro_enclave:pcr4:1d{'0' * 94}", "nitro_enclave:module_id:i-0123456789abcdef0-enc0123456789abcdef",
        "nitro_enclave:instance_id:i-0123456789abcdef0", "nitro_enclave:enclave_id:enc0123456789abcdef"}


@pytest.mark.parametrize("form", [["definite=1"], ["tagged=1"], ["definite=1", "tagged=1"]])
def test_every_form_of_a_document(world, enclaves, form):
    enclaves.serve(world)
    attested(enclaves.attest(*form))


def test_attesting_again_ends_the_older_svid(world, enclaves):
    enclaves.serve(world)
    first = attested(enclaves.attest())
    assert "code" not in enclaves.again(first)
    second = attested(enclaves.attest())
    assert first["serial"] != second["serial"]
    got = enclaves.again(first)
    refused(got, DENIED, "authorization denied for method")
    assert got["reason"] == "AGENT_NOT_ACTIVE"
    assert "code" not in enclaves.again(second)


def test_two_enclaves_of_one_image_side_by_side(world, enclaves):
    server = enclaves.serve(world, 'agent_path_template = "/nitro-enclave/{{ .PCR0 }}/{{ .EnclaveID }}"')
    image = "spiffe://example.org/image/shop"
    server.cli("entry", "create", "-node", "-spiffeID", image, "-selector", f"nitro_enclave:pcr0:{IMAGE}")
    server.entry(image, "spiffe://example.org/shop", f"nitro_enclave:pcr0:{IMAGE}")
    a = attested(enclaves.attest("module_id=i-1-enca", until="all"), DEFAULT_ID + "/enca")
    b = attested(enclaves.attest("module_id=i-1-encb", until="all"), DEFAULT_ID + "/encb")
    assert "spiffe://example.org/shop" in a["entries"] and "spiffe://example.org/shop" in b["entries"]
    for one in (a, b):  # neither pushed the other out
        got = enclaves.again(one)
        assert "code" not in got and "spiffe://example.org/shop" in got["entries"]
    other = enclaves.attest(f"pcr0={OTHER_IMAGE}", "module_id=i-1-encc", until="all")
    assert "spiffe://example.org/shop" not in other.get("entries", [])


def test_a_document_serves_one_key(world, enclaves):
    server = enclaves.serve(world)
    stolen = enclaves.document()
    owner = attested(enclaves.attest(document=stolen))
    refused(enclaves.attest(document=stolen), DENIED, "nodeattestor(nitro_enclave): document was used before, with another key")
    assert "code" not in enclaves.again(owner)
    attested(enclaves.attest(document=stolen, key=owner["key"]))
    assert "document was used before, with another key" in server.log()


@pytest.mark.parametrize("bind", ["public_key", "user_data", "nonce"])
def test_documents_that_name_their_key(world, enclaves, bind):
    enclaves.serve(world, "require_key_binding = true")
    got = attested(enclaves.attest(bind=bind))
    assert "challenge" not in got


def test_documents_that_name_no_key_are_challenged(world, enclaves):
    enclaves.serve(world, "require_key_binding = true")
    got = attested(enclaves.attest(answer="nonce"))
    assert len(got["challenge"]) == 64
    assert enclaves.attest(answer="nonce")["challenge"] != got["challenge"]
    refused(enclaves.attest(answer="zeros"), DENIED, "nonce is not the one that was asked for")
    refused(enclaves.attest(answer="old"), DENIED, "nonce is not the one that was asked for")
    refused(enclaves.attest(answer="empty"), INVALID, "data is not a COSE_Sign1 array")
    # Enclaver's agent half closes at once, and passes over what it does not know
    refused(enclaves.attest(), "Internal", "failed to receive challenge from agent")


def test_no_challenge_without_need(world, enclaves):
    enclaves.serve(world)
    assert "challenge" not in attested(enclaves.attest(answer="nonce"))


HOSTILE = [
    (["age=400"], DENIED, "document is older than max_age"),
    (["age=-120"], DENIED, "timestamp is in the future"),
    (["pcr0=" + "00" * 48], DENIED, "PCR0 is zero: the enclave is in debug mode"),
    (["pcr0="], INVALID, "pcrs: PCR0 is missing"),
    (["pcr0=" + "11" * 47], INVALID, "pcrs: PCR0 is not 32, 48 or 64 bytes"),
    (["module_id="], INVALID, "module_id is not a text"),
    (["user_data=" + "00" * 1025], INVALID, "user_data is neither null nor a byte string of at most 1024 bytes"),
    (["leaf=p521"], DENIED, "certificate: the key is not on P-384"),
]


def test_hostile_documents_are_refused_with_a_reason(world, enclaves):
    server = enclaves.serve(world)
    for words, code, text in HOSTILE:
        refused(enclaves.attest(*words), code, f"nodeattestor(nitro_enclave): {text}")
        assert text in server.log(), words
    good = enclaves.document()
    whole = good.read_bytes()
    broken = enclaves.dir / "broken"
    cases = {"trailing": (whole + b"\0", INVALID, "1 bytes after its end"),
             "text": (b"{}", INVALID, "data is not a COSE_Sign1 array"),
             "tampered": (whole.replace(b"\x0e\xc1\xa7\xe0", b"\x0e\xc1\xa7\xe1"), DENIED, "COSE_Sign1: signature is wrong"),
             "large": (whole + bytes(20000), INVALID, "document is larger than"),
             "deep": (b"\x81" * 17000, INVALID, "data is not a COSE_Sign1 array")}
    for content, code, text in cases.values():
        broken.write_bytes(content)
        refused(enclaves.attest(document=broken), code, text)
        assert text in server.log()
    for length in (1, 2, 10, 100, 1000, len(whole) - 1):
        broken.write_bytes(whole[:length])
        refused(enclaves.attest(document=broken), INVALID, "nodeattestor(nitro_enclave): ")
    attested(enclaves.attest(document=good))
    assert server.alive() and server.agent_ids() == [DEFAULT_ID]


def test_documents_of_another_root_are_refused(world, enclaves, nitro_agent):
    enclaves.serve(world)
    (world.dir / "other").mkdir()
    impostor = enclaver.Nitro(world.dir / "other", nitro_agent)  # a root of the same name
    refused(enclaves.attest(document=impostor.document()), DENIED, "cabundle[0] is not a root that is trusted here")


def test_images_can_be_listed(world, enclaves):
    server = enclaves.serve(world, f'allowed_pcr0 = ["{OTHER_IMAGE.upper()}"]')
    refused(enclaves.attest(), DENIED, f"PCR0 {IMAGE} is not in allowed_pcr0")
    attested(enclaves.attest(f"pcr0={OTHER_IMAGE}"), DEFAULT_ID.replace(IMAGE, OTHER_IMAGE))
    assert "is not in allowed_pcr0" in server.log()


def test_debug_mode_on_demand(world, enclaves):
    server = enclaves.serve(world, "allow_debug = true", 'agent_path_template = "/enclave/{{ .EnclaveID }}"')
    assert "level=warning" in server.log() and "allow_debug is not for production" in server.log()
    got = attested(enclaves.attest("pcr0=" + "00" * 48),
                   "spiffe://example.org/spire/agent/debug/enclave/enc0123456789abcdef")
    assert "nitro_enclave:debug:true" in selectors(server, got["agent_id"])
    attested(enclaves.attest(), "spiffe://example.org/spire/agent/enclave/enc0123456789abcdef")


@pytest.mark.parametrize("option, text", [
    ('root_ca_path = "/does/not/exist.pem"', "/does/not/exist.pem"),
    ('root_ca_path = "{dir}/conf"', "no PEM blocks"),
    ('agent_path_template = "/{{ .Fingerprint }}"', 'agent_path_template: unknown field \\"Fingerprint\\"'),
    ("require_key_bindng = true", 'unknown setting \\"require_key_bindng\\" encountered'),
    ('max_age = "-1s"', "is not positive"),
    ('allowed_pcr0 = ["123"]', "is not 96 hex digits"),
])
def test_faults_stop_the_start(world, option, text):
    option = option.replace("{dir}", str(world.dir / "server"))
    server = world.server(plugins='NodeAttestor "nitro_enclave" { plugin_data { ' + option + " } }")
    done = run([server.bin / "spire-server", "run", "-config", server.conf_path], check=False)
    assert done.returncode != 0
    assert text in done.stdout + done.stderr
    assert 'failed to configure plugin \\"nitro_enclave\\"' in done.stdout + done.stderr


def test_documents_of_aws_are_too_old(world, enclaves):
    if not enclaver.DATA.exists():
        pytest.skip("CSPIRE_NITRO_DATA does not name a folder with documents of AWS")
    enclaves.serve(world, plugin=enclaves.plugin(root=False))
    found = sorted(enclaver.DATA.glob("*.cbor"))
    assert found
    for document in found:
        refused(enclaves.attest(document=document), DENIED, "document is older than max_age")
    enclaves.server.stop()
    enclaves.serve(world, plugin=enclaves.plugin('max_age = "99999h"', "allow_debug = true", root=False), name="patient")
    for document in found:
        refused(enclaves.attest(document=document), DENIED, "has expired or is not yet valid")
