"""Plots of an ablation: a metric by setting, where settings are numbers, and where they are choices."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kind.reporting.labels import Style, tick
from kind.reporting.plots import MUTED, PAPER, Plot, log_ticks, render, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDEST = 24  # characters of a setting's words in a line; longer ones take two
CHARACTER = 0.0168  # width of one, as a share of the figure's
Setting = tuple[float | str, Style, Sequence[float]]  # number or words, look, a value a seed


def numbers_plot(
    folder: Path, name: str, settings: Sequence[Setting], base: float | None, title: str, subtitle: str, axis: str
) -> Plot | None:
    """Means over seeds against numbers, joined by a line, with sample deviations and each seed's value.

    base: the mean that others are compared with, as a dashed line.  The axis is logarithmic over more than a decade.
    """
    settings = sorted((one for one in settings if one[2]), key=lambda one: one[0])
    if not settings:
        return None
    numbers = [number for number, _, _ in settings]

    def draw(axes: Axes) -> None:
        _spread_out(axes, numbers)
        axes.plot(numbers, [statistics.fmean(values) for *_, values in settings], color=MUTED, linewidth=1.2, zorder=2)
        for number, style, values in settings:
            _mark(axes, number, values, style, upright=True)
        scale(axes.yaxis, _extent(settings))
        if base is not None:
            axes.axhline(base, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        axes.set_xlabel(axis + (" (log scale)" if axes.get_xscale() != "linear" else ""))

    return render(folder, name, draw, title, subtitle, _alt(title, axis, settings), longest=0)


def choices_plot(
    folder: Path, name: str, settings: Sequence[Setting], base: float | None, title: str, subtitle: str, axis: str
) -> Plot | None:
    """A line a choice, the first on top: its mean over seeds, sample deviation and each seed's value."""
    if not any(values for *_, values in settings):
        return None
    names = [_folded(str(words)) for words, _, _ in settings]
    widest = max(len(line) for one in names for line in one.splitlines())

    def draw(axes: Axes) -> None:
        for place, (_, style, values) in enumerate(settings):
            if values:
                _mark(axes, place, values, style, upright=False)
        scale(axes.xaxis, _extent(settings))
        axes.set_ylim(len(settings) - 0.4, -0.6)
        room = axes.bbox.height / axes.figure.dpi * 72 / len(settings)  # points a line
        size = min(8.5, room * (0.46 if any("\n" in one for one in names) else 0.86))
        axes.set_yticks(range(len(settings)), names, fontsize=size)
        axes.grid(visible=False, axis="y")
        if base is not None:
            axes.axvline(base, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)

    left = max(0.12, widest * CHARACTER + 0.04)
    return render(folder, name, draw, title, subtitle, _alt(title, axis, settings), longest=0, left=left)


def _mark(axes: Axes, place: float, values: Sequence[float], style: Style, upright: bool) -> None:
    """A large mark at the mean with its deviation, small ones for the seeds."""
    mean = statistics.fmean(values)
    if len(values) > 1:
        axes.errorbar(*_point(place, mean, upright), **{"yerr" if upright else "xerr": statistics.stdev(values)},
                      color=style.colour, elinewidth=1.3, capsize=3, zorder=3)  # fmt: skip
        for value in values:
            axes.scatter(*_point(place, value, upright), s=9, color=style.colour, alpha=0.5, linewidth=0, zorder=3)
    axes.scatter(*_point(place, mean, upright), s=46, color=style.colour, marker=style.marker, edgecolor=PAPER,
                 linewidth=0.8, zorder=4)  # fmt: skip


def _point(place: float, value: float, upright: bool) -> tuple[list[float], list[float]]:
    return ([place], [value]) if upright else ([value], [place])


def _spread_out(axes: Axes, numbers: Sequence[float]) -> None:
    """The scale of the horizontal axis, and a tick at each number that stands clear of the one before."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = numbers[0], numbers[-1]
    smallest = min((number for number in numbers if number > 0), default=1.0)
    if low > 0 and high / low > 10:
        axes.set_xscale("log")
        axes.set_xlim(low / (high / low) ** 0.06, high * (high / low) ** 0.06)
    elif low == 0 and high / smallest > 10:
        axes.set_xscale("symlog", linthresh=smallest)
        axes.set_xlim(-0.3 * smallest, high * (high / smallest) ** 0.06)
    else:
        room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        axes.set_xlim(low - room, high + room)
    if len(numbers) > 12:
        log_ticks(axes.xaxis, *axes.get_xlim())
        return
    shown, last = [], -math.inf
    for number in numbers:
        place = axes.transAxes.inverted().transform(axes.transData.transform((number, 0.0 if low <= 0 else 1.0)))[0]
        if place - last >= 0.016 * (len(tick(number)) + 1):
            shown.append(number)
            last = place
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: tick(float(f"{value:.6g}")))


def _extent(settings: Sequence[Setting]) -> list[float]:
    """All values, and the ends of deviations; of positive values no end below zero, which a log axis has not."""
    every = [value for *_, values in settings for value in values]
    ends = [
        statistics.fmean(values) + sign * statistics.stdev(values)
        for *_, values in settings if len(values) > 1 for sign in (-1, 1)
    ]  # fmt: skip
    return every + [end for end in ends if end > 0 or min(every) <= 0]


def _folded(words: str) -> str:
    """In two lines at most."""
    return "\n".join(textwrap.wrap(words, WIDEST, max_lines=2, placeholder=" …", break_on_hyphens=False))


def _alt(title: str, axis: str, settings: Sequence[Setting]) -> str:
    means = (
        f"{tick(setting) if not isinstance(setting, str) else setting} {statistics.fmean(values):.4g}"
        for setting, _, values in settings
        if values
    )
    return f"Plot of {title.lower()} by {axis}. Means: {'; '.join(means)}."
