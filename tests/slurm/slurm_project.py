"""A working folder that looks like the project's root, and commands in it on the test cluster."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "kind", "local", "slurm", "workflow")
TIMES = ("cost.json", "sample.json", "evaluate.json")  # the last names the record before it by its checksum
MINI = ROOT / "tests" / "workflow" / "mini.yaml"


@dataclass(frozen=True)
class Finished:
    code: int
    output: str


@dataclass(frozen=True)
class Project:
    """configuration: the cluster's slurm.conf, None without a cluster."""

    folder: Path
    configuration: Path | None = None

    @property
    def results(self) -> Path:
        return self.folder / "results" / "mini"

    def state(self, job: str) -> Path:
        return self.results / "state" / job

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("KIND_", "MLFLOW_", "SLURM_"))}
        tools = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
        kept |= {"PATH": tools, "KIND_TRACKING": "off"}
        if self.configuration is None:
            return kept
        found = os.pathsep.join([str(self.configuration.parent / "bin"), tools])
        return kept | {"PATH": found, "SLURM_CONF": str(self.configuration)}

    def start(self, *command: str, **variables: str) -> subprocess.Popen:
        """Its output goes to one pipe."""
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment | variables,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *command: str, **variables: str) -> Finished:
        process = self.start(*command, **variables)
        output, _ = process.communicate()
        return Finished(process.returncode, output)

    def asks(self, *command: str) -> str:
        """What a command of SLURM says."""
        done = self.run(*command)
        assert done.code == 0, done.output
        return done.output.strip()

    def checksums(self, *parts: str) -> dict[str, str]:
        """Of all files below these parts of the results, but those that say how long something took."""
        files = [path for part in parts for path in sorted((self.results / part).rglob("*")) if path.is_file()]
        return {
            str(path.relative_to(self.results)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.name not in TIMES
        }


def new_project(folder: Path, configuration: Path | None = None, *changes: tuple[str, str]) -> Project:
    """The project's code, and tests/workflow/mini.yaml with these changes as its experiment `mini`."""
    (folder / "params").mkdir(parents=True)
    for part in PARTS:
        (folder / part).symlink_to(ROOT / part)
    (folder / "params" / "methods.yaml").symlink_to(ROOT / "params" / "methods.yaml")
    text = MINI.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "params" / "mini.yaml").write_text(text)
    return Project(folder, configuration)
