"""One MLflow run, as the files want it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

Point = tuple[str, int]  # metric, step
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """key: what it is of, the same for every recipe.  parts: the recipe that its content is of, a digest a stage.

    parent: key of the entry that it stands under.  pictures, tables, files: artifact path -> what the content depends
    on, and how to get it.  view: of the experiment, as the UI keeps one (kind/tracked/view.py).
    """

    key: str
    name: str
    parts: Mapping[str, str]
    status: str
    started: float
    trained: float
    ended: float
    tags: Mapping[str, str]
    description: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    points: Mapping[Point, float] = field(default_factory=dict)
    parent: str | None = None
    pictures: Mapping[str, tuple[str, Callable[[], bytes | None]]] = field(default_factory=dict)
    tables: Mapping[str, tuple[str, Callable[[], Rows]]] = field(default_factory=dict)
    files: Mapping[str, tuple[str, Path]] = field(default_factory=dict)
    view: str = ""

    def time_of(self, step: int) -> float:
        """Logs hold no times, which differ between two runs of a recipe: steps are spread over the time it took."""
        return self.started + (self.trained - self.started) * (step / self._last if self._last > 0 else 1.0)

    @cached_property
    def _last(self) -> int:
        return max((step for _, step in self.points), default=0)


def as_text(value: Any) -> str:
    """A params value as MLflow shows it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(as_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)
