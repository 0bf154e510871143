import os
import pathlib
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def gospiffe(tmp_path_factory):
    """The go-spiffe client program, built once."""
    out = tmp_path_factory.mktemp("go") / "gospiffe"
    env = {**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-o", str(out), "."], cwd=HERE / "gospiffe", env=env, check=True, timeout=600)
    return out
