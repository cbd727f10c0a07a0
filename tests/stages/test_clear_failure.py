"""What `clear-failure` takes away, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kind.__main__ import main

TINY = Path(__file__).resolve().parents[1] / "tiny.yaml"
JOBS = ("pretrain/kind", "pretrain/dense", "finetune/novel/full/0", "finetune/novel/kind/0", "finetune/novel/kind/1")


@pytest.fixture
def clear(tmp_path, capsys):
    """clear(...) -> exit code, what was said, and the jobs whose failure is still kept."""
    for job in JOBS:
        folder = tmp_path / "tiny" / "state" / job
        folder.mkdir(parents=True)
        (folder / "training.pt").write_text("state")
        failure = {"format": 1, "message": f"{job} failed\n  -> do this", "identity": "0"}
        (folder / "failed.json").write_text(json.dumps(failure))

    def run(*chosen: str):
        code = main(["clear-failure", "--experiment", str(TINY), "--results", str(tmp_path), *chosen])
        said = capsys.readouterr()
        kept = {job for job in JOBS if (tmp_path / "tiny" / "state" / job / "failed.json").exists()}
        assert all((tmp_path / "tiny" / "state" / job / "training.pt").exists() for job in JOBS)
        return code, said.out + said.err, kept

    return run


@pytest.mark.parametrize(
    ("chosen", "cleared"),
    [
        ([], JOBS),
        (["--backbone", "kind"], ["pretrain/kind"]),
        (["--task", "novel", "--method", "kind", "--seed", "1"], ["finetune/novel/kind/1"]),
        (["--method", "kind"], ["finetune/novel/kind/0", "finetune/novel/kind/1"]),
        (["--seed", "0"], ["finetune/novel/full/0", "finetune/novel/kind/0"]),
    ],
)
def test_the_named_failures_are_cleared_and_listed(clear, tmp_path, chosen, cleared):
    code, said, kept = clear(*chosen)
    assert code == 0 and kept == set(JOBS) - set(cleared)
    lines = [line for line in said.splitlines() if line.startswith("cleared: ")]
    states = tmp_path / "tiny" / "state"
    assert lines == [f"cleared: {states}/{job}/failed.json ({job} failed)" for job in sorted(cleared)]


def test_nothing_to_clear_lists_what_there_is(clear, tmp_path):
    code, said, kept = clear("--method", "lora")
    assert code == 0 and kept == set(JOBS)
    assert f"nothing to clear; there are {tmp_path}/tiny/state/finetune/novel/full/0/failed.json, " in said
    clear()
    assert "nothing to clear\n" in clear()[1]


def test_a_pre_training_and_a_run_are_not_named_together(clear):
    code, said, kept = clear("--backbone", "kind", "--task", "novel")
    assert code == 2 and kept == set(JOBS)
    assert "error: --backbone names a pre-training, --task, --method and --seed fine-tunings\n  -> name the one" in said
