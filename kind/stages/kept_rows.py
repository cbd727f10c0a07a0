"""Rows of a long analysis, part by part, so that a killed job goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kind.artifacts import read_json, write_json
from kind.kept import is_kept, keep
from kind.stages.job import Job

Rows = list[dict[str, Any]]


def collect(job: Job, parts: dict[str, Callable[[], Rows]]) -> Rows:
    """Rows of all parts; each part's are kept in the state folder when it is done."""
    rows = []
    for name, work in parts.items():
        kept = job.state / job.identity / f"{name}.json"
        if not is_kept(kept):
            write_json(kept, work())
            keep(kept)
            print(f"{name}: done", flush=True)
        rows += read_json(kept)
    return rows
