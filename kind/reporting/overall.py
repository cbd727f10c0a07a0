"""Every method against one of them over all tasks and seeds: at equal steps, and after equal training time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kind.reporting.budgets import direction_of
from kind.reporting.comparisons import (
    cost_columns,
    cost_values,
    curve_metric,
    exact_name,
    headline_metrics,
    select,
)
from kind.reporting.labels import ARROWS, Style, in_sentence, metric_label, tick
from kind.reporting.plots import MUTED, PAPER, Plot, log_ticks, render, scale
from kind.reporting.resampling import Interval, hierarchical_bootstrap, holm
from kind.reporting.runs import RunRecord, number
from kind.reporting.tables import Column, Table, build_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZES = ("trainable", "deployed_macs")
DISTANCES = ("fid", "sfid", "fd", "sfd")  # whose size is the task's: of these the ratio is compared
Value = Callable[[RunRecord, RunRecord, str], tuple[float | None, float | None]]


@dataclass(frozen=True)
class Standing:
    """A method against the base.

    interval: of the logarithm of the ratio where `ratio`, else of the difference; adjusted: its p-value by Holm's rule;
    wins: in how many of `cells` pairs of runs the base is the better one.
    """

    method: str
    interval: Interval
    adjusted: float
    wins: int
    cells: int
    ratio: bool

    def in_units(self, value: float) -> float:
        return math.exp(value) if self.ratio else value


@dataclass(frozen=True)
class Comparison:
    """What was compared how: the standings, nearest to the base's better side first.

    metrics: task -> the metric's name there.
    """

    base: str
    metrics: Mapping[str, str]
    direction: str | None
    standings: Sequence[Standing]
    seeds: int

    @property
    def ratio(self) -> bool:
        return any(one.ratio for one in self.standings)

    @property
    def words(self) -> str:
        return metric_label(next(iter(self.metrics.values()))).words


@dataclass(frozen=True)
class OverallSection:
    """What the page has of it: the sentence, the tables and the plots."""

    findings: Sequence[str]
    tables: Mapping[str, Table]
    plots: Sequence[Plot]


def overall_section(
    runs: Sequence[RunRecord],
    methods: Sequence[str],
    folder: Path,
    styles: Mapping[str, Style],
    headline: Sequence[str],
    base: str | None = None,
) -> OverallSection | None:
    """Of the runs of tasks on which methods train; None where there are not two tasks and two methods.

    methods: those that take part; folder: of the plots.
    """
    compared = comparisons(runs, methods, headline, base or ("kind" if "kind" in methods else methods[0]))
    if not compared:
        return None
    drawn = [overall_plot(folder, f"overall_{_base_of(found)}", found, runs, styles) for found in compared]
    tables = {"overall": overall_table(compared[0], runs, "At equal steps")}
    if timed := _after_equal_time(runs, compared[0]):
        tables["overall_time"] = overall_table(timed, runs, "After equal training time")
    return OverallSection([finding(compared[0])], tables, drawn)


def comparisons(
    runs: Sequence[RunRecord], methods: Sequence[str], headline: Sequence[str], base: str
) -> list[Comparison]:
    """By each headline metric that all tasks have, the primary one first; none for one task or one method."""
    runs = [run for run in runs if run.final_step and run.method in methods]
    tasks = list(dict.fromkeys(run.task for run in runs))
    if len(tasks) < 2 or len({run.method for run in runs}) < 2:
        return []
    by_task = {task: headline_metrics(select(runs, task=task), headline) for task in tasks}
    found = [
        compare(runs, {task: names[place] for task, names in by_task.items()}, base, at_the_end)
        for place in range(min(map(len, by_task.values())))
    ]
    return [one for one in found if one.standings and len(_bases(one)) == 1]


def _bases(found: Comparison) -> set[str]:
    return {metric_label(name).base for name in found.metrics.values()}


def _base_of(found: Comparison) -> str:
    return next(iter(_bases(found)))


def _after_equal_time(runs: Sequence[RunRecord], found: Comparison) -> Comparison | None:
    names = {
        task: curve_metric(select(runs, task=task), metric_label(name).base) for task, name in found.metrics.items()
    }
    if None in names.values():
        return None
    timed = compare(runs, names, found.base, after_equal_time)
    return timed if timed.standings else None


# --- values -----------------------------------------------------------------------------------------------------


def at_the_end(run: RunRecord, base: RunRecord, name: str) -> tuple[float | None, float | None]:
    """Both runs' values after all of their steps."""
    return number(run.values.get(name)), number(base.values.get(name))


