"""Words for metric names, numbers for people, and one colour and marker a method."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from kind.reporting.runs import flatten

MISSING = "–"
ARROWS = {"lower": "↓", "higher": "↑"}

_COUNTS = re.compile(r"_(\d+k?)(?:_vs_(\d+k?))?$")

# prefix of a metric's name -> what people call it, and what it says.  The longest prefix wins.
METRICS = {
    "fid": ("FID", "Fréchet distance of Inception features."),
    "sfid": ("sFID", "Fréchet distance of spatial Inception features."),
    "kid": ("KID", "Unbiased kernel distance of Inception features."),
    "fd": ("Fréchet distance", "Distance between Gaussians fitted to pooled features of samples and of real images."),
    "sfd": ("Spatial Fréchet distance", "The same on features that keep their place in the image."),
    "kd": ("Kernel distance", "Unbiased squared kernel distance of features; may fall just below zero."),
    "class_fid": ("FID by class", "FID of each class to the same class, averaged over classes (intra-FID)."),
    "class_kid": ("KID by class", "KID of each class to the same class, averaged over classes."),
    "class_fd": ("Fréchet distance by class", "Of each class to the same class, averaged over classes."),
    "class_kd": ("Kernel distance by class", "Of each class to the same class, averaged over classes; unbiased."),
    "is": ("Inception Score", "Sure and varied classes of samples, as the feature network's classifier sees them."),
    "precision": ("Precision", "Share of samples that lie among the real images: fidelity."),
    "recall": ("Recall", "Share of real images that lie among the samples: variety."),
    "accuracy": ("Class accuracy", "Share of samples that the feature network puts in the class asked for."),
    "accuracy_svc": ("SVC agreement", "Share of samples that the independent judge puts in the class asked for."),
    "nearest_train": ("Nearest training image", "Distance of samples to it; far below that of real images is copying."),
}  # fmt: skip


@dataclass(frozen=True)
class MetricLabel:
    """`fd_digits_500_vs_180` -> base `fd_digits`, words "Fréchet distance", counts ("500", "180")."""

    name: str
    base: str
    words: str
    meaning: str
    counts: tuple[str | None, str | None]

    def with_arrow(self, direction: str | None) -> str:
        return f"{self.words} {ARROWS[direction]}" if direction in ARROWS else self.words


@cache
def metric_label(name: str) -> MetricLabel:
    found = _COUNTS.search(name)
    base = name[: found.start()] if found else name
    known = [prefix for prefix in METRICS if base == prefix or base.startswith(f"{prefix}_")]
    words, meaning = METRICS[max(known, key=len)] if known else (base, "")
    if base.startswith("is_"):
        words = "Inception-Score analogue"
    return MetricLabel(name, base, words, meaning, found.groups() if found else (None, None))


def matches(name: str, prefix: str) -> bool:
    """Whether a metric is the one that a headline entry means: `fd` is `fd_digits_500_vs_180`, not `sfd_...`."""
    base = metric_label(name).base
    return prefix in (name, base) or base.startswith(f"{prefix}_")


def in_sentence(words: str) -> str:
    """`Precision` -> `precision`; names such as FID and Fréchet keep their capital."""
    return words if words.startswith("Fréchet") or words[1:2].isupper() else words[:1].lower() + words[1:]


# --- numbers ----------------------------------------------------------------------------------------------------


def decimals_for(values: Iterable[float]) -> int:
    """Decimals that give a column's smallest value three significant digits, its median no more than four."""
    sizes = sorted(abs(value) for value in values if value)
    if not sizes:
        return 0
    smallest, median = (2 - math.floor(math.log10(size)) for size in (sizes[0], sizes[len(sizes) // 2]))
    return min(5, max(0, min(smallest, median + 1)))


def fixed(value: float, decimals: int) -> str:
    """A number with a true minus sign, and no minus before zero."""
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.replace("-", "")


def short_count(value: float) -> str:
    """12345 -> "12.3 k"; counts below a thousand are exact."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            scaled = value / size
            return f"{scaled:.{max(0, 2 - math.floor(math.log10(abs(scaled) * 1.0005)))}f} {unit}"
    return f"{value:.0f}"


def tick(value: float) -> str:
    """An axis number: 0.05, 20, 1.5k, 2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}".replace("-", "−")


def settings(entry: Mapping[str, Any]) -> str:
    """A params entry in one line: `rank 16, learning_rate 0.001`."""
    return ", ".join(f"{key} {plain(value)}" for key, value in flatten(entry).items())


def listed_classes(classes: Sequence[Any], of_set: str | None = None) -> str:
    """The first of many classes, and the set that they are from."""
    names = [str(name) for name in classes]
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"{of_set}: {listed}" if of_set else listed


def plain(value: Any) -> str:
    """A params or protocol value as a person writes it."""
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or MISSING
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


# --- methods ----------------------------------------------------------------------------------------------------

# Okabe and Ito's palette without its yellow: told apart by colour-blind readers, seen on white and on black.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#808080")
# matplotlib's marker and the same shape as a character (with the selector that keeps phones from drawing emoji)
MARKERS = (("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("P", "✚"), ("X", "✖"), ("*", "★"),
           ("p", "⬟"), ("h", "⬢"), ("<", "◀"), (">", "▶"), ("d", "♦"))  # fmt: skip
LINES = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))


@dataclass(frozen=True)
class Style:
    colour: str
    marker: str
    character: str
    line: Any


def method_styles(methods: Iterable[str]) -> dict[str, Style]:
    """The same colour, marker and line for a method in all plots and tables; `kind` always has the first."""
    ordered = sorted(methods, key=lambda method: method != "kind")
    return {
        method: Style(
            COLOURS[place % len(COLOURS)],
            MARKERS[place % len(MARKERS)][0],
            MARKERS[place % len(MARKERS)][1] + "\ufe0e",
            LINES[place // len(COLOURS) % len(LINES)],
        )
        for place, method in enumerate(ordered)
    }
