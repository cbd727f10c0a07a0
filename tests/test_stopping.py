"""When work should stop: the end of a job's wall time, and signals."""

from __future__ import annotations

import os
import signal
import time

import pytest

from kind.errors import UserError
from kind.stopping import Stop, end_of_job


def test_the_wall_time_counts_from_now_unless_slurm_says_when_it_ends():
    now = time.time()
    later = str(int(now) + 500)
    assert end_of_job(0, {}) is None
    assert now + 120 <= end_of_job(2, {}) <= time.time() + 120
    assert end_of_job(0, {"SLURM_JOB_END_TIME": later}) == end_of_job(2, {"SLURM_JOB_END_TIME": later}) == float(later)
    assert end_of_job(0, {"SLURM_JOB_END_TIME": "1"}) is None, "of a job that has ended"
    assert end_of_job(0, {"SLURM_JOB_END_TIME": "soon"}) is None
    with pytest.raises(UserError, match="--minutes -1: not a length of time"):
        end_of_job(-1, {})


def test_time_is_up_some_seconds_before_the_end():
    now = time.time()
    assert Stop(None, 120).reason() is None
    assert Stop(now + 1000, 120).stops == now + 880
    assert abs(Stop(now + 100, 120).stops - (now + 50)) < 1, "half of what is left, at most"
    assert Stop(now - 5, 120).reason() == "time is up"
    assert Stop(now + 1000, 120).reason() is None


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_is_noted_and_interrupts_nothing(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with Stop(None, 120) as stop:
        os.kill(os.getpid(), number)
        assert stop.reason() == f"{name} came"
    assert signal.getsignal(number) == before


def test_a_second_interrupt_is_one():
    with Stop(None, 120) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
