"""Trainings that other processes run, met while they are at work."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held(*states: Path, running: subprocess.Popen) -> Iterator[None]:
    """One of these jobs stands still inside, the first that is met; the others go on."""
    process = stopped_at_work(*states, running=running)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def stopped_at_work(*states: Path, running: subprocess.Popen, after: int | None = None) -> int:
    """The process of the first of these training jobs that is met when it has saved something: it stands still.

    running: what started the jobs, with its output in a pipe.  after: the process of the attempt before, which ends.
    """
    while True:
        for state in states:
            if (process := saved_by(state)) not in (None, after) and stops(process, state):
                return process
        assert running.poll() is None, running.stdout.read()
        time.sleep(0.005)


def saved_by(state: Path) -> int | None:
    """The process that holds a job's lock, if it has saved something since it took it."""
    try:
        if (state / "training.pt").stat().st_mtime_ns > (state / "lock").stat().st_mtime_ns:
            return int((state / "lock").read_text().split()[0])
    except (FileNotFoundError, IndexError):  # not yet, or between two states
        pass
    return None


def stops(process: int, state: Path) -> bool:
    """Whether it stands still now, before it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGSTOP)
        while (status := status_of(process)) not in ("T", "Z", None):
            time.sleep(0.001)
        if status == "T" and saved_by(state) == process:
            return True
        os.kill(process, signal.SIGCONT)
    return False


def status_of(process: int) -> str | None:
    """Its letter in /proc: T where it stands still, Z where it has ended; None where it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None
