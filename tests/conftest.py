import contextlib
import fcntl
import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "lib"))
import goclients  # noqa: E402
import kit as kitlib  # noqa: E402
import spire  # noqa: E402


class World:
    """Makes daemons in one temporary folder and ends them, agents before servers."""

    def __init__(self, folder):
        self.dir = folder
        self.made = []

    def server(self, name="server", **kw):
        s = spire.Server(self.dir / name, **kw)
        self.made.append(s)
        return s

    def agent(self, server, name="agent", **kw):
        a = spire.Agent(self.dir / name, server, **kw)
        self.made.append(a)
        return a

    def pair(self, server=None, agent=None):
        s = self.server(**(server or {})).start()
        a = self.agent(s, **(agent or {})).join()
        return s, a

    def close(self):
        errors = []
        for d in reversed(self.made):
            try:
                d.stop()
            except AssertionError as err:
                errors.append(str(err))
            errors += d.sanitizer_reports()
        assert not errors, errors


@pytest.fixture
def world(tmp_path_factory):
    # short names: a Unix socket's path has at most 107 bytes
    w = World(tmp_path_factory.mktemp("w"))
    yield w
    w.close()


@contextlib.contextmanager
def made_once(tmp_path_factory, name):
    """A folder for what all processes of one run share: whoever comes first fills it, the others wait."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / name
    folder.mkdir(exist_ok=True)
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def go_program(tmp_path_factory, source):
    with made_once(tmp_path_factory, "go") as folder:
        return goclients.build(source, folder)


@pytest.fixture(scope="session")
def gospiffe(tmp_path_factory):
    """The go-spiffe client program, built once."""
    return go_program(tmp_path_factory, goclients.GOSPIFFE)


@pytest.fixture(scope="session")
def apidiff(tmp_path_factory):
    """The program that calls every method of the server, built once."""
    return go_program(tmp_path_factory, goclients.APIDIFF)


@pytest.fixture(scope="session")
def plugins(tmp_path_factory):
    """The program of external plugins, built once."""
    return go_program(tmp_path_factory, goclients.PLUGINS)


@pytest.fixture(scope="session")
def nitro_agent(tmp_path_factory):
    """The program that attests as enclaves do, built once."""
    return go_program(tmp_path_factory, goclients.NITRO)


@pytest.fixture(scope="session")
def kit(tmp_path_factory):
    """The plugin kit, installed, and its examples, built once; but each process of the run has programs of its own, so
    that it finds its plugins by their paths."""
    own = tmp_path_factory.mktemp("kit")
    with made_once(tmp_path_factory, "kit") as folder:
        kitlib.Kit(folder)
        shutil.copytree(folder, own, dirs_exist_ok=True)
    return kitlib.Kit(own)
