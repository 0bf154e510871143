"""Every method of the server through SPIRE's own SDK, with good and bad input, as every kind of caller,
against recorded answers; and against SPIRE's own server where that is at hand.

Record anew after a wanted change: apidiff -a SOCKET,HOST:PORT -record golden.txt (see its main.go).
"""

import os
import pathlib
import subprocess

import pytest

from spire import UPSTREAM, run

HERE = pathlib.Path(__file__).parent / "apidiff"
OPTIONS = "ratelimit {\n        attestation = false\n    }"


@pytest.fixture(scope="module")
def apidiff(tmp_path_factory):
    out = tmp_path_factory.mktemp("go") / "apidiff"
    env = {**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-o", str(out), "."], cwd=HERE, env=env, check=True, timeout=600)
    return out


def where(server):
    return f"{server.socket},127.0.0.1:{server.port}"


def test_answers_are_as_recorded(world, apidiff):
    server = world.server(server=OPTIONS).start()
    run([apidiff, "-a", where(server), "-golden", HERE / "golden.txt"], limit=120)


@pytest.mark.skipif(UPSTREAM is None, reason="needs CSPIRE_UPSTREAM_BIN")
def test_answers_are_those_of_spire(world, apidiff):
    theirs = world.server("theirs", bindir=UPSTREAM, server=OPTIONS).start()
    ours = world.server("ours", server=OPTIONS).start()
    run([apidiff, "-a", where(theirs), "-b", where(ours)], limit=120)


@pytest.mark.skipif(UPSTREAM is None, reason="needs CSPIRE_UPSTREAM_BIN")
def test_rate_limits_are_those_of_spire(world, apidiff):
    theirs = world.server("theirs", bindir=UPSTREAM).start()
    ours = world.server("ours").start()
    run([apidiff, "-limits", "-a", where(theirs), "-b", where(ours)], limit=60)
