import pathlib
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


@pytest.fixture(scope="session")
def gospiffe(tmp_path_factory):
    """The go-spiffe client program, built once."""
    return goclients.build(goclients.GOSPIFFE, tmp_path_factory.mktemp("go"))


@pytest.fixture(scope="session")
def apidiff(tmp_path_factory):
    """The program that calls every method of the server, built once."""
    return goclients.build(goclients.APIDIFF, tmp_path_factory.mktemp("go"))


@pytest.fixture(scope="session")
def plugins(tmp_path_factory):
    """The program of external plugins, built once."""
    return goclients.build(goclients.PLUGINS, tmp_path_factory.mktemp("go"))


@pytest.fixture(scope="session")
def nitro_agent(tmp_path_factory):
    """The program that attests as enclaves do, built once."""
    return goclients.build(goclients.NITRO, tmp_path_factory.mktemp("go"))


@pytest.fixture(scope="session")
def kit(tmp_path_factory):
    """The plugin kit, installed, and its examples, built once."""
    return kitlib.Kit(tmp_path_factory.mktemp("kit"))
