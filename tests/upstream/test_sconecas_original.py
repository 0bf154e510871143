"""The SVIDStore sconecas_sessionmanager beside the plugin that it is modelled on: the same record makes the same requests, and
ours goes on from the other's predecessor files.

CSPIRE_UFCG_SPIRE names a checkout of ufcg-lsd/spire at branch scone-svidstore-plugin-v1. With CSPIRE_SCONE_DEMO, a checkout of
ufcg-lsd/spire-scone-demo, the demo's templates, client certificate and trust anchor are used; else those of examples/scone.
"""

import json
import os
import pathlib
import shutil
import subprocess

import pytest
import yaml
from cryptography.hazmat.primitives import serialization

from pki import root_pem
from plugins import agent as plugin_agent, server as plugin_server
from sconecas import HASH, await_versions, block, caslib, entry
from spire import REPO, wait_for

FORK, DEMO = os.environ.get("CSPIRE_UFCG_SPIRE"), os.environ.get("CSPIRE_SCONE_DEMO")
if FORK is None:
    pytest.skip("CSPIRE_UFCG_SPIRE is not set", allow_module_level=True)


@pytest.fixture(scope="module")
def oneput(tmp_path_factory):
    tree = tmp_path_factory.mktemp("fork") / "spire"
    shutil.copytree(FORK, tree, ignore=shutil.ignore_patterns(".git"))
    shutil.copytree(REPO / "tests" / "upstream" / "sconecas", tree / "cmd" / "oneput")
    subprocess.run(["go", "build", "-o", tree.parent / "oneput", "./cmd/oneput"], cwd=tree, check=True, timeout=900,
                   env={**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"})
    return tree.parent / "oneput"


@pytest.fixture
def setting(tmp_path):
    """The options for templates and trust, and what makes a CAS that takes the client's certificate."""
    examples = REPO / "examples" / "scone"
    files = {"svid": examples / "svid.yaml", "bundle": examples / "bundle.yaml", "federated": examples / "federated-bundles.yaml"}
    client = None
    if DEMO is not None:
        folder = tmp_path / "demo"
        folder.mkdir()
        for part in yaml.safe_load_all((pathlib.Path(DEMO) / "spire" / "spire-agent.yaml").read_text()):
            for name, text in (part or {}).get("data", {}).items():
                (folder / name).write_text(text)
        files = {"svid": folder / "svid_session_template.yaml", "bundle": folder / "ca_session_template.yaml",
                 "federated": folder / "fed_bundles_session_template.yaml", "trust": folder / "trustanchor.pem"}
        client = folder

    def make(name):
        cas = caslib.Cas(tmp_path / name)
        if client is not None:
            cas.stop()
            for part in ("session.crt", "session.key"):
                shutil.copy(client / part, cas.dir / part)
            cas.start()
        options = {"svid_session_template_file": files["svid"], "bundle_session_template_file": files["bundle"],
                   "federated_bundles_session_template_file": files["federated"]}
        if "trust" in files:
            options["trust_anchor_certificate"] = files["trust"]
        return cas, block(cas, tmp_path / f"{name}-predecessors", **options).replace(
            "plugin_data {", "plugin_data {\ninsecure_skip_verify_tls = true")
    return make


def test_the_same_requests(world, setting, oneput, tmp_path):
    (ours, our_block), (theirs, their_block) = setting("ours"), setting("theirs")
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, our_block).join()
    far = root_pem(tmp_path / "far.pem", "far").public_bytes(serialization.Encoding.PEM).decode()
    server.cli("bundle", "set", "-id", "spiffe://far.test", stdin=far)
    entry(server, agent, federated="NS/fed", federatesWith=["spiffe://far.test"])
    await_versions(ours, "NS/fed", 1)
    agent.await_log("SVID stored successfully")
    secrets = ours.last("NS/app-injector").secrets
    record = {
        "Config": their_block.split("plugin_data {\n", 1)[1].rsplit("}", 2)[0],
        "SVID": secrets["svid"]["value"], "Key": secrets["svid_key"]["value"],
        "Bundle": ours.last("NS/ca-injector").secrets["spire-ca"]["value"],
        "Metadata": ["session_name:NS/app", f"session_hash:{HASH}", "trust_bundle_session_name:NS/ca",
                     "fed_bundles_session_name:NS/fed"],
        "Federated": {"spiffe://far.test": far},
    }
    done = subprocess.run([oneput], input=json.dumps(record), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert ours.requests[:3] == theirs.requests[:3]
    assert [len(theirs.versions(n)) for n in ("NS/app-injector", "NS/ca-injector", "NS/fed")] == [2, 2, 2]
    # ours goes on from the other's files, at the other's CAS
    agent.stop()
    agent.conf_path.write_text(agent.conf_path.read_text().replace(our_block, their_block))
    agent.start()
    third = await_versions(theirs, "NS/app-injector", 3)
    assert third[2].data["predecessor"] == third[1].hash
    wait_for("all of them", lambda: all(len(theirs.versions(n)) == 3 for n in ("NS/ca-injector", "NS/fed")))
    ours.stop()
    theirs.stop()
