"""The plugin for Enclaver (enclaver-io/spire-nitro-enclave-plugin) as it is built from its source, loaded by our server
and by SPIRE's: the same answers. And one unauthenticated call that ends it, which our server gets over.

It trusts AWS's root alone, so what a test can make is refused, and what AWS made is too old.
"""

import os
import pathlib

import pytest

import enclaver
import spire
from spire import wait_for

PLUGIN = os.environ.get("CSPIRE_NITRO_PLUGIN_BIN")
pytestmark = pytest.mark.skipif(not PLUGIN, reason="CSPIRE_NITRO_PLUGIN_BIN does not name the plugin's program")
BLOCK = f'NodeAttestor "nitro_enclave" {{\n plugin_cmd = "{PLUGIN}"\n plugin_data {{}}\n}}'
PLAIN = "ratelimit {\n        attestation = false\n    }"


@pytest.fixture
def enclaves(world, nitro_agent):
    return enclaver.Nitro(world.dir, nitro_agent)


def answer(enclaves, *words, document=None):
    got = enclaves.attest(*words, document=document)
    # Go's texts of expired certificates name the second
    return got.get("code"), got.get("message", "").split("current time")[0]


def documents(enclaves):
    """Name -> file, of every kind that the plugin can be brought to answer."""
    made = {"another root": enclaves.document(), "debug": enclaves.document("pcr0=" + "00" * 48),
            "no PCR0": enclaves.document("pcr0="), "tagged": enclaves.document("tagged=1", "definite=1"),
            "stale": enclaves.document("age=400")}
    whole = made["another root"].read_bytes()
    for name, content in {"text": b"{}", "truncated": whole[:1000], "no digest": whole.replace(b"SHA384", b"SHA256"),
                          "no payload": b"\x84\x44\xa1\x01\x38\x22\xa0\x40\x41\x00",
                          "other algorithm": whole.replace(b"\xa1\x01\x38\x22", b"\xa1\x01\x38\x23"),
                          "trailing": whole + b"\0"}.items():
        made[name] = enclaves.dir / name.replace(" ", "-")
        made[name].write_bytes(content)
    if enclaver.DATA.exists():
        made.update({p.name: p for p in enclaver.DATA.glob("*.cbor")})
    return made


@pytest.mark.skipif(spire.UPSTREAM is None, reason="CSPIRE_UPSTREAM_BIN does not name a folder with SPIRE's programs")
def test_answers_are_as_under_spire(world, enclaves):
    found = documents(enclaves)
    enclaves.serve(world, plugin=BLOCK, server=PLAIN, name="ours")
    ours = {name: answer(enclaves, document=path) for name, path in found.items()}
    enclaves.serve(world, plugin=BLOCK, server=PLAIN, name="spire", bindir=spire.UPSTREAM)
    theirs = {name: answer(enclaves, document=path) for name, path in found.items()}
    assert ours == theirs
    assert ours["another root"] == ("Unknown", "nodeattestor(nitro_enclave): x509: certificate signed by unknown authority")
    assert ours["text"] == ("Unknown", "nodeattestor(nitro_enclave): Data is not a COSESign1 array")


def test_a_crash_is_survived(world, enclaves):
    """A leaf on P-521 from anybody: under SPIRE every later attestation is Unavailable until the server restarts."""
    server = enclaves.serve(world, plugin=BLOCK, server=PLAIN)
    unknown = ("Unknown", "nodeattestor(nitro_enclave): x509: certificate signed by unknown authority")
    assert answer(enclaves) == unknown
    for crash in range(1, 4):
        code, text = answer(enclaves, "leaf=p521")
        assert code in ("Unavailable", "Unknown", "Internal") and text.startswith("nodeattestor(nitro_enclave): ")
        wait_for("the plugin to be back", lambda: answer(enclaves) == unknown, limit=60)
        assert server.log().count("unknown ECDSA curve name P-521") == crash  # the plugin's last words
        assert server.log().count("Plugin will be started again") == crash
    assert server.alive()


def test_the_plugin_ends_with_the_server(world, enclaves):
    server = enclaves.serve(world, plugin=BLOCK, server=PLAIN)
    children = [p for p in pathlib.Path("/proc").glob("[0-9]*")
                if (p / "cmdline").exists() and (p / "cmdline").read_bytes().split(b"\0")[0] == PLUGIN.encode()
                and f"PPid:\t{server.proc.pid}\n" in (p / "status").read_text()]
    assert len(children) == 1
    assert server.stop() == 0
    wait_for("the plugin to end", lambda: not children[0].exists())
