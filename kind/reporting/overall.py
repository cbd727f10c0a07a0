"""Every method against one of them over all tasks and seeds: tables, plots and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind.artifacts import write_json
from kind.reporting.comparisons import cost_columns, cost_values, exact_name, is_known, metric_names, select
from kind.reporting.labels import ARROWS, Style, in_sentence, matches, metric_label, tick
from kind.reporting.paired import Comparison, comparisons, timed_comparison
from kind.reporting.plots import MUTED, PAPER, Plot, log_ticks, render, scale
from kind.reporting.runs import RunRecord
from kind.reporting.tables import Column, Table, build_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZES = ("trainable", "macs")
AT_THE_END = "At equal steps"
AFTER_TIME = (
    "After equal training time: when the quicker method ends, the other one's value lies between two points of its "
    "curve (on a straight line, of logarithms where values are above 0). A method's time is the median of its runs', "
    "of fine-tuning alone, in this implementation. Counts are those of curves"
)
KERNEL = ("kid", "kd")


@dataclass(frozen=True)
class OverallSection:
    """What the page has of it: the sentence, the tables and the plots."""

    findings: Sequence[str]
    tables: Mapping[str, Table]
    plots: Sequence[Plot]


def overall_section(
    runs: Sequence[RunRecord],
    methods: Sequence[str],
    output: Path,
    styles: Mapping[str, Style],
    headline: Sequence[str],
) -> OverallSection | None:
    """Of the runs of tasks on which methods train; None where there are not two tasks and two methods.

    The base is `kind` where it takes part, else the first method.  Plots are written to `output`/plots, and to
    `output`/summary each comparison as numbers, NAME.json.
    """
    base = "kind" if "kind" in methods else methods[0]
    compared = comparisons(runs, methods, headline, base)
    if not compared:
        return None
    drawn = [
        overall_plot(output / "plots", f"overall_{next(iter(found.bases))}", found, runs, styles) for found in compared
    ]
    shown = {"overall": (compared[0], AT_THE_END)}
    if any(matches(name, prefix) for name in metric_names(runs) for prefix in KERNEL):  # unbiased: no floor of counts
        shown["overall_kernel"] = (comparisons(runs, methods, KERNEL, base)[0], AT_THE_END)
    if timed := timed_comparison(runs, compared[0]):
        shown["overall_time"] = (timed, AFTER_TIME)
    tables = {}
    for name, (found, how) in shown.items():
        tables[name] = overall_table(found, runs, how)
        write_json(output / "summary" / f"{name}.json", as_json(found))
    return OverallSection([finding(compared[0])], tables, drawn)


def overall_table(found: Comparison, runs: Sequence[RunRecord], how: str, title: str | None = None) -> Table:
    """A row a method, best first."""
    what = f"{found.words} {'÷' if found.ratio else '−'} {found.base}"
    small = not found.ratio and all(abs(one.interval.mean) < 0.1 for one in found.standings)
    unit = {"unit": "10⁻³", "divide_by": 1e-3} if small else {}
    sizes = [*SIZES, *(["train_cpu_seconds"] if how == AFTER_TIME else [])]
    columns = [
        *cost_columns(runs, [key for key in sizes if is_known(runs, key)]),
        Column("mean", what, " / ".join(dict.fromkeys(found.metrics.values())), together=True, **unit),
        Column("low", "from", "95 % interval", together=True, **unit),
        Column("high", "to", "95 % interval", together=True, **unit),
        Column("task_low", "from", "over tasks alone", together=True, **unit),
        Column("task_high", "to", "over tasks alone", together=True, **unit),
        Column("p", "p, by Holm"),
        Column("wins", f"{found.base} better", "runs", exact=True),
        Column("cells", "of", "runs", exact=True),
    ]
    rows = []
    for one in found.standings:
        ends = {key: one.in_units(getattr(one.interval, key)) for key in _ENDS}
        values = ends | {"p": one.adjusted, "wins": float(one.wins), "cells": float(one.cells)}
        rows.append(((one.method,), one.method, cost_values(select(runs, method=one.method), sizes) | values))
    point, count = ("1" if found.ratio else "0"), len(found.metrics)
    side = "Below" if found.direction == "higher" else "Above"
    caption = (
        f"{how}. Runs with the same task and seed are paired; the mean is over tasks ({', '.join(found.metrics)}) of "
        f"means over {found.seeds} seeds{', of ratios the geometric one' if found.ratio else ''}. {side} {point}: "
        f"{found.base} is better. The 95 % interval is of a bootstrap that draws tasks and seeds anew; a method is "
        f"apart from {found.base} where it excludes {point}. p is two-sided, of the same draws, adjusted for "
        f"{len(found.standings)} methods. Of {count} tasks both make too much: the interval over tasks alone is "
        "Student's over their means, and holds for other tasks, too. Backbones have one seed each."
    )
    title = title or f"Every method against {found.base} over all tasks"
    return build_table(title, ("Method",), columns, rows, caption)


_ENDS = ("mean", "low", "high", "task_low", "task_high")


def as_json(found: Comparison) -> dict[str, Any]:
    """The numbers of a comparison, of ratios as such."""
    return {
        "base": found.base, "metrics": dict(found.metrics), "direction": found.direction, "ratio": found.ratio,
        "seeds": found.seeds,
        "standings": [
            {"method": one.method, "side": one.side}
            | {key: one.in_units(getattr(one.interval, key)) for key in _ENDS}
            | {"p": one.interval.p, "p_holm": one.adjusted, "wins": one.wins, "cells": one.cells,
               "tasks_of_one_sign": one.interval.signs}
            for one in found.standings
        ],
    }  # fmt: skip


def finding(found: Comparison) -> str:
    """Which methods are apart from the base, on which side, as a sentence."""
    sides: dict[str, list[str]] = {"better": [], "not apart": [], "worse": []}
    for one in found.standings:
        sides[one.side].append(one.method)
    joined = {"better": "than", "not apart": "from", "worse": "than"}
    parts = [f"{side} {joined[side]} {found.base}: {', '.join(names)}" for side, names in sides.items() if names]
    return (
        f"Over {len(found.metrics)} tasks and {found.seeds} seeds, by {in_sentence(found.words)} after equal steps "
        f"(paired, 95 % interval of a bootstrap over tasks and seeds, not adjusted): {'; '.join(parts)}."
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
            style = styles[one.method]
            low, mean, high = (one.in_units(getattr(one.interval, key)) for key in ("low", "mean", "high"))
            axes.plot([low, high], [place, place], color=style.colour, linewidth=1.5, zorder=3)
            axes.scatter([mean], [place], s=34, color=style.colour, marker=style.marker, edgecolor=PAPER,
                         linewidth=0.8, zorder=4)  # fmt: skip
        if found.ratio:
            axes.set_xscale("log")
            axes.set_xlim(min([*ends, middle]) / 1.12, max([*ends, middle]) * 1.12)
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
    counts = exact_name(names[0], runs) if len(names) == 1 else metric_label(names[0]).base  # what several share
    listed = "; ".join(f"{one.method} {tick(float(f'{one.in_units(one.interval.mean):.4g}'))}" for one in standings)
    subtitle = f"{len(found.metrics)} tasks, {found.seeds} seeds, 95 % interval: {counts}"
    title = f"{what} {ARROWS.get(found.direction, '')}".rstrip()
    left = max(0.12, longest * 0.0168 + 0.04)
    return render(folder, name, draw, title, subtitle, f"{what}. Means: {listed}.", longest=0, left=left)
