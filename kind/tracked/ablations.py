"""Ablations: the params name methods entries that differ in one setting; MLflow shows them under one parent run."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kind.artifacts import digest, read_json
from kind.layout import Layout
from kind.params import Experiment
from kind.params.ablations import Settings, Value
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
    params: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Ablations:
    experiment: Experiment
    layout: Layout

    def of_run(self, task: str, label: str) -> Place:
        """A run has one parent: the first ablation that names it.  Tags and params name the others too."""
        named = [one for one in self.experiment.ablation_settings if label in one.values]
        if not named:
            return Place()
        tags = {"ablation": _axis(named[0])} | {f"ablation.{one.name}": _axis(one) for one in named}
        said = [one for one in named if one.values[label] is not None]
        params = {one.axis or f"setting.{one.name}": one.values[label] for one in said}
        return Place(_key(named[0].name, task), tags, params)

    def sources(self) -> Iterator[Source]:
        from kind.tracked.reader import Source

        for one in self.experiment.ablation_settings:
            for task in self.experiment.tasks_of(next(iter(one.values))):  # all run on the same
                runs = [(task, label, seed) for label in one.values for seed in self.experiment.seeds]
                watched = [self.layout.metrics(self.layout.run(*run)) for run in runs]
                begun = [
                    path
                    for run in runs
                    for path in (self.layout.run(*run) / "finetune.json", self.layout.state("finetune", *run))
                ]
                yield Source(
                    _key(one.name, task),
                    [*watched, *begun],
                    lambda pipeline, one=one, task=task, paths=[*watched, *begun]: (
                        self._parent(one, task, pipeline) if any(path.exists() for path in paths) else None
                    ),
                )

    def _parent(self, one: Settings, task: str, pipeline: Pipeline) -> Entry:
        axis, seeds = _axis(one), self.experiment.seeds
        paths = [self.layout.metrics(self.layout.run(task, label, seed)) for label in one.values for seed in seeds]
        times = [path.stat().st_mtime for path in paths if path.is_file()]
        complete = len(times) == len(paths)
        rows = self._rows(task, one) if complete else []
        whole = one.is_numeric and all(float(value).is_integer() for value in one.values.values())  # as steps must be
        # not the children's names: the UI would draw one chart of both, with steps, where the children alone are bars
        points = {
            (f"by_{axis}/{metric}", int(row[axis])): value
            for row in (rows if whole else ())
            for metric, value in row.items()
            if metric not in ("entry", axis)
        }
        started = min(times, default=0.0)
        given = {label: value for label, value in one.values.items() if value is not None}
        params = {"axis": axis, "entries": as_text([*one.values]), "base": one.base}
        return Entry(
            key=_key(one.name, task),
            name=f"{task} / {one.name}",
            parts={"ablation": digest([axis, given or [*one.values], one.base])},
            status=FINISHED if complete else RUNNING if pipeline == "running" else WAITING,
            started=started,
            trained=max(times, default=started),
            ended=max(times, default=started),
            tags={"experiment": self.experiment.name, "stage": "ablation", "task": task, "ablation": axis,
                  f"ablation.{one.name}": axis},
            description=f"`{axis}` over {', '.join(one.values)}. {self._children(one)} Means over seeds "
            "are in the table among its artifacts" + (f", and `by_{axis}/...` draws them." if whole else "."),
            params=params | ({"values": as_text([*given.values()])} if given else {}),
            points=points,
            tables={"tables/settings.json": (digest(rows), lambda: rows)} if rows else {},
        )  # fmt: skip

    def _children(self, one: Settings) -> str:
        """Where its runs are: entries that an earlier ablation names too lie under that one's parent."""
        first = {label: other.name for other in reversed(self.experiment.ablation_settings) for label in other.values}
        own, seeds = [label for label in one.values if first[label] == one.name], len(self.experiment.seeds)
        if len(own) == len(one.values):
            return "Its children are the runs."
        others = ", ".join(dict.fromkeys(first[label] for label in one.values if label not in own))
        found = f"tags.\"ablation.{one.name}\" = '{_axis(one)}' and tags.stage = 'evaluate'"
        of_all = f"{len(own) * seeds or 'None'} of its {len(one.values) * seeds} runs"
        are = "is its child" if len(own) * seeds == 1 else "are its children"
        return f"{of_all} {are}; the others lie under {others}. `{found}` finds all."

    def _rows(self, task: str, one: Settings) -> Rows:
        """A row a setting: means over seeds of the metrics that all its seeds have, and of a size on the axis."""
        rows = []
        for label, value in one.values.items():
            found = [_read(self.layout.metrics(self.layout.run(task, label, s)), one) for s in self.experiment.seeds]
            common = [metric for metric in found[0] if all(metric in values for values in found)]
            means = {metric: statistics.fmean(values[metric] for values in found) for metric in common}
            rows.append({"entry": label} | ({} if value is None else {one.axis or "setting": value}) | means)
        return rows


def _read(path: Path, one: Settings) -> dict[str, float]:
    content = read_json(path)
    size = {one.axis: (content.get("parameters") or {}).get(one.measured)} if one.measured else {}
    values = {name: number(value) for name, value in (size | content["values"]).items()}
    return {name: value for name, value in values.items() if value is not None}


def _axis(one: Settings) -> str:
    """What its tags and curves are called by."""
    return one.axis or one.name


def _key(name: str, task: str) -> str:
    return f"ablation/{name}/{task}"
