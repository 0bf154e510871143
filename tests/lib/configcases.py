# SPDX-License-Identifier: Apache-2.0
"""`validate` over the configurations in tests/data/config/cases.json.

Each case holds what SPIRE said (`upstream`, empty when it accepted) and, where ours says something else on
purpose, what ours says (`ours`: of the configuration itself; `ours_validate`: with its plugins).
"""

import concurrent.futures
import json
import pathlib

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
