from __future__ import annotations

import shutil

import pytest
from place import COMMANDS, PARAMS, Place

from kind.__main__ import main

LIBRARIES = ("OMP", "OPENBLAS", "MKL")  # whose numbers of threads a stage sets


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Place:
    """The tiny experiment, every stage run in this process but the report."""
    place = Place(tmp_path_factory.mktemp("finished"))
    (place.folder / "tiny.yaml").write_text(PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place.folder)
        for library in LIBRARIES:
            patch.setenv(f"{library}_NUM_THREADS", "1")
        for stage, *chosen in COMMANDS:
            assert main([stage, "--experiment", "tiny.yaml", *chosen]) == 0
    return place


@pytest.fixture
def place(finished, tmp_path, monkeypatch) -> Place:
    """A copy to break, which is the working folder."""
    shutil.copytree(finished.folder, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    for library in LIBRARIES:
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")
    return Place(tmp_path / "work")
