"""Every case of the table, through the real command line: one message, exit code not zero, nothing half-written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cases import CASES, Case

from kind.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
# Of a job that goes on, or that a retry would end as before.
KEPT = ("job.json", "live.csv", "failed.json", "lock", ".images.npy", ".images.npy.log", "bad_images.csv")


def check(case: Case, place, before: dict[str, str], code: int, err: str) -> None:
    lines = [line for line in err.splitlines() if not line.startswith(("$ ", "prepare folder: "))]
    wanted = re.escape(f"error: {case.message}").replace(re.escape("..."), "[^\n]+")
    assert re.fullmatch(wanted, "\n".join(lines)), f"said:\n{err}\nexpected:\nerror: {case.message}"
    assert "\n  -> " in case.message, "what to do"
    assert code == case.code
    assert not place.sprung.exists(), "a pickle was run"
    after = place.contents()
    ours = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert all("/state/" in name and Path(name).name in KEPT for name in ours), ours


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_one_message(place, capsys, case):
    case.breaks(place)
    before, (stage, *chosen) = place.contents(), case.command
    capsys.readouterr()
    code = main([stage, "--experiment", "tiny.yaml", *chosen])
    check(case, place, before, code, capsys.readouterr().err)


@pytest.mark.parametrize("name", ["missing params file", "cut data split", "results below a file"])
def test_a_process_of_its_own_says_the_same(place, name):
    (case,) = [case for case in CASES if case.name == name]
    case.breaks(place)
    before, (stage, *chosen) = place.contents(), case.command
    done = subprocess.run(
        [sys.executable, "-m", "kind", stage, "--experiment", "tiny.yaml", *chosen],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    check(case, place, before, done.returncode, done.stderr)


def test_names_are_told_once():
    assert len({case.name for case in CASES}) == len(CASES)
