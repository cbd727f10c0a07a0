"""Where the cluster for tests refuses to start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import one_node
import pytest


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """As on a machine without a SLURM, whatever this one has."""
    monkeypatch.setattr(one_node, "SYSTEM_CONFIGURATIONS", (tmp_path / "slurm.conf",))
    monkeypatch.setattr(one_node, "processes", list)
    monkeypatch.delenv("SLURM_CONF", raising=False)


def refused(folder) -> str:
    with pytest.raises(one_node.NotHere) as error:
        one_node.up(folder / "cluster")
    assert not (folder / "cluster").exists()
    return str(error.value)


def test_where_the_machine_is_configured_for_another(tmp_path):
    (tmp_path / "slurm.conf").touch()
    assert refused(tmp_path) == f"{tmp_path}/slurm.conf exists: this machine belongs to another SLURM"


def test_where_a_variable_names_another(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", "/etc/elsewhere.conf")
    assert refused(tmp_path) == "SLURM_CONF=/etc/elsewhere.conf names another SLURM"


def read_name(process: int) -> str:
    return Path(f"/proc/{process}/comm").read_text().strip()


def test_where_a_controller_runs(tmp_path, monkeypatch):
    shutil.copy(shutil.which("sleep"), tmp_path / "slurmctld")
    with subprocess.Popen([tmp_path / "slurmctld", "600"]) as process:
        monkeypatch.setattr(one_node, "processes", lambda: [process.pid])
        while read_name(process.pid) != "slurmctld":  # its parent may go on before it has its name
            pass
        try:
            assert refused(tmp_path) == f"a slurmctld is running already (process {process.pid})"
        finally:
            process.kill()


def test_where_programs_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(one_node, "which", lambda name: None if name in ("munged", "srun") else name)
    assert refused(tmp_path) == "munged, srun not found; on Debian: apt-get install munge slurm-wlm"


@pytest.mark.parametrize(("asked", "outcome"), [("1", "failed"), ("", "skipped")])
def test_tests_that_need_a_cluster_fail_where_it_was_asked_for_and_cannot_start(asked, outcome):
    """`.ci/run` asks for it: what it leaves out would look like what it has tried."""
    one = Path(__file__).with_name("test_run.py"), "-k", "a_run_gives_the_bytes"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *one],
        env={**os.environ, "KIND_TEST_SLURM": asked, "SLURM_CONF": "/etc/elsewhere.conf"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (run.returncode != 0) == (outcome == "failed"), run.stdout
    said = {
        "failed": "Failed: no SLURM for tests: SLURM_CONF=/etc/elsewhere.conf names another SLURM",
        "skipped": "starts a SLURM of its own: set KIND_TEST_SLURM=1",
    }
    assert said[outcome] in run.stdout and f"1 {'error' if asked else 'skipped'}" in run.stdout
