"""Every method of the server through SPIRE's own SDK, on SPIRE's server and on ours: the same answers."""

from spire import UPSTREAM, run
from goclients import OPTIONS, where


def test_answers_are_those_of_spire(world, apidiff):
    theirs = world.server("theirs", bindir=UPSTREAM, server=OPTIONS).start()
    ours = world.server("ours", server=OPTIONS).start()
    run([apidiff, "-a", where(theirs), "-b", where(ours)], limit=120)


def test_rate_limits_are_those_of_spire(world, apidiff):
    theirs = world.server("theirs", bindir=UPSTREAM).start()
    ours = world.server("ours").start()
    run([apidiff, "-limits", "-a", where(theirs), "-b", where(ours)], limit=60)