def after_equal_time(run: RunRecord, base: RunRecord, name: str) -> tuple[float | None, float | None]:
    """Both runs' values when the quicker one ends: the other's between two points of its curve, see `value_at`."""
    whole = [time for one in (run, base) if (time := training_time(one)) is not None]
    if len(whole) < 2:
        return None, None
    return value_at(run, name, min(whole)), value_at(base, name, min(whole))


def training_time(run: RunRecord) -> float | None:
    """Processor seconds on a CPU, where other work moves the clock's; else seconds."""
    key = (
        "train_cpu_seconds" if run.cost.get("device") == "cpu" and "train_cpu_seconds" in run.cost else "train_seconds"
    )
    return number(run.cost.get(key))


def value_at(run: RunRecord, name: str, seconds: float) -> float | None:
    """The curve's value after so much training time, in a straight line between two points of it; of values above 0
    their logarithm's.  None before the first point."""
    whole = training_time(run)
    points = [(whole * step / run.final_step, number(values.get(name))) for step, values in run.curve.items()]
    points = [(time, value) for time, value in points if value is not None]
    positive = all(value > 0 for _, value in points)
    for (early, first), (late, second) in zip(points, points[1:], strict=False):
        if early <= seconds <= late:
            share = (seconds - early) / (late - early)
            if not positive:
                return first + share * (second - first)
            return math.exp(math.log(first) + share * (math.log(second) - math.log(first)))
    return points[-1][1] if points and seconds >= points[-1][0] else None


# --- comparison -------------------------------------------------------------------------------------------------


def compare(runs: Sequence[RunRecord], metrics: Mapping[str, str], base: str, value: Value) -> Comparison:
    """Every other method against the base, over the tasks of `metrics` and their seeds; `value` gives a pair's values.

    A pair without both values takes no part, nor does a method without any.
    """
    direction = direction_of(runs, next(iter(metrics.values())))
    found = {(run.task, run.method, run.seed): run for run in runs}
    seeds = sorted({run.seed for run in runs})
    pairs: dict[str, list[list[tuple[float, float]]]] = {}
    for method in dict.fromkeys(run.method for run in runs):
        if method == base:
            continue
        for task, name in metrics.items():
            both = [(found.get((task, method, seed)), found.get((task, base, seed))) for seed in seeds]
            values = [value(one, other, name) for one, other in both if one and other]
            if known := [pair for pair in values if None not in pair]:
                pairs.setdefault(method, []).append(known)
    every = [each for cells in pairs.values() for task in cells for pair in task for each in pair]
    prefix = metric_label(next(iter(metrics.values()))).base.partition("_")[0]
    ratio = prefix in DISTANCES and all(each > 0 for each in every)
    standings = _standings(pairs, ratio, direction)
    return Comparison(base, metrics, direction, standings, len(seeds))


def _standings(
    pairs: Mapping[str, list[list[tuple[float, float]]]], ratio: bool, direction: str | None
) -> list[Standing]:
    apart = (lambda one, other: math.log(one / other)) if ratio else (lambda one, other: one - other)
    intervals, counts = {}, {}
    sign = -1 if direction == "higher" else 1
    for method, cells in pairs.items():
        differences = [[apart(*pair) for pair in task] for task in cells]
        intervals[method] = hierarchical_bootstrap(differences)
        flat = [value for task in differences for value in task]
        counts[method] = (sum(sign * value > 0 for value in flat), len(flat))
    adjusted = dict(zip(intervals, holm([one.p for one in intervals.values()]), strict=True))
    found = [Standing(name, one, adjusted[name], *counts[name], ratio) for name, one in intervals.items()]
    return sorted(found, key=lambda one: sign * one.interval.mean)


# --- what is shown ----------------------------------------------------------------------------------------------


