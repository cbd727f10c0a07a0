"""Programs beside one another, as on several machines: none is left behind, whatever becomes of the test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

SECONDS = 600  # that all of them may take: a machine may be busy


def run_beside(commands: list[list], logs: Path, **how) -> None:
    """All at once, to their ends, with exit code 0.  What they say lies in files, which hold up none of them."""
    said = [logs / f"{number}.log" for number in range(len(commands))]
    deadline = time.monotonic() + SECONDS
    with contextlib.ExitStack() as stack:
        started = []
        for command, path in zip(commands, said, strict=True):
            with open(path, "w") as log:
                process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, **how)
            started.append(stack.enter_context(ended(process)))
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0, deadline - time.monotonic()))
        codes = [process.poll() for process in started]  # None: still running
    assert codes == [0] * len(codes), (codes, [path.read_text() for path in said])


@contextlib.contextmanager
def ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """It and all that it started are killed afterwards, where it has not ended by itself."""
    try:
        yield process
    finally:
        if process.poll() is None:
            for one in [process.pid, *descendants(process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
        process.wait()


def descendants(process: int) -> list[int]:
    """torchrun's have sessions of their own."""
    found = children(process)
    return found + [one for child in found for one in descendants(child)]


def children(process: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())  # a thread's children are listed with the thread
        return [int(one) for task in tasks for one in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return []
