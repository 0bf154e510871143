import pathlib

import cluster as clusters
import pytest


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """One control plane for all tests of a process; each makes nodes, pods and users of names of its own."""
    program = clusters.program()
    if not program:
        pytest.fail("CSPIRE_KUBE_BIN does not name the program of tests/kubernetes/controlplane")
    c = clusters.Cluster(tmp_path_factory.mktemp("k") / "c", pathlib.Path(program).resolve())
    try:
        yield c.start()
    finally:
        c.close()


@pytest.fixture
def name(request):
    """A name that no other test uses, as Kubernetes takes it."""
    text = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    return text[:40].strip("-") + f"-{abs(hash(request.node.nodeid)) % 0xffff:04x}"
