"""Small programs in the place of SLURM's, which say what a test lets them say."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

SINFO = "main*|up|infinite|gpu:2(S:0-1)|96000|idle\ngpu|up|1-00:00:00|gpu:a100:4,gpu:h100:8|512000|mixed\n"
CONFIG = "Configuration data as of 2026\nMinJobAge               = 300 sec\nMinJobAgeOther = 1\n"
SAYS = {"sbatch": "", "sinfo": SINFO, "scontrol": CONFIG, "sacctmgr": "physics\n", "squeue": "", "scancel": ""}


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """programs(sinfo=..., ...) -> a folder with these programs, which is all of PATH.

    A text is printed; a number is the exit code after an error message; None leaves the program out; `hang` never ends.
    cancels: after scancel, squeue prints nothing.
    """

    def make(*, cancels: bool = False, **changes: str | int | None) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, says in {**SAYS, **changes}.items():
            if says is None:
                continue
            if says == "hang":
                body = "sleep 600 & wait"  # the child holds the pipe open
            elif isinstance(says, int):
                body = f"echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit {says}"
            else:
                body = f"printf %s {shlex.quote(says)}"
            if cancels and name == "scancel":
                body = f"touch {folder}/cancelled"
            if cancels and name == "squeue":
                body = f"test -e {folder}/cancelled || {body}"
            (folder / name).write_text(f'#!/bin/sh\nPATH={os.defpath}\necho "$0 $*" >> "{folder}/calls"\n{body}\n')
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return folder

    return make
