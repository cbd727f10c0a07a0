"""When work should stop before it is done: shortly before the wall time of its job ends, or at a signal.

Nobody is interrupted: work asks between two steps, saves what it has and raises `Unfinished`, whose exit code a
scheduler reads as "try again".
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from enum import IntEnum
from types import FrameType

from kind.errors import UserError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def end_of_job(minutes: float, environment: Mapping[str, str] = os.environ) -> float | None:
    """When the wall time ends, in seconds since the epoch; None where nobody has set a limit.

    minutes: what the job was given, counted from now; 0: no limit.  SLURM's own word, where it gives one (from 23.02
    on, SLURM_JOB_END_TIME), is better: it counts from the start of the job.  One that has passed is of a job before.
    """
    if not 0 <= minutes < math.inf:
        raise UserError(f"--minutes {minutes:g}: not a length of time", hint="give the job's wall time, or 0: no limit")
    now = time.time()
    said = environment.get("SLURM_JOB_END_TIME", "")
    if said.isdecimal() and int(said) > now:
        return float(said)
    return now + 60 * minutes if minutes else None


class Then(IntEnum):
    """What follows a step: all but the first save what there is."""

    GO_ON, SAVE, STOP, INTERRUPT = range(4)


class Stop:
    """Says, inside its `with` block, whether work should stop.

    ends: of the wall time, seconds since the epoch, or None.  spare: seconds before it that are kept for saving and
    ending; of a job that has less than twice as much left, half of what it has.  SIGTERM, SIGUSR1 and the first Ctrl-C
    are noted; the second Ctrl-C is KeyboardInterrupt, at once.
    """

    def __init__(self, ends: float | None, spare: float):
        left = 0.0 if ends is None else max(0.0, ends - time.time())
        self.stops = None if ends is None else ends - min(spare, left / 2)
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # not under nohup
            self._before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    def reason(self) -> str | None:
        """Why to stop now; None: go on."""
        if self.signal is not None:
            return f"{self.signal.name} came"
        return "time is up" if self.stops is not None and time.time() >= self.stops else None

    def then(self, due: bool) -> Then:
        """What follows now; due: whether it is time to save."""
        if self.signal == signal.SIGINT:
            return Then.INTERRUPT
        if self.reason():
            return Then.STOP
        return Then.SAVE if due else Then.GO_ON
