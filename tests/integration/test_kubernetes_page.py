"""docs/kubernetes.md and examples/kubernetes: the commands for a plain machine are run as they stand but for the port;
manifests and configurations fit together; the image's files are all that the programs need."""

import os
import re
import signal
import subprocess
import sys

import pytest
import yaml
from spire import BIN, PATIENCE, REPO, free_port, run

PAGE = REPO / "docs" / "kubernetes.md"
EXAMPLES = REPO / "examples" / "kubernetes"
MADE_BY_HAND = {"kubernetes-client-ca"}  # as the page says


def script():
    text = PAGE.read_text().split("## On a plain machine\n")[1]
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.S | re.M)
    assert blocks[0].startswith("make") and blocks[-1] == "kill $(jobs -p)\n"
    body = "\n".join(blocks[1:-1])  # this tree is built; and we end what runs
    assert body.count("8081") == 2
    return "set -eo pipefail\n" + body.replace("8081", str(free_port()))


def test_the_page_can_be_followed(tmp_path):
    venv = tmp_path / "build" / "venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (venv / "python").chmod(0o755)
    (tmp_path / "build" / "bin").symlink_to(BIN)
    (tmp_path / "tests").symlink_to(REPO / "tests")
    out_path = tmp_path / "out"
    with open(out_path, "w") as out_file:
        done = subprocess.Popen(["bash", "-c", script() + "\nkill $(jobs -p)\n"], cwd=tmp_path, stdout=out_file,
                                stderr=subprocess.STDOUT, start_new_session=True)
        try:
            done.wait(timeout=60 * PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            try:
                os.killpg(done.pid, signal.SIGKILL)  # the session of the script, which is ours
            except ProcessLookupError:
                pass
    out = out_path.read_text()
    assert done.returncode == 0, out
    assert "Wrote identity document to id/id-doc.crt" in out
    assert re.search(r"^subject=O = system:nodes, CN = system:node:n1$", out, re.M), out
    assert "spiffe://example.org/spire/agent/k8s_csr/demo/n1" in out
    assert re.search(r"spiffe://example.org/spire/agent/k8s_psat/demo/[0-9a-f-]{36}", out), out
    assert re.search(r"^SPIFFE ID:\s+spiffe://example.org/app$", out, re.M), out


# --- manifests ---

def manifests(*files):
    found = []
    for f in files or sorted(EXAMPLES.glob("*.yml")):
        found += [d for d in yaml.safe_load_all((EXAMPLES / f).read_text()) if d]
    return found


def of_kind(docs, kind):
    return {d["metadata"]["name"]: d for d in docs if d["kind"] == kind}


def test_bindings_name_roles_and_accounts_that_are_there():
    docs = manifests()
    roles = {k: of_kind(docs, k) for k in ("Role", "ClusterRole")}
    accounts = of_kind(docs, "ServiceAccount")
    bindings = [d for d in docs if d["kind"].endswith("RoleBinding")]
    assert len(bindings) >= 6
    for d in bindings:
        ref = d["roleRef"]
        assert ref["name"] in roles[ref["kind"]] or ref["name"].startswith("system:"), d
        for s in d["subjects"]:
            assert s["kind"] == "User" or s["name"] in accounts


@pytest.mark.parametrize("file", ["server.yml", "agent-psat.yml", "agent-csr.yml"])
def test_pods_have_what_their_configuration_names(file):
    docs = manifests(file)
    maps = of_kind(manifests(), "ConfigMap")
    (d,) = [d for d in docs if d["kind"] in ("StatefulSet", "DaemonSet")]
    spec = d["spec"]["template"]["spec"]
    assert d["spec"]["selector"]["matchLabels"].items() <= d["spec"]["template"]["metadata"]["labels"].items()
    assert spec["serviceAccountName"] in of_kind(docs, "ServiceAccount")
    volumes = {v["name"]: v for v in spec["volumes"]} | {
        v["metadata"]["name"]: v for v in d["spec"].get("volumeClaimTemplates", [])}
    (c,) = spec["containers"]
    assert {m["name"] for m in c["volumeMounts"]} == set(volumes)
    for v in volumes.values():
        if "configMap" in v:
            assert v["configMap"]["name"] in set(maps) | MADE_BY_HAND
    # the configuration is where the program looks, and says what the probes ask for
    mounts = {m["name"]: m["mountPath"] for m in c["volumeMounts"]}
    (name, text), = maps[volumes["config"]["configMap"]["name"]]["data"].items()
    assert c["args"] == ["run", "-config", f"{mounts['config']}/{name}"]
    ports = {p["name"]: p["containerPort"] for p in c["ports"]}
    for probe, path in (("livenessProbe", "/live"), ("readinessProbe", "/ready")):
        assert c[probe]["httpGet"] == {"path": path, "port": "health"}
        assert f'{path[1:]}_path = "{path}"' in text
    assert f'bind_port = "{ports["health"]}"' in text
    for used in re.findall(r'"(/run/[^"]+)"', text):
        assert any(used == m or used.startswith(m + "/") for m in mounts.values()), used


@pytest.mark.parametrize("file, program", [("server.yml", "spire-server"), ("agent-psat.yml", "spire-agent"),
                                           ("agent-csr.yml", "spire-agent")])
def test_the_configurations_are_good(tmp_path, file, program):
    texts = [t for m in of_kind(manifests(file), "ConfigMap").values() for t in (m.get("data") or {}).values()]
    assert len(texts) == 1
    (tmp_path / "conf").write_text(texts[0])
    done = run([BIN / program, "validate", "-config", tmp_path / "conf"], check=False)
    assert done.returncode == 0 and "is valid" in done.stdout, done.stdout + done.stderr


# --- the image ---

@pytest.mark.skipif(os.getuid() != 0, reason="chroot and mount need root")
def test_the_image_has_what_the_programs_need_and_nothing_else(tmp_path):
    tree = tmp_path / "image"
    run([REPO / "tools" / "image-tree", BIN.parent, tree])
    files = sorted(str(f.relative_to(tree)) for f in tree.rglob("*") if f.is_file())
    ours = [f for f in files if f.startswith("opt/spire/")]
    assert {"opt/spire/bin/node-attestor", "opt/spire/bin/spire-agent", "opt/spire/bin/spire-server",
            "opt/spire/lib/cspire/k8s_csr.so", "opt/spire/lib/cspire/kubernetes.so"} <= set(ours)
    assert all(re.search(r"\.so(\.[0-9]+)*$", f) for f in files if f not in ours), files
    (tree / "proc").mkdir()  # as what runs containers makes it
    inside = ["unshare", "--mount", "--pid", "--fork", f"--mount-proc={tree}/proc", "chroot", tree]
    run([*inside, "/opt/spire/bin/spire-agent", "-version"])
    run([*inside, "/opt/spire/bin/node-attestor", "-help"])
    # modules are found there, and find their libraries
    (tree / "run").mkdir()
    (tree / "run" / "server.conf").write_text(f'''
server {{ bind_address = "127.0.0.1" bind_port = "{free_port()}" socket_path = "/run/s.sock" trust_domain = "example.org"
    data_dir = "/run" }}
plugins {{
    DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "/run/d.sqlite3" }} }}
    KeyManager "memory" {{ plugin_data {{}} }}
    Notifier "k8sbundle" {{ plugin_data {{ kube_config_file_path = "/nowhere" }} }}
}}''')
    done = run([*inside, "/opt/spire/bin/spire-server", "run", "-config", "/run/server.conf"], check=False)
    assert done.returncode == 1 and "open /nowhere: no such file or directory" in done.stdout + done.stderr
