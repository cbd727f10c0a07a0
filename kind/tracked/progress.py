"""How far a run or a backbone is, from its records and from what a running job says of itself.

A finished job leaves `<stage>.json` beside its outputs; a running one has `job.json` and `live.csv` in its state
folder.  A record that was made from other files than the stage before it wrote is of another recipe and is left out.
"""

from __future__ import annotations

import csv
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kind.artifacts import digest, read_json
from kind.reporting.runs import number

RUNNING, FINISHED, FAILED, WAITING = "RUNNING", "FINISHED", "FAILED", "SCHEDULED"  # MLflow's words
Pipeline = Literal["running", "ended", "unknown"]  # what is known of the Snakemake run that the files are of
SILENT = 900.0  # seconds after which a job on another machine that wrote nothing counts as failed
CURVES = ("loss", "learning_rate", "gradient_norm")


@dataclass(frozen=True)
class Progress:
    """Stages up to the last that was begun.

    jobs: stage -> its record, or what the running job says of itself.  records: of the finished stages only.
    parts: stage -> digest of its recipe and of the files that came to it from outside the run.
    """

    jobs: Mapping[str, Any]
    records: Mapping[str, Any]
    parts: Mapping[str, str]
    status: str
    started: float
    trained: float  # when the last row of the log was written
    ended: float
    log: Path

    @property
    def stage(self) -> str:
        return list(self.jobs)[-1]

    @property
    def code(self) -> Mapping[str, Any]:
        return self.jobs[self.stage].get("provenance") or {}

    def training_points(self) -> dict[tuple[str, int], float]:
        """`train/loss` and the like by step."""
        return {
            (f"train/{name}", int(row["step"])): value
            for row in read_log(self.log)
            for name in CURVES
            if (value := number(row.get(name))) is not None
        }


def read_progress(folder: Path, states: Mapping[str, Path], pipeline: Pipeline) -> Progress | None:
    """states: the stages in order, with their state folders.  None where nothing was begun."""
    jobs: dict[str, Any] = {}
    records: dict[str, Any] = {}
    parts: dict[str, str] = {}
    times: list[float] = []
    own: set[str] = set()  # checksums of what the run itself wrote
    handed: set[str] = set()  # of what the stage before wrote for this one
    status, log = FINISHED, folder / "train.csv"
    for stage, state in states.items():
        about = state / "job.json"
        running = read_json(about) if about.is_file() else None
        path = folder / f"{stage}.json"
        job = running or (read_json(path) if path.is_file() else None)
        if job is None or not handed <= set(job["inputs"].values()):
            status = RUNNING if pipeline == "running" else WAITING
            break
        jobs[stage], parts[stage] = job, _part(job, own)
        if running:
            times += [job["started"], *(file.stat().st_mtime for file in state_files(state) if file.is_file())]
            status = RUNNING if _is_alive(job, max(times), pipeline) else FAILED
            if not records:
                log = state / "live.csv"
            break
        records[stage] = job
        times.append(path.stat().st_mtime)
        own |= set(job["outputs"].values())
        handed = {value for name, value in job["outputs"].items() if "raw." not in name and not name.endswith(".csv")}
    if not jobs:
        return None
    started, trained = min(times), max(times)
    if records:  # the first was written when training had ended
        trained = started = (folder / f"{next(iter(records))}.json").stat().st_mtime
        started -= number(read_json(folder / "cost.json").get("train_seconds")) or 0.0
    return Progress(jobs, records, parts, status, started, trained, max(times), log)


def state_files(state: Path) -> list[Path]:
    """What shows that a job goes on."""
    return [state / name for name in ("job.json", "live.csv", "training.pt")]


def read_log(path: Path) -> list[dict[str, str]]:
    """Rows of a training log; the last line of one that is being written may be cut off and is left out."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def _part(job: Mapping[str, Any], own: set[str]) -> str:
    """Without the run's own files, which follow from the rest, and without records, which hold times and versions."""
    upstream = {value for name, value in job["inputs"].items() if not name.endswith(".json")} - own
    return digest([job["recipe_digest"], sorted(upstream)])


def _is_alive(job: Mapping[str, Any], last_sign: float, pipeline: Pipeline) -> bool:
    if job["host"] != socket.gethostname():
        return pipeline != "ended" and time.time() - last_sign < SILENT
    try:
        os.kill(job["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is there, and another user's
        return True
    return True
