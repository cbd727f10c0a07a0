"""Ablations: the params name methods entries that differ in one number; MLflow shows them under one parent run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind.artifacts import digest, read_json
from kind.layout import Layout
from kind.params import Experiment
from kind.reporting.runs import number
from kind.tracked.entry import Entry, Rows, as_text
from kind.tracked.progress import FINISHED, RUNNING, WAITING, Pipeline

if TYPE_CHECKING:
    from kind.tracked.reader import Source


@dataclass(frozen=True)
class Place:
    """Where a run stands: the key of its parent, and what the run itself says of it."""

    parent: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ablations:
    experiment: Experiment
    layout: Layout

    def of_run(self, task: str, label: str) -> Place:
        """A run has one parent: the first ablation that names it.  Tags and params name the others too."""
        named = {name: one for name, one in self.experiment.ablations.items() if label in one.entries}
        if not named:
            return Place()
        first = next(iter(named))
        tags = {"ablation": named[first].axis} | {f"ablation.{name}": one.axis for name, one in named.items()}
        params = {one.axis: self.experiment.axis_value(label, one.axis) for one in named.values()}
        return Place(_key(first, task), tags, params)

    def sources(self) -> Iterator[Source]:
        from kind.tracked.reader import Source

        for name, ablation in self.experiment.ablations.items():
            for task in self.experiment.tasks_of(ablation.entries[0]):  # all run on the same
                runs = [(task, label, seed) for label in ablation.entries for seed in self.experiment.seeds]
                watched = [self.layout.metrics(self.layout.run(*run)) for run in runs]
                begun = [
                    path
                    for run in runs
                    for path in (self.layout.run(*run) / "finetune.json", self.layout.state("finetune", *run))
                ]
                yield Source(
                    _key(name, task),
                    [*watched, *begun],
                    lambda pipeline, name=name, task=task, paths=[*watched, *begun]: (
                        self._parent(name, task, pipeline) if any(path.exists() for path in paths) else None
                    ),
                )

    def _parent(self, name: str, task: str, pipeline: Pipeline) -> Entry:
        ablation, seeds = self.experiment.ablations[name], self.experiment.seeds
        settings = {label: self.experiment.axis_value(label, ablation.axis) for label in ablation.entries}
        paths = [self.layout.metrics(self.layout.run(task, label, seed)) for label in settings for seed in seeds]
        times = [path.stat().st_mtime for path in paths if path.is_file()]
        complete = len(times) == len(paths)
        rows = self._rows(task, settings, ablation.axis) if complete else []
        whole = all(float(value).is_integer() for value in settings.values())  # as steps must be
        # not the children's names: the UI would draw one chart of both, with steps, where the children alone are bars
        points = {
            (f"by_{ablation.axis}/{metric}", int(row[ablation.axis])): value
            for row in (rows if whole else ())
            for metric, value in row.items()
            if metric not in ("entry", ablation.axis)
        }
        started = min(times, default=0.0)
        return Entry(
            key=_key(name, task),
            name=f"{task} / {name}",
            parts={"ablation": digest([ablation.axis, settings])},
            status=FINISHED if complete else RUNNING if pipeline == "running" else WAITING,
            started=started,
            trained=max(times, default=started),
            ended=max(times, default=started),
            tags={"experiment": self.experiment.name, "stage": "ablation", "task": task, "ablation": ablation.axis,
                  f"ablation.{name}": ablation.axis},
            description=f"`{ablation.axis}` over {', '.join(settings)}. Its children are the runs. Means over seeds "
            "are in the table among its artifacts" + (f", and `by_{ablation.axis}/...` draws them." if whole else "."),
            params={"axis": ablation.axis, "entries": as_text([*settings]), "values": as_text([*settings.values()])},
            points=points,
            tables={"tables/settings.json": (digest(rows), lambda: rows)} if rows else {},
        )  # fmt: skip

    def _rows(self, task: str, settings: dict[str, float], axis: str) -> Rows:
        """A row a setting: means over seeds of the metrics that all its seeds have."""
        rows = []
        for label, value in settings.items():
            found = [_values(self.layout.metrics(self.layout.run(task, label, s))) for s in self.experiment.seeds]
            common = [metric for metric in found[0] if all(metric in values for values in found)]
            means = {metric: statistics.fmean(values[metric] for values in found) for metric in common}
            rows.append({"entry": label, axis: value} | means)
        return rows


def _values(path: Path) -> dict[str, Any]:
    values = {name: number(value) for name, value in read_json(path)["values"].items()}
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def _key(name: str, task: str) -> str:
    return f"ablation/{name}/{task}"
