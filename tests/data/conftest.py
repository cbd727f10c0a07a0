"""A small experiment in latents, every stage run but the report, once for the tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from latent_stages import STAGES, run_stage


@pytest.fixture(scope="session")
def in_latents(tmp_path_factory, latents_in) -> Path:
    """The folder of `lat.yaml` and `results/lat`.  Tests must not change it: see `latents_copy`."""
    folder = tmp_path_factory.mktemp("latents")
    (folder / "lat.yaml").write_text(latents_in(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for library in ("OMP", "OPENBLAS", "MKL"):
            patch.setenv(f"{library}_NUM_THREADS", "1")
        for stage in STAGES:
            assert run_stage(*stage) == 0
    return folder


@pytest.fixture
def latents_copy(in_latents, tmp_path, monkeypatch) -> Path:
    """A copy to change, which is the working folder."""
    shutil.copytree(in_latents, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    for library in ("OMP", "OPENBLAS", "MKL"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")
    return tmp_path / "work"


@pytest.fixture
def refused(latents_copy, capsys) -> Callable[..., str]:
    """What a stage says that must end in an error."""

    def run(*stage: str) -> str:
        capsys.readouterr()
        assert run_stage(*stage) == 2
        return capsys.readouterr().err.split("error: ", 1)[1]

    return run
