"""What every job does around its work: check its recipe, stand back if done, keep others out, write the record."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kind.artifacts import provenance, read_json, sha256, write_json
from kind.errors import UserError
from kind.recipes import Recipe, recipe_digest

FORMAT = 1


@dataclass(frozen=True)
class Job:
    """One stage run.  `planned` is the recipe digest of the command, None when started by hand without it."""

    recipe: Recipe
    inputs: Sequence[Path]
    outputs: Sequence[Path]
    record: Path
    state: Path
    planned: str | None = None

    @property
    def digest(self) -> str:
        return recipe_digest(self.recipe)

    def run(self, work: Callable[[], dict[str, Any] | None]) -> None:
        """Do the work unless it is done.  `work` writes the outputs and returns what else the record should say."""
        if self.planned is not None and self.planned != self.digest:
            raise UserError(
                f"the params changed after this job was planned: its recipe is {self.digest} now, {self.planned} then",
                hint="run snakemake again, so that it plans with the params as they are",
            )
        missing = [str(path) for path in self.inputs if not path.is_file()]
        if missing:
            raise UserError(
                f"missing input: {', '.join(missing)}", hint="run the stages that write it first, or snakemake"
            )
        with self._lock():
            if self._is_done():
                print(f"already done: {self.record}", file=sys.stderr)
                return
            extra = work() or {}
            content = {
                "format": FORMAT,
                "recipe": self.recipe,
                "recipe_digest": self.digest,
                "inputs": {str(path): sha256(path) for path in self.inputs},
                "outputs": {str(path): sha256(path) for path in self._listed()},
                "provenance": provenance(),
                **extra,
            }
            write_json(self.record, content)
        shutil.rmtree(self.state, ignore_errors=True)

    def _listed(self) -> list[Path]:
        """Outputs whose content the recipe determines: cost files hold times and may differ."""
        return [path for path in self.outputs if path.name != "cost.json"]

    def _is_done(self) -> bool:
        if not self.record.is_file() or not all(path.is_file() for path in self.outputs):
            return False
        found = read_json(self.record)
        return (
            found.get("recipe_digest") == self.digest
            and found.get("inputs") == {str(path): sha256(path) for path in self.inputs}
            and found.get("outputs") == {str(path): sha256(path) for path in self._listed()}
        )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One process a job: the second is refused at once."""
        self.state.mkdir(parents=True, exist_ok=True)
        with open(self.state / "lock", "w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(
                    f"another process is running this job (it holds {self.state / 'lock'})",
                    hint="wait for it to end, or end it",
                )
            handle.write(str(os.getpid()))
            handle.flush()
            yield
