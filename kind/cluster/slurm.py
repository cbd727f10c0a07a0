"""SLURM's commands, asked within a time limit."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass

PATIENCE = 10.0  # seconds that a command has


class NoAnswer(Exception):
    """SLURM did not answer, or not with what was asked for."""


def ask(*command: str, seconds: float | None = None) -> str:
    """What a command of SLURM prints; raises NoAnswer if it is not there, fails, or takes too long."""
    program, patience = command[0], PATIENCE if seconds is None else seconds
    if shutil.which(program) is None:
        raise NoAnswer(f"{program} not found")
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        start_new_session=True,
    )  # fmt: skip
    try:
        out, said = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started too, which may hold the pipe
        process.communicate()
        raise NoAnswer(f"{program} got no answer within {patience:g} s")
    if process.returncode:
        lines = (said.strip() or out.strip() or f"exit code {process.returncode}").splitlines()
        raise NoAnswer(f"{program} failed: {lines[-1].strip()}")
    return out


@dataclass(frozen=True)
class Nodes:
    """Nodes of one partition that are alike.  minutes: the partition's limit, None where it has none."""

    partition: str
    default: bool
    minutes: float | None
    gpus: int
    memory_mb: int
    usable: bool


def nodes() -> list[Nodes]:
    """All that a job may be sent to; raises NoAnswer."""
    found = []
    for line in ask("sinfo", "--noheader", "--format", "%P|%a|%l|%G|%m|%T").splitlines():
        fields = line.strip().split("|")
        if len(fields) != 6:
            raise NoAnswer(f"sinfo printed {line.strip()!r}, which is not what was asked for")
        partition, available, limit, gres, memory, state = fields
        counts = re.findall(r"\bgpu(?::[^:,()]+)?:(\d+)", gres)
        down = re.match(r"down|drain|fail|unknown|inval|future", state)
        found.append(
            Nodes(
                partition.rstrip("*"), partition.endswith("*"), minutes(limit), sum(map(int, counts)),
                int(re.match(r"\d+", memory)[0]) if re.match(r"\d+", memory) else 0, available == "up" and not down,
            )
        )  # fmt: skip
    return found


def minutes(limit: str) -> float | None:
    """Of a time as sinfo prints it, `2-12:00:00` or `30:00`; None for no limit."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in parts) or (days and not days.isdecimal()):
        return None
    hours, mins, seconds = ([0] * 3 + [int(part) for part in parts])[-3:]
    return int(days or 0) * 1440 + hours * 60 + mins + seconds / 60


def seconds_that_jobs_are_remembered() -> int | None:
    """How long squeue shows a job after its end; None if the controller does not say."""
    found = re.search(r"^MinJobAge\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.M)
    return int(found[1]) if found else None


def accounts(user: str) -> list[str]:
    """Those that a user may charge; raises NoAnswer where the cluster keeps none."""
    out = ask("sacctmgr", "--noheader", "--parsable2", "list", "associations", f"user={user}", "format=account")
    return list(dict.fromkeys(line.strip() for line in out.splitlines() if line.strip()))


def jobs_in(folder: str, prefix: str) -> list[str]:
    """Ids of one's own jobs that wait or run, whose name begins so and that were submitted in this folder."""
    found = []
    for line in ask("squeue", "--me", "--noheader", "--format", "%i|%j|%Z").splitlines():
        number, name, place = [*line.strip().split("|", 2), "", ""][:3]
        if name.startswith(prefix) and os.path.realpath(place) == os.path.realpath(folder):
            found.append(number)
    return found


def cancel(numbers: list[str]) -> None:
    for begin in range(0, len(numbers), 100):
        ask("scancel", *numbers[begin : begin + 100], seconds=6 * PATIENCE)
