# SPDX-License-Identifier: Apache-2.0
"""The record of what SPIRE's `validate` says is right. With CSPIRE_RECORD=1 it is written anew."""

import json
import os

import spire
from configcases import CASES, all_verdicts, notes


def test_record_is_what_upstream_says(tmp_path):
    result = all_verdicts(spire.UPSTREAM, tmp_path)
    if os.environ.get("CSPIRE_RECORD"):
        for case, said in result:
            case["upstream"] = said
        CASES.write_text("[\n" + ",\n".join(json.dumps(c) for c, _ in result) + "\n]\n")
    wrong = [(c["program"], c["name"], c["upstream"], said) for c, said in result if notes(c["upstream"]) != notes(said)]
    assert not wrong
