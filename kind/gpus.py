"""GPUs of this machine: how many there are, and which of them a job takes.  Imports no torch.

Snakemake counts the GPUs that its jobs use and does not say which; so each job takes one that no other job holds.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TextIO

from kind.errors import UserError

DRIVER = Path("/proc/driver/nvidia/gpus")
ANSWER_SECONDS = 20  # of nvidia-smi, which takes one, and hangs where a driver is broken
HELD: list[TextIO] = []  # open for as long as the process lives; then the system gives the lock back


def count_gpus() -> int:
    """Those that a process sees here: of CUDA_VISIBLE_DEVICES where it is set, else all of NVIDIA's driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return _number_visible(visible)
    if tool := shutil.which("nvidia-smi"):
        try:
            told = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=ANSWER_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            return 0
        return len(re.findall(r"^GPU \d+:", told.stdout, re.M)) if told.returncode == 0 else 0
    return len(list(DRIVER.iterdir())) if DRIVER.is_dir() else 0


def _number_visible(text: str) -> int:
    """CUDA takes entries up to the first that names no device."""
    count = 0
    for entry in text.split(","):
        if not re.fullmatch(r"\d+|(GPU|MIG)-\S+", entry.strip()):
            break
        count += 1
    return count


@cache
def take_gpu(names: tuple[str, ...], share: bool = True) -> int:
    """The position of the first GPU that no other process of this user holds; it is held until this process ends.

    names: what tells GPUs apart whatever CUDA_VISIBLE_DEVICES says.  Where all are held, or nothing can be held here,
    it is the first, and a line says so; UserError without `share`.
    """
    for index, name in enumerate(names):
        if _hold(name):
            return index
    if not share:
        raise UserError(
            f"other jobs hold GPUs of this machine's {len(names)}: too few are free for processes that train together",
            hint="wait for those jobs to end, or ask for fewer processes (compute.processes)",
        )
    print(
        f"warning: other jobs hold all {len(names)} GPUs of this machine; this one shares the first with them",
        file=sys.stderr,
        flush=True,
    )
    return 0


def _hold(name: str) -> bool:
    folder = Path(tempfile.gettempdir()) / f"kind-gpus-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        handle = open(folder / f"{re.sub('[^A-Za-z0-9-]', '_', name)}.lock", "a")  # noqa: SIM115
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return False
    HELD.append(handle)
    return True
