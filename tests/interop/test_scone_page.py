"""docs/scone.md: what the page has one type on a plain machine is run as it stands, but for the ports."""

import os
import re
import signal
import subprocess
import sys

from sconecas import caslib
from spire import BIN, PATIENCE, REPO, free_port

PAGE = REPO / "docs" / "scone.md"


def script():
    text = PAGE.read_text().split("## On a plain machine\n")[1]
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.S | re.M)
    assert blocks[0].startswith("make") and blocks[-1] == "kill $(jobs -p)\n"
    body = "\n".join(blocks[1:-1])  # this tree is built; and we end what runs
    for port in ("8081", "SERVICE_2_PORT=5002", "SERVICE_3_PORT=5003"):
        assert port in body
        body = body.replace(port, port[:-4] + str(free_port()))
    return "set -eo pipefail\n" + body


def test_the_page_can_be_followed(tmp_path):
    # the tree as the page sees it: its commands are typed in build/scone
    work = tmp_path / "build" / "scone"
    work.mkdir(parents=True)
    (tmp_path / "build" / "bin").symlink_to(BIN)
    (tmp_path / "build" / "venv").symlink_to(sys.prefix)
    for name in ("tests", "examples"):
        (tmp_path / name).symlink_to(REPO / name)
    done = subprocess.Popen(["bash", "-c", script() + "\nkill $(jobs -p)\n"], cwd=work, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, "GOFLAGS": "-mod=mod"})
    try:
        out, _ = done.communicate(timeout=120 * PATIENCE)
    except subprocess.TimeoutExpired:
        logs = "\n".join(f"{p.name}:\n{p.read_text()[-2000:]}" for p in work.glob("*.log"))
        raise AssertionError(logs) from None
    finally:
        try:
            os.killpg(done.pid, signal.SIGKILL)  # the session of the script, which is ours
        except ProcessLookupError:
            pass
    assert done.returncode == 0, out
    assert re.search(r"^500 error: .*refused", out, re.M), out
    assert '200 {"secret": "Eve is good and Bob is the bad guy"}\n' in out
    for name in ("svid-session", "bundle-session", "netshield-session", "netshield-ca-session"):
        assert re.search(rf"^ *64 agent/store-svid-scone/my-namespace/{name}-injector$", out, re.M), out


def test_another_version_of_a_session_gets_no_svid(tmp_path):
    """What the page says of imports holds in the stand-in, so that the page does not prove too little."""
    cas = caslib.Cas(tmp_path)
    try:
        app = 'name: app\nversion: "0.3"\nservices:\n  - {name: s, command: c, environment: {K: "$$SCONE::k:crt$$"}}\n' \
              'secrets:\n  - {name: k, import: {session: app-i, secret: k}}\n'
        made = cas.take(app, "me")
        cas.take(f'name: app-i\nversion: "0.3"\nsecrets:\n  - {{name: k, kind: binary, value: v, '
                 f'export: {{session: app, session_hash: {made.hash}}}}}\n', "me")
        assert cas.config_of("app/s")["environment"] == {"K": "v"}
        cas.take(app + f"predecessor: {made.hash}\n", "me")
        try:
            cas.config_of("app/s")
            raise AssertionError("imported by another version")
        except caslib.Refused as r:
            assert r.status == 403
    finally:
        cas.stop()
