"""Our agent in an enclave, under SPIRE's server with the plugin of enclaver-io, and under ours with that plugin.

CSPIRE_NITRO_PLUGIN_SRC names a folder with the plugin's source. It is built with one change, which is not in its own code: the
certificate that its library takes for AWS's root is the test module's.
"""

import os
import pathlib
import shutil
import subprocess

import pytest

import nitro
from nitro import enclave, module
from spire import UPSTREAM, wait_for

SOURCE = os.environ.get("CSPIRE_NITRO_PLUGIN_SRC")
if UPSTREAM is None or SOURCE is None:
    pytest.skip("CSPIRE_UPSTREAM_BIN and CSPIRE_NITRO_PLUGIN_SRC are not set", allow_module_level=True)

WORKLOAD = "spiffe://example.org/app"


def go(*args):
    return subprocess.run(["go", *args], cwd=SOURCE, check=True, capture_output=True, text=True,
                          env={**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}, timeout=600).stdout


@pytest.fixture(scope="module")
def nitro_root(tmp_path_factory):
    """A root that lasts for the module: the plugin is built for it."""
    folder = tmp_path_factory.mktemp("root")
    nsm = nitro.Nsm(folder)
    nsm.stop()
    return nsm.root


@pytest.fixture(scope="module")
def original(nitro_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    library = folder / "nitrite"
    shutil.copytree(go("list", "-m", "-f", "{{.Dir}}", "github.com/hf/nitrite").strip(), library, copy_function=shutil.copyfile)
    library.chmod(0o755)
    code = library / "nitrite.go"
    text = code.read_text()
    begin = text.index('DefaultCARoots string = "') + len('DefaultCARoots string = "')
    pem = (nitro_root / "root.pem").read_text().replace("\n", "\\n")
    code.write_text(text[:begin] + pem + text[text.index('"', begin):])
    for name in ("go.mod", "go.sum"):
        shutil.copyfile(pathlib.Path(SOURCE) / name, folder / name)
    go("mod", "edit", f"-replace=github.com/hf/nitrite={library}", folder / "go.mod")
    go("build", f"-modfile={folder / 'go.mod'}", "-o", folder / "plugin", "./cmd/spire-nitro-enclave-plugin")
    return folder / "plugin"


@pytest.mark.parametrize("bindir", [UPSTREAM, None], ids=["spire", "ours"])
def test_attested_by_the_original_plugin(world, nitro_root, original, bindir):
    nsm = module(world, root=nitro_root)
    server = world.server(bindir=bindir, server=nitro.SERVER_OPTIONS,
                          plugins=f'NodeAttestor "nitro_enclave" {{ plugin_cmd = "{original}" plugin_data {{}} }}').start()
    e = enclave(world, server, nsm)
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.start()
    assert server.agent_ids() == [e.id]
    wait_for("the SVID", lambda: e.x509_ids() == [WORKLOAD], 30)
    assert e.fetch_jwt("db")[0]["spiffe_id"] == WORKLOAD
    e.await_file("svid_key.pem")
    e.restart()  # and again, in the place of itself
    assert e.fetch_jwt("db")[0]["spiffe_id"] == WORKLOAD
