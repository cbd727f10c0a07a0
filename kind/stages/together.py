"""A job whose work several processes do together: the first one is the job, the others do as it does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from kind import processes
from kind.stages.job import Job


def run_job(job: Job, work: Callable[[], dict[str, Any] | None], count: int, command: list[str]) -> None:
    """`job.run(work)`, in `count` processes where that is more than one; `command` is what each is started with.

    Processes that torchrun started are as many as it says.  The first one checks, locks, writes and speaks; in the
    others `work` is to end where writing would begin.
    """
    if processes.world() > 1:
        _first(job, work) if processes.rank() == 0 else _another(work)
        return
    job.check_plan()
    if count == 1 or job.is_done():
        job.run(work)
    elif code := processes.run_together(command, count):
        sys.exit(code)


def _first(job: Job, work: Callable[[], dict[str, Any] | None]) -> None:
    from kind import distributed

    said = []

    def work_with_others() -> dict[str, Any] | None:
        said.append(True)
        distributed.tell_others(go=True)
        return work()

    try:
        job.run(work_with_others)
    finally:
        if not said:
            distributed.tell_others(go=False)


def _another(work: Callable[[], dict[str, Any] | None]) -> None:
    from kind import distributed

    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  the first one speaks
    if distributed.told_to_go():
        work()
