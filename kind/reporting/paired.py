"""Methods against one of them, by runs of the same task and seed: after equal steps, and equal training time."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kind.reporting.budgets import direction_of
from kind.reporting.comparisons import curve_metric, headline_metrics, select
from kind.reporting.labels import metric_label
from kind.reporting.resampling import Interval, hierarchical_bootstrap, holm
from kind.reporting.runs import RunRecord, number

DISTANCES = ("fid", "sfid", "fd", "sfd")  # whose size is the task's: of these the ratio is compared
Pair = tuple[float | None, float | None]
Value = Callable[[RunRecord, RunRecord, str], Pair]  # of a run, of the base's, by a metric's name


@dataclass(frozen=True)
class Standing:
    """A method against the base.

    interval: of the logarithm of the ratio where `ratio`, else of the difference; adjusted: its p-value by Holm's rule;
    wins: in how many of `cells` pairs of runs the base is the better one; side: better or worse than the base where the
    interval says so, else `not apart`.
    """

    method: str
    interval: Interval
    adjusted: float
    wins: int
    cells: int
    ratio: bool
    side: str

    def in_units(self, value: float | None) -> float | None:
        return math.exp(value) if self.ratio and value is not None else value


@dataclass(frozen=True)
class Comparison:
    """What was compared, and the standings, the best first.  metrics: task -> the metric's name there."""

    base: str
    metrics: Mapping[str, str]
    direction: str | None
    standings: Sequence[Standing]
    seeds: int

    @property
    def ratio(self) -> bool:
        return any(one.ratio for one in self.standings)

    @property
    def bases(self) -> set[str]:
        """The metric's names without counts; one, as a rule."""
        return {metric_label(name).base for name in self.metrics.values()}

    @property
    def words(self) -> str:
        return metric_label(next(iter(self.metrics.values()))).words


def comparisons(
    runs: Sequence[RunRecord], methods: Sequence[str], headline: Sequence[str], base: str
) -> list[Comparison]:
    """At the end of training, by each headline metric that all tasks have, the primary one first.

    None for one task or one method, nor of tasks on which nothing is trained.
    """
    runs = [run for run in runs if run.final_step and run.method in methods]
    tasks = list(dict.fromkeys(run.task for run in runs))
    if len(tasks) < 2 or len({run.method for run in runs}) < 2:
        return []
    by_task = {task: headline_metrics(select(runs, task=task), headline) for task in tasks}
    found = [
        compare(runs, {task: names[place] for task, names in by_task.items()}, base, at_the_end)
        for place in range(min(map(len, by_task.values())))
    ]
    return [one for one in found if one.standings and len(one.bases) == 1]


def timed_comparison(runs: Sequence[RunRecord], found: Comparison) -> Comparison | None:
    """The same after equal training time, by the points of curves; None where they have none."""
    runs = [run for run in runs if run.final_step]
    bases = {task: metric_label(name).base for task, name in found.metrics.items()}
    names = {task: curve_metric(select(runs, task=task), base) for task, base in bases.items()}
    if None in names.values():
        return None
    timed = compare(runs, names, found.base, after_equal_time(runs))
    return timed if timed.standings else None


def compare(runs: Sequence[RunRecord], metrics: Mapping[str, str], base: str, value: Value) -> Comparison:
    """Every other method against the base, over the tasks of `metrics` and their seeds; `value` gives a pair's values.

    A pair without both values takes no part, nor does a method without any.
    """
    found = {(run.task, run.method, run.seed): run for run in runs}
    seeds = sorted({run.seed for run in runs})
    pairs: dict[str, list[list[tuple[float, float]]]] = {}
    for method in dict.fromkeys(run.method for run in runs if run.method != base):
        for task, name in metrics.items():
            both = [(found.get((task, method, seed)), found.get((task, base, seed))) for seed in seeds]
            values = [value(one, other, name) for one, other in both if one and other]
            if known := [pair for pair in values if None not in pair]:
                pairs.setdefault(method, []).append(known)
    first = next(iter(metrics.values()))
    every = [each for cells in pairs.values() for task in cells for pair in task for each in pair]
    ratio = metric_label(first).base.partition("_")[0] in DISTANCES and all(each > 0 for each in every)
    direction = direction_of(runs, first)
    return Comparison(base, metrics, direction, _standings(pairs, ratio, direction), len(seeds))


def _standings(
    pairs: Mapping[str, list[list[tuple[float, float]]]], ratio: bool, direction: str | None
) -> list[Standing]:
    apart = (lambda one, other: math.log(one / other)) if ratio else (lambda one, other: one - other)
    differences = {method: [[apart(*pair) for pair in task] for task in cells] for method, cells in pairs.items()}
    intervals = {method: hierarchical_bootstrap(cells) for method, cells in differences.items()}
    adjusted = dict(zip(intervals, holm([one.p for one in intervals.values()]), strict=True))
    sign = -1 if direction == "higher" else 1
    found = []
    for method, one in intervals.items():
        flat = [value for task in differences[method] for value in task]
        side = "not apart" if not one.apart else "worse" if sign * one.mean > 0 else "better"
        wins = sum(sign * value > 0 for value in flat)
        found.append(Standing(method, one, adjusted[method], wins, len(flat), ratio, side))
    return sorted(found, key=lambda one: sign * one.interval.mean)


# --- values -----------------------------------------------------------------------------------------------------


def at_the_end(run: RunRecord, base: RunRecord, name: str) -> Pair:
    """Both runs' values after all of their steps."""
    return number(run.values.get(name)), number(base.values.get(name))


def after_equal_time(runs: Sequence[RunRecord]) -> Value:
    """Both runs' values when the quicker method ends: the other's between two points of its curve, see `value_at`.

    A method's time is the median over all of its runs, as a machine's load moves that of single ones.
    """
    times: dict[str, list[float]] = {}
    for run in runs:
        if (time := training_time(run)) is not None:
            times.setdefault(run.method, []).append(time)
    median = {method: statistics.median(each) for method, each in times.items()}

    def values(run: RunRecord, base: RunRecord, name: str) -> Pair:
        if not {run.method, base.method} <= set(median):
            return None, None
        end = min(median[run.method], median[base.method])
        return value_at(run, name, end / median[run.method]), value_at(base, name, end / median[base.method])

    return values


def training_time(run: RunRecord) -> float | None:
    """Processor seconds on a CPU, where other work moves the clock's; else seconds."""
    on_cpu = run.cost.get("device") == "cpu" and "train_cpu_seconds" in run.cost
    return number(run.cost.get("train_cpu_seconds" if on_cpu else "train_seconds"))


def value_at(run: RunRecord, name: str, share: float) -> float | None:
    """The curve's value after a share of the run's steps, in a straight line between two points of it; of values above
    0 their logarithm's.  None before the first point."""
    points = [(step / run.final_step, number(values.get(name))) for step, values in run.curve.items()]
    points = [(place, value) for place, value in points if value is not None]
    positive = all(value > 0 for _, value in points)
    for (early, first), (late, second) in itertools.pairwise(points):
        if early <= share <= late:
            part = (share - early) / (late - early)
            if not positive:
                return first + part * (second - first)
            return math.exp(math.log(first) + part * (math.log(second) - math.log(first)))
    return points[-1][1] if points and share >= points[-1][0] else None
