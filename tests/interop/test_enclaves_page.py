"""docs/enclaves.md: what the page has one type on a plain machine is run as it stands, but for the ports."""

import os
import re
import signal
import subprocess

import pytest

import nitro
from spire import BIN, PATIENCE, REPO, free_port, run

PAGE = REPO / "docs" / "enclaves.md"
HEADING = "## On a plain machine\n"


def script():
    text = PAGE.read_text().split(HEADING)[1]
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.S | re.M)
    assert blocks[0].startswith("make") and blocks[-1] == "kill $(jobs -p)\n"
    body = "\n".join(blocks[1:-1])  # this tree is built; and we end what runs
    for port in ("8081", "127.0.0.1:5000"):
        assert port in body
        body = body.replace(port, port[:-4] + str(free_port()))
    return "set -eo pipefail\n" + body


@pytest.mark.skipif("CSPIRE_STATIC_BIN" not in os.environ, reason="CSPIRE_STATIC_BIN does not name the folder of `make static`")
def test_the_page_can_be_followed(tmp_path):
    # the tree as the page sees it: its commands leave build/
    (tmp_path / "build").mkdir()
    for name, target in (("bin", BIN), ("tests", nitro.NSM.parent), ("static/bin", nitro.ENCLAVE_BIN)):
        at = tmp_path / "build" / name
        at.parent.mkdir(exist_ok=True)
        at.symlink_to(target)
    (tmp_path / "tests").symlink_to(REPO / "tests")
    done = subprocess.Popen(["bash", "-c", script() + "\nkill $(jobs -p)\n"], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, "GOFLAGS": "-mod=mod"})
    try:
        out, _ = done.communicate(timeout=120 * PATIENCE)
    finally:
        try:
            os.killpg(done.pid, signal.SIGKILL)  # the session of the script, which is ours
        except ProcessLookupError:
            pass
    assert done.returncode == 0, out
    assert re.search(r"^token\(spiffe://example.org/app\):\n\t?\s*ey", out, re.M), out
    assert "URI:spiffe://example.org/app" in out
    assert re.search(r"^-rw------- .* svid_key.pem$", out, re.M), out
    assert out.rstrip().endswith('{"event":"called","reply":"echo: hello from the enclave\\n"}'), out


def test_the_configuration_for_ec2_is_good(tmp_path):
    block = re.search(r"^ *```hcl\n( *agent \{.*?)^ *```$", PAGE.read_text(), re.S | re.M).group(1)
    assert "server_proxy" in block
    conf = tmp_path / "agent.conf"
    conf.write_text(block)
    assert "is valid" in run([BIN / "spire-agent", "validate", "-config", conf]).stdout
