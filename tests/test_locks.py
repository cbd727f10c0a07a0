"""One process at a time, with real ones."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from kind.errors import UserError
from kind.locks import only_process

HOLD = """
import sys
from pathlib import Path
from kind.locks import only_process
with only_process(Path(sys.argv[1]), "holding this"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock until its input ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "folder" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process


def test_the_second_is_refused_and_told_who_holds_it(holder, tmp_path):
    lock = tmp_path / "folder" / "lock"
    with pytest.raises(UserError) as caught, only_process(lock, "doing this"):
        pytest.fail("two at once")
    assert str(caught.value) == (
        f"another process is doing this (process {holder.pid} on {socket.gethostname()} holds {lock})\n"
        "  -> wait for it to end, or end it"
    )


def test_a_holder_that_is_killed_leaves_no_lock(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with only_process(tmp_path / "folder" / "lock", "doing this"):
        assert (tmp_path / "folder" / "lock").read_text() == f"{os.getpid()} on {socket.gethostname()}\n"


def test_a_lock_file_that_its_holder_removed_keeps_nobody_out_by_half(tmp_path, monkeypatch):
    """The holder ends, and removes the file, between a second process's opening and locking it: without a second look
    it would lock a file that no third process sees."""
    import fcntl

    lock, flock, taken = tmp_path / "lock", fcntl.flock, []

    def slow(handle, how):
        if not taken:
            taken.append(lock.unlink())
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    refused = pytest.raises(UserError, match="another process is doing that")
    with only_process(lock, "doing this"), refused, only_process(lock, "doing that"):
        pytest.fail("two at once")


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    import fcntl

    def none(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    refused = pytest.raises(UserError, match=r"lock: this file system has no locks \(Function not implemented\)")
    with refused, only_process(tmp_path / "lock", "doing this"):
        pytest.fail("nothing keeps a second out")
