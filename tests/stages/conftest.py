"""A tiny experiment run through all stages, once for all tests: some seconds, most of them imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TINY = (ROOT / "tests" / "tiny.yaml").read_text()


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    imported: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """A finished experiment: its folder of work, results, and the commands that made it, each with how it ended."""

    folder: Path
    results: Path
    ended: dict[str, Ended]

    def command(self, stage: str, *chosen: str) -> list[str]:
        return [stage, "--experiment", "tiny.yaml", *chosen]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def run_commands(folder: Path, commands: list[list[str]]) -> list[Ended]:
    """Run these in one process in this folder."""
    script = str(Path(__file__).with_name("run_commands.py"))
    done = subprocess.run(
        [sys.executable, script, json.dumps(commands)], cwd=folder, env=environment(), capture_output=True, text=True
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"code"')]
    assert len(found) == len(commands) and not any(one["code"] for one in found), done.stdout + done.stderr
    return [Ended(one["code"], tuple(one["imported"])) for one in found]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Experiment:
    """Every stage of the tiny experiment, run.  `ended` is keyed by the command's text without the experiment."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.yaml").write_text(TINY)
    full, kind = (["--task", "novel", "--method", method, "--seed", "0"] for method in ("full", "kind"))
    processes = [  # what shares a process may hide an import, so that each begins anew where a test looks
        [["prepare", "--data", "digits"], ["extractor"], ["reference", "--task", "novel"]],
        [
            ["pretrain", "--backbone", "dense"],
            ["pretrain", "--backbone", "kind"],
            ["extract", "--backbone", "kind"],
            *([stage, *run] for run in (full, kind) for stage in ("finetune", "sample")),
        ],
        [["evaluate", *full], ["evaluate", *kind]],
        [["check"], ["report"]],
    ]
    experiment = Experiment(folder, folder / "results" / "tiny", {})
    for commands in processes:
        ended = run_commands(folder, [experiment.command(*command) for command in commands])
        experiment.ended.update({" ".join(command): one for command, one in zip(commands, ended, strict=True)})
    return experiment


@pytest.fixture
def cli(tiny) -> Callable[..., subprocess.CompletedProcess]:
    """Run `python -m kind` in the folder of the tiny experiment."""

    def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "kind", *arguments]
        return subprocess.run(command, cwd=folder or tiny.folder, env=environment(), capture_output=True, text=True)

    return run
