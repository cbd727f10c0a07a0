"""Plots: losses against step, metrics against step, quality against what it costs.

One panel a figure, small enough for a phone's width; names stand at the ends of the lines instead of in a legend.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind.artifacts import write_bytes, write_text
from kind.reporting.labels import Style, tick
from kind.reporting.plot_names import LONGEST, end_labels, point_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.1, 3.2  # inches
INK, MUTED, RULE, PAPER = "#1d1f24", "#646872", "#dfe1e7", "#fefefe"  # on the page its own, see page_plots.py
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MANY = 6  # from this many lines on, bands would hide each other
MAX_POINTS = 80  # a long training log is averaged over this many stretches


@dataclass(frozen=True)
class Plot:
    """name: file name without suffix; alt: the picture in words; svg: as in its file."""

    name: str
    alt: str
    svg: str


@dataclass(frozen=True)
class Series:
    """One method: for each seed the points (x, y), x ascending."""

    label: str
    style: Style
    seeds: Sequence[Sequence[tuple[float, float]]]

    def mean(self) -> list[tuple[float, float, float, float]]:
        """(x, mean, lowest, highest) over the seeds, where every seed has a value."""
        by_x: dict[float, list[float]] = {}
        for points in self.seeds:
            for x, y in points:
                by_x.setdefault(x, []).append(y)
        complete = {x: ys for x, ys in sorted(by_x.items()) if len(ys) == len(self.seeds)}
        return [(x, statistics.fmean(ys), min(ys), max(ys)) for x, ys in complete.items()]


def line_plot(
    folder: Path,
    name: str,
    series: Sequence[Series],
    title: str,
    subtitle: str,
    markers: bool,
    *,
    xlabel: str = "training step",
    ticks: Mapping[float, str] | None = None,
    level: float | None = None,
) -> Plot | None:
    """Mean over seeds against step, with the seeds' range as a band and (`markers`) each seed as a faint point.

    ticks: words at places of the horizontal axis, where that is no number.  level: what real images get, as a thin
    dashed line.
    """
    series = [one for one in series if one.mean()]
    if not series:
        return None

    def draw(axes: Axes) -> None:
        ends = []
        for place, one in enumerate(series):
            xs, means, lows, highs = zip(*one.mean(), strict=True)
            front = 4 + len(series) - place
            if len(series) <= MANY and len(one.seeds) > 1:
                axes.fill_between(xs, lows, highs, color=one.style.colour, alpha=0.16, linewidth=0, zorder=2)
            axes.plot(xs, means, color=one.style.colour, linestyle=one.style.line, linewidth=1.7, zorder=front,
                      marker=one.style.marker if markers else None, markersize=5.5, markeredgecolor=PAPER,
                      markeredgewidth=0.7)  # fmt: skip
            if markers and len(series) <= MANY:
                for points in filter(None, one.seeds):
                    xs_ys = zip(*points, strict=True)
                    axes.scatter(*xs_ys, s=7, color=one.style.colour, alpha=0.45, linewidth=0, zorder=3)
            ends.append((one.label, one.style, xs[-1], means[-1]))
        if markers and len(series) > MANY:  # each call costs as much as a line: all points in one
            points = [(x, y, one.style.colour) for one in series for seed in one.seeds for x, y in seed]
            xs, ys, colours = zip(*points, strict=True)
            axes.scatter(xs, ys, s=7, color=colours, alpha=0.45, linewidth=0, zorder=3)
        heights = [y for one in series for _, _, low, high in one.mean() for y in (low, high)]
        if level is not None:
            axes.axhline(level, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=2)
            heights.append(level)
        scale(axes.yaxis, heights)
        if ticks:
            axes.set_xticks(list(ticks), list(ticks.values()))
        else:
            axes.xaxis.set_major_formatter(lambda value, _: tick(value))
        axes.set_xlabel(xlabel)
        end_labels(axes, ends, tied=True)

    last = "; ".join(f"{one.label} {one.mean()[-1][1]:.4g}" for one in series)
    end = "the right" if ticks else "the last step"
    alt = f"Line plot of {title.lower()} against {xlabel}. Means at {end}: {last}."
    if level is not None:
        alt, subtitle = f"{alt} Real images: {level:.4g}.", f"{subtitle}; dashed: real images"
    return render(folder, name, draw, title, subtitle, alt, longest=max(len(one.label) for one in series))


def trade_off_plot(
    folder: Path,
    name: str,
    series: Sequence[Series],
    title: str,
    subtitle: str,
    cost: str,
    joined: Sequence[Sequence[str]] = (),
) -> Plot | None:
    """Quality (y) against a cost (x, log): the mean as a large mark, each seed as a small one.

    joined: labels of series whose means a thin line joins, in order of their costs.
    """
    series = [one for one in series if any(one.seeds)]
    if not series:
        return None
    points = [(one, _centre(one)) for one in series]
    listed = len(points) > MANY + 2  # names beside so many points would be mistaken for their neighbours'

    def draw(axes: Axes) -> None:
        for one, (x, y) in points:
            each = [point for seed in one.seeds for point in seed]
            axes.scatter(*zip(*each, strict=True), s=9, color=one.style.colour, alpha=0.5, linewidth=0, zorder=3)
            axes.scatter([x], [y], s=52, color=one.style.colour, marker=one.style.marker, edgecolor=PAPER,
                         linewidth=0.8, zorder=4)  # fmt: skip
        for group in joined:
            means = sorted((place, one.style.colour) for one, place in points if one.label in group)
            if len(means) > 1:
                axes.plot(*zip(*(place for place, _ in means), strict=True), color=means[0][1], linewidth=0.9, zorder=2)
        xs = [x for _, (x, _) in points]
        if min(xs) > 0:
            axes.set_xscale("log")
            axes.set_xlim(min(xs) / 1.9, max(xs) * 1.9)
        else:
            axes.set_xscale("symlog", linthresh=max(1.0, min((x for x in xs if x > 0), default=1.0)))
        scale(axes.yaxis, [y for one in series for seed in one.seeds for _, y in seed])
        log_ticks(axes.xaxis, *axes.get_xlim())
        axes.set_xlabel(f"{cost} (log scale)")
        names = [(one.label, one.style, x, y) for one, (x, y) in points]
        end_labels(axes, names, tied=False) if listed else point_labels(axes, names)

    where = "; ".join(f"{one.label} {y:.4g} at {tick(x)}" for one, (x, y) in points)
    alt = f"Scatter plot of {title.lower()} against {cost}: {where}."
    longest = max(len(one.label) for one in series) if listed else 0
    return render(folder, name, draw, title, subtitle, alt, longest)


def _centre(one: Series) -> tuple[float, float]:
    each = [point for seed in one.seeds for point in seed]
    return statistics.fmean(x for x, _ in each), statistics.fmean(y for _, y in each)


def averaged(steps: Sequence[int], losses: Sequence[float], stretches: int = MAX_POINTS) -> list[tuple[float, float]]:
    """A training log as means over equal stretches of steps, each at its last step."""
    if len(steps) <= stretches:
        return list(zip(steps, losses, strict=True))
    size = max(1, math.ceil((steps[-1] - steps[0] + 1) / stretches))
    bins: dict[int, list[float]] = {}
    for step, loss in zip(steps, losses, strict=True):
        bins.setdefault((step - steps[0]) // size, []).append(loss)
    return [(steps[0] + (place + 1) * size - 1, statistics.fmean(values)) for place, values in bins.items()]


# --- axes -------------------------------------------------------------------------------------------------------


def scale(axis: Any, values: Sequence[float]) -> None:
    """A log axis for positive values over more than a decade; shares between 0 and 1 keep inside it."""
    low, high, axes, name = min(values), max(values), axis.axes, axis.axis_name
    if low > 0 and high / low > 8:
        axes.set(**{f"{name}scale": "log", f"{name}lim": (low / 1.25, high * 1.25)})
        log_ticks(axis, low / 1.25, high * 1.25)
    else:
        room = 0.07 * (high - low) or 0.1 * abs(high) or 1.0
        bottom, top = (-0.02, 1.02) if low >= 0 and high <= 1 else (-math.inf, math.inf)
        axes.set(**{f"{name}lim": (max(low - room, bottom), min(high + room, top))})
        axis.set_major_formatter(lambda value, _: tick(value))


def log_ticks(axis: Any, low: float, high: float) -> None:
    """Plain numbers, as many round ones as stand clear of each other."""
    from matplotlib.ticker import FixedLocator, NullLocator

    if axis.get_scale() != "log":
        axis.set_major_formatter(lambda value, _: tick(value))
        return
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    apart = (0.15 if axis.axis_name == "x" else 0.09) * math.log(high / low)
    for mantissas in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [mantissa * 10.0**exponent for exponent in exponents for mantissa in mantissas]
        ticks = [value for value in ticks if low <= value <= high]
        if all(math.log(above / below) >= apart for below, above in itertools.pairwise(ticks)):
            break
    while len(ticks) > 7:
        ticks = ticks[::2]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: tick(float(f"{value:.6g}")))


# --- files ------------------------------------------------------------------------------------------------------


def render(
    folder: Path,
    name: str,
    draw: Callable[[Axes], None],
    title: str,
    subtitle: str,
    alt: str,
    longest: int,
    left: float = 0.12,
) -> Plot:
    """Draw once, write `name`.png and `name`.svg.

    longest: characters of the names right of the axes, for which room is left; left: where the axes begin.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_look(name)):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        FigureCanvasAgg(figure)
        right = 0.965 - (min(longest, LONGEST) * 0.0168 + 0.06 if longest else 0)
        axes = figure.add_axes((left, 0.15, right - left, 0.67))
        figure.text(0.02, 0.95, title, fontsize=10.5, fontweight="bold", va="center_baseline")
        figure.text(0.02, 0.885, subtitle, fontsize=8, color=MUTED, va="center_baseline")
        draw(axes)
        png, svg = _save(figure, "png", facecolor=PAPER), _save(figure, "svg", facecolor="none").decode()
    svg = svg[svg.index("<svg") :].replace("'DejaVu Sans'", FONTS)
    svg = re.sub(r' (?:d|x|y)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), svg)  # 1/100 pt will do
    svg = "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
    write_bytes(folder / f"{name}.png", png)
    write_text(folder / f"{name}.svg", svg)
    return Plot(name, alt, svg)


def _save(figure: Figure, form: str, facecolor: str) -> bytes:
    buffer = io.BytesIO()
    fields = ("Software",) if form == "png" else ("Creator", "Date", "Format", "Type")
    figure.savefig(buffer, format=form, facecolor=facecolor, dpi=200, metadata=dict.fromkeys(fields))
    return buffer.getvalue()


def _look(salt: str) -> dict[str, Any]:
    return {
        "font.family": ["DejaVu Sans"], "font.size": 9, "text.color": INK, "text.parse_math": False,
        "svg.fonttype": "none", "svg.hashsalt": salt, "axes.facecolor": "none", "axes.edgecolor": MUTED,
        "axes.labelcolor": MUTED, "axes.labelsize": 8.5, "axes.linewidth": 0.8, "axes.grid": True,
        "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "grid.color": RULE,
        "grid.linewidth": 0.7, "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5, "xtick.major.size": 3, "ytick.major.size": 0, "ytick.minor.size": 0,
        "lines.solid_capstyle": "round", "lines.scale_dashes": True, "axes.xmargin": 0.03,
    }  # fmt: skip
