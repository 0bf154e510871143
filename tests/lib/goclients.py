"""The Go programs of tests/interop: where they are, and how they are built."""

import os
import pathlib
import subprocess

INTEROP = pathlib.Path(__file__).resolve().parents[1] / "interop"
GOSPIFFE = INTEROP / "gospiffe"
APIDIFF = INTEROP / "apidiff"
PLUGINS = INTEROP / "plugins"
NITRO = INTEROP / "nitro"
OPTIONS = "ratelimit {\n        attestation = false\n    }"


def build(source, folder):
    """The program of a folder with Go sources; made unless it is there already."""
    out = folder / source.name
    if out.exists():
        return out
    env = {**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-o", str(out), "."], cwd=source, env=env, check=True, timeout=600)
    return out


def where(server):
    return f"{server.socket},127.0.0.1:{server.port}"