def overall_table(found: Comparison, runs: Sequence[RunRecord], how: str, title: str | None = None) -> Table:
    """A row a method, best first."""
    what = f"{found.words} {'÷' if found.ratio else '−'} {found.base}"
    columns = [
        *cost_columns(runs, [key for key in SIZES if _known(runs, key)]),
        Column("mean", what, " / ".join(dict.fromkeys(found.metrics.values())), together=True),
        Column("low", "from", "95 % interval", together=True),
        Column("high", "to", "95 % interval", together=True),
        Column("p", "p, by Holm"),
        Column("wins", f"{found.base} better", "runs", exact=True),
        Column("cells", "of", "runs", exact=True),
    ]
    rows = []
    for one in found.standings:
        interval = one.interval
        values = {key: one.in_units(getattr(interval, key)) for key in ("mean", "low", "high")}
        values |= {"p": one.adjusted, "wins": float(one.wins), "cells": float(one.cells)}
        rows.append(((one.method,), one.method, cost_values(select(runs, method=one.method), SIZES) | values))
    side = "Above" if (found.direction == "lower") else "Below"
    point = "1" if found.ratio else "0"
    tasks = ", ".join(found.metrics)
    caption = (
        f"{how}. Runs with the same task and seed are paired; the mean is over tasks ({tasks}) of means over "
        f"{found.seeds} seeds{', of ratios the geometric one' if found.ratio else ''}. {side} {point}: {found.base} is "
        f"better. The interval is of a bootstrap that draws tasks and seeds anew; methods are apart from {found.base} "
        f"where it excludes {point}. p is two-sided and adjusted for {len(found.standings)} methods."
    )
    return build_table(
        title or f"Every method against {found.base} over all tasks", ("Method",), columns, rows, caption
    )


def _known(runs: Sequence[RunRecord], key: str) -> bool:
    return any(number(value) is not None for value in cost_values(runs, [key])[key])


def finding(found: Comparison) -> str:
    """Which methods are apart from the base, on which side, as a sentence."""
    sign = -1 if found.direction == "higher" else 1
    sides = {"better": [], "not apart": [], "worse": []}
    for one in found.standings:
        side = "not apart" if not one.interval.apart else "worse" if sign * one.interval.mean > 0 else "better"
        sides[side].append(one.method)
    said = {
        "better": f"better than {found.base}: {{}}",
        "not apart": f"not apart from {found.base}: {{}}",
        "worse": f"worse than {found.base}: {{}}",
    }
    parts = [said[side].format(", ".join(names)) for side, names in sides.items() if names]
    return (
        f"Over {len(found.metrics)} tasks and {found.seeds} seeds, by {in_sentence(found.words)} after equal steps "
        f"(paired, 95 % interval over tasks and seeds): {'; '.join(parts)}."
    )


def overall_plot(
    folder: Path, name: str, found: Comparison, runs: Sequence[RunRecord], styles: Mapping[str, Style]
) -> Plot:
    """A line a method, best first: the mean against the base with its interval; a dashed line is the base."""
    standings, middle = found.standings, 1.0 if found.ratio else 0.0
    what = f"{found.words} {'÷' if found.ratio else '−'} that of {found.base}"

    def draw(axes: Axes) -> None:
        ends = [one.in_units(end) for one in standings for end in (one.interval.low, one.interval.high)]
        for place, one in enumerate(standings):
            style, (low, mean, high) = styles[one.method], map(one.in_units, _ends(one.interval))
            axes.plot([low, high], [place, place], color=style.colour, linewidth=1.5, zorder=3)
            axes.scatter([mean], [place], s=34, color=style.colour, marker=style.marker, edgecolor=PAPER,
                         linewidth=0.8, zorder=4)  # fmt: skip
        if found.ratio:
            axes.set_xscale("log")
            axes.set_xlim(min(ends + [middle]) / 1.12, max(ends + [middle]) * 1.12)
            log_ticks(axes.xaxis, *axes.get_xlim())
        else:
            scale(axes.xaxis, [*ends, middle])
        axes.set_ylim(len(standings) - 0.4, -0.6)
        room = axes.bbox.height / axes.figure.dpi * 72 / len(standings)  # points a line
        axes.set_yticks(range(len(standings)), [one.method for one in standings], fontsize=min(8.5, room * 0.86))
        axes.grid(visible=False, axis="y")
        axes.axvline(middle, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)

    longest = max(len(one.method) for one in standings)
    names = list(dict.fromkeys(found.metrics.values()))
    counts = exact_name(names[0], runs) if len(names) == 1 else _base_of(found)  # of several counts what they share
    listed = "; ".join(f"{one.method} {tick(float(f'{one.in_units(one.interval.mean):.4g}'))}" for one in standings)
    subtitle = f"{len(found.metrics)} tasks, {found.seeds} seeds, 95 % interval: {counts}"
    title = f"{what} {ARROWS.get(found.direction, '')}".rstrip()
    left = max(0.12, longest * 0.0168 + 0.04)
    return render(folder, name, draw, title, subtitle, f"{what}. Means: {listed}.", longest=0, left=left)


def _ends(interval: Interval) -> Iterable[float]:
    return interval.low, interval.mean, interval.high
