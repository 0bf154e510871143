# SPDX-License-Identifier: Apache-2.0
"""`validate` of both programs over the configurations in tests/data/config/cases.json.

Each case holds what SPIRE said (`upstream`, empty when it accepted) and, where ours says something else
on purpose, what ours says (`ours`: of the configuration itself; `ours_validate`: with its plugins). With CSPIRE_UPSTREAM_BIN set, the record itself is checked; with
CSPIRE_RECORD=1 as well, it is written anew. Ours must accept and refuse as recorded, with the same words.
"""

import concurrent.futures
import json
import os
import pathlib
import re

import pytest
import spire

CASES = pathlib.Path(__file__).resolve().parents[1] / "data" / "config" / "cases.json"


def cases():
    return json.loads(CASES.read_text())


def verdict(bindir, case, folder):
    """What `validate` says: "" when it accepts."""
    folder.mkdir()
    conf = folder / "case.conf"
    conf.write_bytes(case["text"].encode())
    argv = ["sh", "-c", 'cd "$0" && exec "$@"', folder, bindir / f"spire-{case['program']}", "validate", "-config", "case.conf"]
    done = spire.run(argv, check=False, limit=60)
    assert done.returncode in (0, 1), (case["name"], done)
    return done.stderr.strip() if done.returncode else ""


def all_verdicts(bindir, folder):
    table = cases()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        said = pool.map(lambda ic: verdict(bindir, ic[1], folder / str(ic[0])), enumerate(table))
    return list(zip(table, said))


def notes(text):
    """Plugins are checked in no fixed order, and SPIRE may say a thing twice."""
    return sorted(set(text.splitlines()))


def config_part(text):
    found = re.match(r"SPIRE (?:server|agent) configuration file is invalid: (.*)", text, re.S)
    return found.group(1) if found else None


@pytest.mark.skipif(spire.UPSTREAM is None, reason="upstream's programs are not here (CSPIRE_UPSTREAM_BIN)")
def test_record_is_what_upstream_says(tmp_path):
    result = all_verdicts(spire.UPSTREAM, tmp_path)
    if os.environ.get("CSPIRE_RECORD"):
        for case, said in result:
            case["upstream"] = said
        CASES.write_text("[\n" + ",\n".join(json.dumps(c) for c, _ in result) + "\n]\n")
    wrong = [(c["program"], c["name"], c["upstream"], said) for c, said in result if notes(c["upstream"]) != notes(said)]
    assert not wrong


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
