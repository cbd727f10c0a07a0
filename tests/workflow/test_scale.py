"""Thousands of runs are planned in little memory; hundreds whole, and with all there not again.  Nothing is trained;
benchmarks/scale.py has times."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
from workspace import ROOT, Finished

pytestmark = pytest.mark.slow
MOST_MEMORY = 2048  # MiB, of each step

spec = importlib.util.spec_from_file_location("scale", ROOT / "benchmarks" / "scale.py")
scale = importlib.util.module_from_spec(spec)
sys.modules["scale"] = scale  # where dataclasses look for it
spec.loader.exec_module(scale)


@pytest.fixture
def params(tmp_path) -> Path:
    """The wide grid with two of its five seeds."""
    (tmp_path / "params").mkdir()
    for name in ("imagenet_b", "scale_b"):
        shutil.copy(ROOT / "params" / f"{name}.yaml", tmp_path / "params")
    path = tmp_path / "params" / "scale_b.yaml"
    path.write_text(path.read_text().replace("seeds: [0, 1, 2, 3, 4]", "seeds: [0, 1]"))
    return path


@pytest.fixture
def step(tmp_path):
    """step(*arguments of Python) -> how it ended; it may take as long as it likes, but not as much memory."""

    def step(*command: str) -> Finished:
        done = scale.timed(command[0], list(command), tmp_path)
        print(done)
        assert done.peak < MOST_MEMORY, done
        return Finished(0, done.said)

    return step


def test_thousands_of_runs_are_planned(step):
    planned = step(*scale.dry_run(ROOT / "params" / "scale.yaml")).planned
    assert planned["finetune"] == planned["sample"] == planned["evaluate"] == 1920
    assert planned["report"] == 2 and planned.total() > 5800, "with what comes before and after the runs"


def test_hundreds_of_runs_are_planned_whole_and_once_there_not_again(params, step, tmp_path):
    step("-m", "kind", "plan", str(params), "--json", "plan.json")
    counted = {
        rule: stage["jobs"] for rule, stage in json.loads((tmp_path / "plan.json").read_text())["stages"].items()
    }
    assert counted["finetune"] == counted["sample"] == counted["evaluate"] == 12 * 16 * 2
    assert step(*scale.dry_run(params)).planned == {**counted, "all": 1}
    step(str(ROOT / "benchmarks" / "scale.py"), "--fill", str(params))
    assert "Nothing to be done" in step(*scale.dry_run(params)).output
    scale.as_pulled(tmp_path)
    assert "Nothing to be done" in step(*scale.dry_run(params)).output

    run = tmp_path / "results" / "scale_b" / "runs" / "mri" / "lora" / "seed_1"
    (run / "metrics.json").unlink()
    assert step(*scale.dry_run(params)).planned == {"evaluate": 1, "report": 1, "all": 1}
