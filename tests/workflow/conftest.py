"""One run of the real Snakefile on a small experiment, shared by the tests of this folder."""

from __future__ import annotations

import shutil

import pytest
from workspace import Workspace, new_workspace


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return new_workspace(tmp_path / "work")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workspace:
    """The experiment after one complete run.  Tests must not change it: see `copied`."""
    workspace = new_workspace(tmp_path_factory.mktemp("pipeline") / "work")
    run = workspace.snakemake()
    assert run.code == 0, run.output
    return workspace


@pytest.fixture
def copied(finished, tmp_path) -> Workspace:
    """The finished experiment with Snakemake's records, to change at will."""
    folder = tmp_path / "work"
    shutil.copytree(finished.folder, folder, symlinks=True)
    return Workspace(folder)
