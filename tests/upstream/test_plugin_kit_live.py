"""Plugins written with the kit in C, loaded by SPIRE's own programs.

Needs CSPIRE_UPSTREAM_BIN, as test_swap.py."""

import pytest

import kitstories
from spire import BIN, UPSTREAM


@pytest.mark.parametrize("story", kitstories.STORIES, ids=lambda s: s.__name__)
def test_kit(world, kit, story, monkeypatch):
    kitstories.own_sockets(world, monkeypatch)
    story(world, kit, UPSTREAM, UPSTREAM)


@pytest.mark.parametrize("server_bin,agent_bin", [pytest.param(BIN, UPSTREAM, id="our-server-their-agent"),
                                                  pytest.param(UPSTREAM, BIN, id="their-server-our-agent")])
def test_halves_of_both(world, kit, server_bin, agent_bin, monkeypatch):
    kitstories.own_sockets(world, monkeypatch)
    kitstories.attest_and_fetch(world, kit, server_bin, agent_bin)
