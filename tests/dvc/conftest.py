"""One complete `dvc repro`, shared by the tests of this folder; they work on copies and clones of it."""

from __future__ import annotations

import pytest
from project import Finished, Project, new_project


@pytest.fixture(scope="session")
def origin(tmp_path_factory) -> Project:
    """Sources alone."""
    return new_project(tmp_path_factory.mktemp("dvc") / "origin")


@pytest.fixture(scope="session")
def first(origin, tmp_path_factory) -> tuple[Project, Finished]:
    """A fresh clone after `dvc repro`, committed and pushed to a remote in another folder."""
    folder = tmp_path_factory.mktemp("dvc")
    project = origin.clone(folder / "first")
    repro = project.does("dvc", "repro")
    project.commit()
    project.does("dvc", "push")
    assert (folder / "kind-store").is_dir(), "the default remote is a folder beside the project"
    project.does("dvc", "remote", "modify", "store", "url", str(folder / "kind-store"))  # clones lie elsewhere
    project.commit()
    return project, repro


@pytest.fixture
def copied(first, tmp_path) -> Project:
    """The finished project, to change at will."""
    return first[0].copy(tmp_path / "copied")
