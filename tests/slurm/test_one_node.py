"""Where the cluster for tests refuses to start."""

from __future__ import annotations

import shutil
import subprocess
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
