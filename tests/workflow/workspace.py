"""Working folders that the project's Snakefile runs in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MINI = Path(__file__).with_name("mini.yaml")


@dataclass(frozen=True)
class Finished:
    code: int
    output: str

    @property
    def planned(self) -> Counter:
        """Jobs of each rule, from Snakemake's own table."""
        table = self.output.partition("Job stats:")[2]
        return Counter({rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.M) if rule != "total"})


@dataclass(frozen=True)
class Workspace:
    """A working folder with its own params and results, driven by the project's Snakefile."""

    folder: Path

    @property
    def params(self) -> Path:
        return self.folder / "params" / "mini.yaml"

    @property
    def results(self) -> Path:
        return self.folder / "results" / "mini"

    def edit(self, old: str, new: str) -> None:
        text = self.params.read_text()
        assert old in text
        self.params.write_text(text.replace(old, new))

    def snakemake(self, *arguments: str, experiment: str = "params/mini.yaml", **how) -> Finished:
        return snakemake(*self.arguments(*arguments, experiment=experiment), **how)

    def arguments(self, *more: str, experiment: str = "params/mini.yaml") -> list[str]:
        """Of Snakemake, to run the project's Snakefile here."""
        return [
            "--snakefile", str(ROOT / "Snakefile"), "--profile", str(ROOT / "local"), "--directory", str(self.folder),
            *more, "--config", f"experiment={experiment}",
        ]  # fmt: skip

    def stage(self, stage: str, *arguments: str) -> list[str]:
        """The command of a stage by hand, to be run in `folder`."""
        return [sys.executable, "-m", "kind", stage, "--experiment", "params/mini.yaml", *arguments]


def snakemake(*arguments: str, python: str = sys.executable, variables: dict[str, str] | None = None) -> Finished:
    command = [python, "-m", "snakemake", *arguments]
    env = environment() | (variables or {})
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    return Finished(done.returncode, done.stdout + done.stderr)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "KIND_TRACKING": "off"}  # tests/tracking has it on


def new_workspace(folder: Path) -> Workspace:
    (folder / "params").mkdir(parents=True)
    shutil.copy(MINI, folder / "params")
    return Workspace(folder)
