"""The tiny experiment, run to its end in this process, and copies of it to break."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from place import COMMANDS, PARAMS, Place

from kind.__main__ import main


def finish(folder: Path, *more: tuple[str, ...]) -> Place:
    """All stages but the report; `more` after them."""
    place = Place(folder)
    (folder / "tiny.yaml").write_text(PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        keep_threads(patch)
        for stage, *chosen in (*COMMANDS, *more):
            assert main([stage, "--experiment", "tiny.yaml", *chosen]) == 0
    return place


def copy_to_break(finished: Place, folder: Path, patch: pytest.MonkeyPatch) -> Place:
    """It is the working folder then."""
    shutil.copytree(finished.folder, folder)
    patch.chdir(folder)
    keep_threads(patch)
    return Place(folder)


def keep_threads(patch: pytest.MonkeyPatch) -> None:
    """A stage sets them for its process, which is this one."""
    for library in ("OMP", "OPENBLAS", "MKL"):
        patch.setenv(f"{library}_NUM_THREADS", "1")
