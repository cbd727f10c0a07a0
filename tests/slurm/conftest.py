"""One cluster for all tests of this folder, and one run without it that they compare with."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from one_node import NotHere, members, refuse, running
from slurm_project import Project, new_project

GPUS = 2
CHANGES = (
    ("device: cpu", "device: auto"),  # the cluster gives a GPU that is none
    ("steps: 20,", "steps: 60,"),  # long enough to be met while it trains
)


@pytest.fixture(scope="session")
def cluster(lacking):
    """Its slurm.conf."""
    if os.environ.get("KIND_TEST_SLURM") != "1":
        pytest.skip("starts a SLURM of its own: set KIND_TEST_SLURM=1, as .ci/run does, on a machine without one")
    try:
        refuse()
    except NotHere as error:
        lacking(f"no SLURM for tests: {error}")
    folder = Path(tempfile.mkdtemp(prefix="kind-slurm-"))  # short, since sockets lie in it
    try:
        with running(folder, GPUS) as configuration:
            yield configuration
        assert members(folder) == [], "all of it has ended"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def local(tmp_path_factory) -> Project:
    """The experiment after one undisturbed run on this machine.  Tests must not change it."""
    project = new_project(tmp_path_factory.mktemp("local") / "work", None, *CHANGES)
    run = project.run("snakemake", "--profile", "local", "--config", "experiment=mini")
    assert run.code == 0, run.output
    return project


@pytest.fixture
def copied(local, tmp_path) -> Project:
    """The same with Snakemake's records, to change at will; without a cluster."""
    shutil.copytree(local.folder, tmp_path / "work", symlinks=True)
    return Project(tmp_path / "work")
