"""Names of methods beside their lines and points, so that a plot needs no legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kind.reporting.labels import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST = 16  # characters; longer names are cut
Named = tuple[str, Style, float, float]  # name, style, x, y


def end_labels(axes: Axes, ends: Sequence[Named], tied: bool) -> None:
    """Names right of the axes in order of height, moved apart; `tied`: by a thread to the end of its line."""
    to_axes = axes.transAxes.inverted()
    height = axes.bbox.height / axes.figure.dpi * 72  # points
    gap = min(12.0, 1.08 * height / len(ends)) / height
    ordered = sorted(ends, key=lambda end: (end[3], end[0]))
    anchors = [to_axes.transform(axes.transData.transform((x, y))) for _, _, x, y in ordered]
    places = _apart([float(y) for _, y in anchors], gap, -0.05, 1.03)  # clear of the subtitle
    for (label, style, _, _), (x, y), place in zip(ordered, anchors, places, strict=True):
        if tied:
            axes.plot([x, 1.015, 1.045], [y, place, place], transform=axes.transAxes, color=style.colour, linewidth=0.8,
                      alpha=0.8, clip_on=False, zorder=2)  # fmt: skip
        axes.plot([1.065], [place], transform=axes.transAxes, color=style.colour, marker=style.marker, markersize=4.5,
                  clip_on=False, markeredgewidth=0)  # fmt: skip
        axes.text(1.1, place, _short(label), transform=axes.transAxes, va="center_baseline",
                  fontsize=min(9, gap * height * 0.86))  # fmt: skip


def _apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending positions moved as little as a simple sweep can so that neighbours keep `gap`."""
    groups: list[tuple[float, int]] = []  # (sum of wanted, members); a group is centred on its mean
    for place in wanted:
        groups.append((place, 1))
        while len(groups) > 1:
            (above, count_above), (below, count_below) = groups[-1], groups[-2]
            centre = [_inside(total / count, count, gap, low, high) for total, count in groups[-2:]]
            if centre[1] - centre[0] >= gap * (count_above + count_below) / 2 - 1e-12:
                break
            groups[-2:] = [(above + below, count_above + count_below)]
    return [
        _inside(total / count, count, gap, low, high) + gap * (place - (count - 1) / 2)
        for total, count in groups
        for place in range(count)
    ]


def _inside(centre: float, count: int, gap: float, low: float, high: float) -> float:
    half = gap * (count - 1) / 2
    return max(low + half, min(high - half, centre))


def point_labels(axes: Axes, points: Sequence[Named]) -> None:
    """A name beside each point, at the first place that covers no point and no other name."""
    scale = axes.figure.dpi / 72
    centres = [axes.transData.transform((x, y)) for _, _, x, y in points]
    taken = [(x - 5 * scale, y - 5 * scale, x + 5 * scale, y + 5 * scale) for x, y in centres]
    frame = axes.bbox
    for (label, style, _, _), (x, y) in zip(points, centres, strict=True):
        label = _short(label)
        width, height = (5.6 * len(label) + 2) * scale, 11 * scale
        for reach in (8, 14, 22, 32, 44, 58):
            boxes = []
            for across, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
                left = x + across * reach * scale - (width if across < 0 else width / 2 if across == 0 else 0)
                middle = y + up * reach * scale
                boxes.append((left, middle - height / 2, left + width, middle + height / 2))
            free = [box for box in boxes if _inside_frame(box, frame) and not any(_overlap(box, one) for one in taken)]
            if free:
                break
        box = free[0] if free else boxes[0]
        taken.append(box)
        left, middle = box[0], (box[1] + box[3]) / 2
        if reach > 8:
            near = min(max(x, box[0]), box[2])
            start, end = axes.transAxes.inverted().transform([(x, y), (near, middle)])
            thread = zip(start, end, strict=True)
            axes.plot(*thread, transform=axes.transAxes, color=style.colour, linewidth=0.7, zorder=2)
        at = axes.transAxes.inverted().transform((left, middle))
        axes.text(*at, label, transform=axes.transAxes, va="center_baseline", fontsize=9, zorder=5)


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _inside_frame(box: Sequence[float], frame: Any) -> bool:
    return box[0] >= frame.x0 and box[2] <= frame.x1 and box[1] >= frame.y0 and box[3] <= frame.y1


def _short(label: str, longest: int = LONGEST) -> str:
    return label if len(label) <= longest else label[: longest - 1] + "…"
