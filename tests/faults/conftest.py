from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS / "errors"))  # the finished experiment that is broken there is broken here too

from place import COMMANDS, PARAMS, Place  # noqa: E402

from kind.__main__ import main  # noqa: E402


def keep_threads(patch: pytest.MonkeyPatch) -> None:
    """A stage sets them for its process, which is this one."""
    for library in ("OMP", "OPENBLAS", "MKL"):
        patch.setenv(f"{library}_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Place:
    """The tiny experiment, every stage run in this process."""
    place = Place(tmp_path_factory.mktemp("finished"))
    (place.folder / "tiny.yaml").write_text(PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place.folder)
        keep_threads(patch)
        for stage, *chosen in (*COMMANDS, ("report",)):
            assert main([stage, "--experiment", "tiny.yaml", *chosen]) == 0
    return place


@pytest.fixture
def place(finished, tmp_path, monkeypatch) -> Place:
    """A copy to break, which is the working folder."""
    shutil.copytree(finished.folder, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    keep_threads(monkeypatch)
    return Place(tmp_path / "work")
