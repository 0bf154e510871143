"""Plugins written with the kit in C, loaded by SPIRE's own programs.

Needs CSPIRE_UPSTREAM_BIN, as test_swap.py."""

import pytest

import kitstories
from spire import UPSTREAM


@pytest.mark.parametrize("story", kitstories.STORIES, ids=lambda s: s.__name__)
def test_kit(world, kit, story, monkeypatch):
    kitstories.own_sockets(world, monkeypatch)
    story(world, kit, UPSTREAM, UPSTREAM)
