"""What a killed Snakemake left behind: jobs that still run, on a cluster or on this machine, and its lock."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from kind.cluster import slurm
from kind.errors import UserError

RUNNING = Path(".snakemake") / "kind.running"
LOCKS = Path(".snakemake") / "locks"
FOR_THE_QUEUE, TO_SAVE, TO_DIE = 120.0, 60.0, 10.0  # seconds: cancelled jobs leave; a process saves its state; SIGKILL


def hold(folder: Path = RUNNING) -> TextIO | None:
    """Says that Snakemake runs here, until what is returned is released, or this process ends, however it ends.

    Several may run here, on other experiments.  None where the file system has no such locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = open(folder / f"{socket.gethostname()}.{os.getpid()}", "w")  # noqa: SIM115  the caller keeps it open
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    handle.write(f"{os.getpid()} on {socket.gethostname()}\n")
    handle.flush()
    return handle


def release(handle: TextIO | None) -> None:
    """Of a run that has ended by itself."""
    if handle is not None:
        Path(handle.name).unlink(missing_ok=True)
        handle.close()


def refuse_while_running(folder: Path = RUNNING) -> None:
    """Raises UserError where Snakemake still runs in this folder."""
    for path in sorted(folder.glob("*")):
        if is_held(path):
            raise UserError(
                f"Snakemake is running here (process {path.read_text().strip() or path.name}): nothing is left behind",
                hint="Ctrl-C, or SIGTERM, lets it end its jobs itself",
            )
        path.unlink(missing_ok=True)  # of one that has ended


def is_held(path: Path) -> bool:
    with suppress(FileNotFoundError), open(path) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def cancel_jobs(prefix: str, folder: Path) -> list[str]:
    """Cancel the SLURM jobs of this folder, and wait until they are gone; raises UserError where they stay."""
    numbers = slurm.jobs_in(str(folder), prefix)
    if numbers:
        slurm.cancel(numbers)
        if not _until(lambda: not slurm.jobs_in(str(folder), prefix), FOR_THE_QUEUE):
            raise UserError(
                f"jobs that were cancelled are still in the queue: {', '.join(slurm.jobs_in(str(folder), prefix))}",
                hint="run the same command again when they are gone (squeue --me)",
            )
    return numbers


@dataclass(frozen=True)
class Orphan:
    """A process that runs a job: the lock in the job's state folder is held, and says by whom."""

    lock: Path
    pid: int | None
    host: str

    @property
    def is_here(self) -> bool:
        return self.pid is not None and self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid or 'unknown'} on {self.host or 'an unknown machine'} ({self.lock})"


def orphans(results: Path) -> Iterator[Orphan]:
    for lock in sorted(results.glob("*/state/**/lock")):
        if "track" not in lock.parts and is_held(lock):
            pid, _, host = lock.read_text().strip().partition(" on ")
            yield Orphan(lock, int(pid) if pid.isdecimal() else None, host)


def end(found: list[Orphan]) -> None:
    """End them, and wait until their locks are free; raises UserError for those that cannot be ended from here."""
    for number, seconds in ((signal.SIGTERM, TO_SAVE), (signal.SIGKILL, TO_DIE)):
        for orphan in found:
            if orphan.is_here and is_held(orphan.lock):
                with suppress(ProcessLookupError):
                    os.kill(orphan.pid, number)
                    os.kill(orphan.pid, signal.SIGCONT)  # a suspended one hears nothing else
        if _until(lambda: not any(is_held(orphan.lock) for orphan in found), seconds):
            return
    left = "\n".join(f"  - {orphan}" for orphan in found if is_held(orphan.lock))
    raise UserError(
        f"jobs that still run, and cannot be ended from here:\n{left}",
        hint="end them there, or wait for them; then run the same command again",
    )


def _until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
