"""Every method of the server through SPIRE's own SDK, with good and bad input, as every kind of caller,
against recorded answers (tests/upstream/test_apidiff.py compares with SPIRE's own server).

Record anew after a wanted change: apidiff -a SOCKET,HOST:PORT -record golden.txt (see its main.go).
"""

from spire import run
from goclients import APIDIFF, OPTIONS, where


def test_answers_are_as_recorded(world, apidiff):
    server = world.server(server=OPTIONS).start()
    run([apidiff, "-a", where(server), "-golden", APIDIFF / "golden.txt"], limit=120)
