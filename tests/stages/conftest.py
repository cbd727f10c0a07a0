"""A tiny experiment run through all stages, once for all tests: some seconds, most of them imports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_experiment import TINY, Experiment, environment, run_commands


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
