"""What every job does around its work: check its recipe, stand back if done, keep others out, write the record."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from glob import escape
from pathlib import Path
from typing import Any

from kind.artifacts import REMAKE, digest, provenance, read_json, sha256, write_json, write_sealed_json
from kind.errors import DeadEnd, UserError
from kind.locks import only_process
from kind.recipes import Recipe, recipe_digest
from kind.records import FORMAT, check_recorded
from kind.stages.failures import check_failure, keep_failure

LOCK = "lock"


@dataclass(frozen=True)
class Job:
    """One stage run.  `planned` is the recipe digest of the command, None when started by hand without it.

    records: of the jobs that wrote inputs, where they lie in another tree than what they describe.  Paths stand in a
    record as seen from its folder, so that it holds wherever the results lie.
    """

    recipe: Recipe
    inputs: Sequence[Path]
    outputs: Sequence[Path]
    record: Path
    state: Path
    planned: str | None = None
    records: Sequence[Path] = ()

    @property
    def digest(self) -> str:
        return recipe_digest(self.recipe)

    @property
    def identity(self) -> str:
        """Digest of recipe and inputs: what a killed job left behind may be used again only where both are the same."""
        return digest([self.recipe, self._inputs])

    def check_plan(self) -> None:
        """Raises UserError where it cannot begin: the params are not those that it was planned with, or inputs lack."""
        if self.planned is not None and self.planned != self.digest:
            raise UserError(
                f"the params changed after this job was planned: its recipe is {self.digest} now, {self.planned} then",
                hint="run snakemake again, so that it plans with the params as they are",
            )
        missing = [str(path) for path in self.inputs if not path.is_file()]
        if missing:
            listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise UserError(f"missing input: {listed}", hint="run the stages that write it first, or snakemake")

    def run(self, work: Callable[[], dict[str, Any] | None]) -> None:
        """Do the work unless it is done.  `work` writes the outputs and returns what else the record should say."""
        self.check_plan()
        with self._lock():
            inputs = self._inputs  # as they are before the work
            self._check_inputs(inputs)
            if self.is_done():
                print(f"already done: {self.record}", file=sys.stderr)
            else:
                check_failure(self.state, self.identity)
                self._sweep()
                self._announce(inputs)
                try:
                    extra = work() or {}
                except DeadEnd as error:
                    raise keep_failure(self.state, self.identity, self.recipe, error)
                content = {
                    "format": FORMAT,
                    "recipe": self.recipe,
                    "recipe_digest": self.digest,
                    "inputs": inputs,
                    "outputs": self._sums(self._listed()),
                    "provenance": provenance(),
                    **extra,
                }
                write_sealed_json(self.record, content)
            self._clear_state()

    def _announce(self, inputs: dict[str, str]) -> None:
        """For whoever follows the job: what runs here, and where.  It goes with the state folder."""
        about = {"recipe": self.recipe, "recipe_digest": self.digest, "inputs": inputs, "provenance": provenance()}
        where = {"started": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
        write_json(self.state / "job.json", about | where)

    def _sweep(self) -> None:
        """Take away what a killed process had begun to write; the lock is held, so nobody is writing now."""
        leftovers = [
            *(found for path in (*self.outputs, self.record) for found in _temporaries(path)),
            *self.state.glob(".*.tmp"),  # a training state may be large
        ]
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)

    def _check_inputs(self, inputs: dict[str, str]) -> None:
        """Raises UserError for an input that is not the file that the record of its own job describes."""
        for path in self.inputs:
            found = inputs[os.path.relpath(path, self.record.parent)]
            check_recorded(path, found, self.records)

    @cached_property
    def _inputs(self) -> dict[str, str]:
        return self._sums(self.inputs)

    def _sums(self, paths: Sequence[Path]) -> dict[str, str]:
        return {os.path.relpath(path, self.record.parent): sha256(path) for path in paths}

    def _listed(self) -> list[Path]:
        """Outputs whose content the recipe determines: cost files hold times and may differ."""
        return [path for path in self.outputs if path.name != "cost.json"]

    def is_done(self) -> bool:
        """Whether record and outputs are there and what this recipe makes of these inputs."""
        if not self.record.is_file() or not all(path.is_file() for path in self.outputs):
            return False
        try:
            found = read_json(self.record)
        except UserError:  # damaged: the work is done again and the record with it
            return False
        if not isinstance(found, dict) or (found.get("format"), found.get("recipe_digest")) != (FORMAT, self.digest):
            return False
        return found.get("inputs") == self._inputs and found.get("outputs") == self._sums(self._listed())

    def _lock(self) -> AbstractContextManager[None]:
        """One process a job: the second is refused at once.  The file goes with the state folder at the end."""
        return only_process(self.state / LOCK, "running this job")

    def _clear_state(self) -> None:
        """The lock last: once it is gone, another process may begin in the same folder."""
        for path in self.state.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink(missing_ok=True)
        with suppress(OSError):
            (self.state / LOCK).unlink()
            self.state.rmdir()


def _temporaries(path: Path) -> Iterator[Path]:
    return path.parent.glob(f".{escape(path.name)}.*.tmp")


def read_record(path: Path, *keys: str) -> dict[str, Any]:
    """A job's record that has these entries; raises UserError otherwise."""
    content = read_json(path)
    absent = [key for key in keys if not isinstance(content, dict) or key not in content]
    if absent:
        found = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path}: a record without {', '.join(absent)}; it holds {found or 'nothing'}", hint=REMAKE)
    return content
