"""Several processes of one machine that train one model together: how they are started, and how they end.

Imports no torch.  A process is told its place by RANK, LOCAL_RANK, WORLD_SIZE and LOCAL_WORLD_SIZE, as torchrun tells
it, so that `torchrun ... -m kind STAGE ...` is another way to start them, and the one for several machines.  Ours
hands on signals and exit codes, says what went wrong once, leaves no process behind, and opens no port to the network.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from kind.errors import INTERRUPTED, TRY_AGAIN

MEETING, STARTER = "KIND_MEETING", "KIND_STARTER"  # where processes that `run_together` started meet; its process
LOST = 76  # another process has ended, which will have said why
STOPPED = (0, TRY_AGAIN, INTERRUPTED)  # how one ends that has not failed
GRACE_SECONDS = 15.0  # for the others, once one has failed: most fail for the same reason
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Lost(Exception):
    """Another process has ended, which will have said why."""


def world() -> int:
    """How many processes there are, of which this is one; 1 for a process by itself."""
    told = all(os.environ.get(name, "").isdigit() for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    return int(os.environ["WORLD_SIZE"]) if told else 1


def of_machine() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world())) if world() > 1 else 1


def rank() -> int:
    """The number of this process; 0 is the one that reads, writes and speaks for all."""
    return int(os.environ["RANK"]) if world() > 1 else 0


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ["LOCAL_RANK"]) if world() > 1 else 0


def meeting() -> Path | None:
    """The folder where processes that `run_together` started meet; None for others."""
    found = os.environ.get(MEETING)
    return Path(found) if found and world() > 1 else None


def begin() -> None:
    """What one of several processes does first, before torch is imported."""
    if world() == 1:
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it warns of what we do on purpose (`distributed.replica`)
    if meeting() is not None and sys.platform == "linux":  # end with the process that started this one, however it ends
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ[STARTER]):  # it ended before this was set
            os._exit(LOST)


class _End(NamedTuple):
    rank: int
    code: int  # negative: the signal that ended it


def run_together(command: Sequence[str], count: int) -> int:
    """Run `python -m kind COMMAND` in so many processes, until all have ended; the exit code of them all.

    When one fails, so do the others.  Signals go to the first process, which tells the others.
    """
    with tempfile.TemporaryDirectory(prefix="kind-") as folder:
        ends: SimpleQueue[_End] = SimpleQueue()
        workers: list[subprocess.Popen] = []
        try:
            with _signals_to(workers) as received:
                for rank in range(count):
                    workers.append(_start(command, rank, count, Path(folder)))
                    threading.Thread(target=_await, args=(rank, workers[rank], ends), daemon=True).start()
                for number in received:  # before there was a worker
                    workers[0].send_signal(number)
                found = _gather(workers, ends)
        finally:
            for worker in workers:
                worker.kill()
        return _sum_up(found, Path(folder))


def _start(command: Sequence[str], rank: int, count: int, folder: Path) -> subprocess.Popen:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    place |= {MEETING: folder, STARTER: os.getpid()}
    inside = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}  # nothing is for other machines
    environment = {**inside, **os.environ, **{name: str(value) for name, value in place.items()}}
    with open(os.devnull if rank == 0 else _words_of(rank, folder), "wb") as words:
        return subprocess.Popen(
            [sys.executable, "-m", "kind", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=None if rank == 0 else subprocess.DEVNULL,
            stderr=None if rank == 0 else words,
            start_new_session=True,  # Ctrl-C reaches this process alone, which hands it on
        )


def _words_of(rank: int, folder: Path) -> Path:
    """What a process other than the first has to say."""
    return folder / f"stderr.{rank}"


def _await(rank: int, worker: subprocess.Popen, ends: SimpleQueue[_End]) -> None:
    ends.put(_End(rank, worker.wait()))


def _gather(workers: Sequence[subprocess.Popen], ends: SimpleQueue[_End]) -> list[_End]:
    """How each ended by itself, in this order; the others wait for one that will not come, and are killed."""
    found: list[_End] = []
    while len(found) < len(workers):
        if any(end.rank == 0 and end.code not in (0, TRY_AGAIN, LOST) for end in found):
            break
        over = any(end.rank == 0 or end.code not in STOPPED for end in found)
        try:
            found.append(ends.get(timeout=GRACE_SECONDS if over else None))
        except Empty:
            break
    return found


def _sum_up(found: Sequence[_End], folder: Path) -> int:
    """The exit code of all, after the words of the process that it is of, if it is not the first, which has spoken.

    Where the first ended well, all is written, and how another left is no matter.
    """
    if _End(0, 0) in found:
        return 0
    failed = [end for end in found if end.code != 0]
    causes = [end for end in failed if end.code != LOST] or failed
    if not causes:
        return 0
    cause = next((end for end in causes if end.rank == 0 and end.code > 0), causes[0])
    if cause.code < 0:
        name = signal.Signals(-cause.code).name
        print(
            f"error: process {cause.rank} of those that train together was ended by {name}\n"
            "  -> run the same command again, which goes on where it stopped; if this happens again, it may be memory",
            file=sys.stderr,
        )
        return 128 - cause.code
    if cause.code == LOST:
        print("error: the processes that train together have lost one another", file=sys.stderr)
    elif cause.rank > 0:
        sys.stderr.write(_words_of(cause.rank, folder).read_text(errors="replace"))
    return cause.code


@contextmanager
def _signals_to(workers: Sequence[subprocess.Popen]) -> Iterator[Sequence[int]]:
    """Signals to this process are handed on to the first worker; the second Ctrl-C ends all.

    Gives those that came while there was none.  What is ignored (by `nohup`, say) still is.
    """
    early: list[int] = []
    interrupts: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        if not workers:
            early.append(number)
        for worker in workers[:1]:
            worker.send_signal(number)
        if number == signal.SIGINT:
            interrupts.append(number)
        if len(interrupts) > 1:
            for worker in workers:
                worker.kill()

    heeded = [number for number in FORWARDED if signal.getsignal(number) != signal.SIG_IGN]
    before: Mapping[int, object] = {number: signal.signal(number, hand_on) for number in heeded}
    try:
        yield early
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
