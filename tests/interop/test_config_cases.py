# SPDX-License-Identifier: Apache-2.0
"""Our `validate` accepts and refuses what SPIRE's does, with the same words where they are recorded."""

import re

import spire
from configcases import all_verdicts, notes


def config_part(text):
    found = re.match(r"SPIRE (?:server|agent) configuration file is invalid: (.*)", text, re.S)
    return found.group(1) if found else None


def test_ours_says_the_same(tmp_path):
    wrong = []
    for case, said in all_verdicts(spire.BIN, tmp_path):
        want = case["upstream"]
        if "ours_validate" in case:
            same = said == case["ours_validate"]
        elif "ours" in case:
            same = (config_part(said) or "") == case["ours"]
        elif config_part(want) is not None or want == "":
            same = said == want
        else:
            same = notes(said) == notes(want)
        if not same:
            wrong.append((case["program"], case["name"], case.get("ours", want), said))
    assert not wrong, "\n".join(map(repr, wrong))
