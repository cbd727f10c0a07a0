"""The tiny experiment in a folder, and how commands are run there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def within(folder: Path) -> Iterator[None]:
    """This process in this folder; numbers of threads, which a stage sets, are as before at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for library in ("OMP", "OPENBLAS", "MKL"):
            patch.setenv(f"{library}_NUM_THREADS", "1")
        yield
