"""Clones of the project with a tiny experiment in the place of `smoke`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "workflow" / "mini.yaml"
SOURCES = (
    ".dvc/.gitignore", ".dvc/config", ".dvc/plots", ".dvcignore", ".gitignore", "Snakefile", "dvc.yaml", "kind",
    "local", "params", "slurm", "workflow",
)  # fmt: skip


@dataclass(frozen=True)
class Finished:
    code: int
    output: str

    @property
    def jobs(self) -> Counter:
        """Jobs of each rule that Snakemake ran or would run."""
        table = self.output.rpartition("Job stats:")[2]
        return Counter({rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.M) if rule != "total"})


@dataclass(frozen=True)
class Project:
    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results" / "smoke"

    @property
    def params(self) -> Path:
        return self.folder / "params" / "smoke.yaml"

    @property
    def lock(self) -> str:
        return (self.folder / "dvc.lock").read_text()

    @property
    def environment(self) -> dict[str, str]:
        tools = str(Path(sys.executable).parent)
        env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("KIND_", "DVC_", "GIT_", "PYTHONPATH"))
        }
        env |= {"PATH": os.pathsep.join([tools, env["PATH"]]), "KIND_TRACKING": "off", "DVC_NO_ANALYTICS": "1"}
        return env | {f"GIT_{who}_{what}": "test@test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def run(self, *command: str, **variables: str) -> Finished:
        env = self.environment | variables
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True)
        return Finished(done.returncode, done.stdout + done.stderr)

    def does(self, *command: str, **variables: str) -> Finished:
        done = self.run(*command, **variables)
        assert done.code == 0, done.output
        return done

    def interrupt(self, *command: str, at: Path) -> int:
        """Exit code after Ctrl-C as soon as `at` is written anew."""
        before = at.stat().st_mtime_ns
        process = subprocess.Popen(command, cwd=self.folder, env=self.environment, start_new_session=True)
        while not at.exists() or at.stat().st_mtime_ns == before:
            assert process.poll() is None, "it ended before it could be interrupted"
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        return process.wait()

    def snakemake(self, *arguments: str) -> Finished:
        return self.does("snakemake", "--profile", "local", *arguments)

    def edit(self, old: str, new: str) -> None:
        text = self.params.read_text()
        assert old in text
        self.params.write_text(text.replace(old, new))

    def commit(self) -> None:
        self.does("git", "add", "--all")
        self.does("git", "commit", "--quiet", "--message", "a version")

    def clone(self, folder: Path) -> Project:
        self.does("git", "clone", "--quiet", ".", str(folder))
        return Project(folder)

    def copy(self, folder: Path) -> Project:
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def assert_up_to_date(self) -> None:
        """DVC and Snakemake, each asked on its own."""
        assert self.does("dvc", "status").output.strip() == "Data and pipelines are up to date."
        for profile in ("local", "slurm"):
            repro = self.does("dvc", "repro", KIND_PROFILE=profile)
            assert "Running stage" not in repro.output
            assert "Data and pipelines are up to date." in repro.output
        assert "Nothing to be done" in self.snakemake("--dry-run").output


def new_project(folder: Path) -> Project:
    """The sources as they are in the work tree, committed."""
    folder.mkdir(parents=True)
    for name in SOURCES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    project = Project(folder)
    shutil.copy(TINY, project.params)
    project.does("git", "init", "--quiet")
    project.commit()
    return project
