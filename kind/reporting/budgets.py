"""The methods of a finished experiment within a budget: of steps, of parameters, of training time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kind.errors import UserError
from kind.reporting.comparisons import (
    HEADLINE,
    INDICATIVE_ONLY,
    curve_metric,
    headline_metrics,
    indicative,
    metric_names,
    select,
)
from kind.reporting.labels import MISSING, decimals_for, fixed, matches, metric_label, short_count
from kind.reporting.runs import RunRecord, number

NOTE = "Seconds: a point's share of its run's training time, by steps; methods are compared as far as their curves go."
TRIALS_APART = "Costs are those of the runs alone: trials of learning rates are not included."


@dataclass(frozen=True)
class Budget:
    """At most so many; None: any number.  parameters: see `counted`."""

    steps: int | None = None
    parameters: int | None = None
    seconds: float | None = None

    def allows(self, run: RunRecord, step: int, size: str = "trainable") -> bool:
        steps = step * int(run.part("training").get("num_runs", 1))  # a soup is made of so many
        used = {"steps": steps, "parameters": SIZES[size](run), "seconds": seconds_of(run, step)}
        given = {key: limit for key in used if (limit := getattr(self, key)) is not None}
        return all(used[key] is not None and used[key] <= limit for key, limit in given.items())

    def phrase(self, size: str = "trainable") -> str:
        limits = (
            (self.steps, "steps", "{:,}"), (self.parameters, f"{size} parameters", "{:,}"),
            (self.seconds, "s of training", "{:g}"),
        )  # fmt: skip
        return ", ".join(f"{form.format(limit)} {what}" for limit, what, form in limits if limit is not None)


@dataclass(frozen=True)
class Standing:
    """A method's last point within the budget: means over seeds; `step` is None where it has none.

    counted: which parameters count: the trainable ones, or the deployed ones on a task on which nothing is trained.
    """

    task: str
    method: str
    metric: str
    step: int | None = None
    mean: float | None = None
    std: float | None = None
    seeds: int = 0
    parameters: float | None = None
    seconds: float | None = None
    indicative: bool = False
    counted: str = "trainable"


def trainable(run: RunRecord) -> float | None:
    return number(run.part("parameters").get("trainable"))


def deployed(run: RunRecord) -> float | None:
    return number(run.part("parameters").get("deployed"))


SIZES = {"trainable": trainable, "deployed": deployed}


def seconds_of(run: RunRecord, step: int) -> float | None:
    """Training time until a step, of which only the whole is measured: its share by steps."""
    whole = number(run.cost.get("train_seconds"))
    return whole if whole is None or not run.final_step else whole * step / run.final_step


def standings(runs: Sequence[RunRecord], budget: Budget, metric: str | None = None) -> Iterator[list[Standing]]:
    """For each task its methods, best first, those without a point last; metric: a name or the start of one.

    Raises UserError where the runs have no such metric.
    """
    for task in dict.fromkeys(run.task for run in runs):
        of_task = select(runs, task=task)
        name = _metric(task, of_task, metric)
        size = "trainable" if any(run.final_step for run in of_task) else "deployed"
        found = [
            _standing(task, method, name, select(of_task, method=method), budget, size)
            for method in dict.fromkeys(run.method for run in of_task)
        ]
        sign = -1 if direction_of(of_task, name) == "higher" else 1
        yield sorted(found, key=lambda one: (one.mean is None, sign * one.mean if one.mean is not None else 0.0))


def _metric(task: str, runs: Sequence[RunRecord], wanted: str | None) -> str:
    names = metric_names(runs)
    if wanted is not None and not any(matches(name, wanted) for name in names):
        raise UserError(
            f"task {task}: no metric is {wanted}; the runs have {', '.join(names)}",
            hint="give one of these names, or how one begins: fd, sfd, kd, precision",
        )
    chosen = headline_metrics(runs, [wanted] if wanted else HEADLINE)[0]
    name = curve_metric(runs, metric_label(chosen).base)
    if name is None:
        raise UserError(f"task {task}: no curve has a point with {chosen}", hint="run the evaluate stage again")
    return name


def direction_of(runs: Sequence[RunRecord], name: str) -> str | None:
    """Of a metric of curves, whose counts may be others than the table's."""
    directions = (
        found for key, found in metric_names(runs).items() if metric_label(key).base == metric_label(name).base
    )
    return next(directions, None)


def _standing(task: str, method: str, name: str, runs: Sequence[RunRecord], budget: Budget, size: str) -> Standing:
    """The last step that is within the budget for every seed."""
    steps = [
        step for step in runs[0].curve if all(step in run.curve and budget.allows(run, step, size) for run in runs)
    ]
    if not steps:
        return Standing(task, method, name, counted=size)
    step = max(steps)
    values = [value for run in runs if (value := number(run.curve[step].get(name))) is not None]
    return Standing(
        task,
        method,
        name,
        step,
        statistics.fmean(values) if values else None,
        statistics.stdev(values) if len(values) > 1 else None,
        len(values),
        _mean(SIZES[size](run) for run in runs),
        _mean(seconds_of(run, step) for run in runs),
        name in indicative(runs),
        size,
    )


def _mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def as_text(found: Sequence[Standing], direction: str | None, budget: Budget) -> str:
    """The standings of one task as lines for a terminal."""
    first = found[0]
    limits = budget.phrase(first.counted)
    title = f"{first.task}: {metric_label(first.metric).with_arrow(direction)}, {first.metric}"
    title += f"; at most {limits}" if limits else "; no limits"
    title += "" if first.counted == "trainable" else "; nothing is trained: parameters are the deployed ones"
    title += INDICATIVE_ONLY if any(one.indicative for one in found) else ""
    inside = [one for one in found if one.step is not None]
    decimals = decimals_for(one.mean for one in inside if one.mean is not None)
    rows = [("method", "value", "seeds", "step", first.counted, "seconds")]
    rows += [_row(one, decimals) for one in inside]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows] if inside else []
    outside = [one.method for one in found if one.step is None]
    lines += [f"no point within the budget: {', '.join(outside)}"] if outside else []
    return "\n".join([title, *(f"  {line}" for line in lines)])


def _row(one: Standing, decimals: int) -> tuple[str, ...]:
    value = MISSING if one.mean is None else fixed(one.mean, decimals)
    value += f" ± {fixed(one.std, decimals)}" if one.std is not None else ""
    size = MISSING if one.parameters is None else short_count(one.parameters)
    seconds = MISSING if one.seconds is None else fixed(one.seconds, 1)
    return one.method, value, str(one.seeds), f"{one.step:,}", size, seconds


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]


def as_rows(found: Sequence[Standing]) -> list[Mapping[str, Any]]:
    """For a CSV file; what a method without a point has not is empty."""
    return [vars(one) for one in found]
