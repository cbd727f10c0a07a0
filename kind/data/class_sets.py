"""Sets of classes that a source names: the seeded split into seen and novel ones, and seeded choices among them.

Drawn as the splits of images are, so that they stay the same from version to version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from kind.data.splits import random_order


@dataclass(frozen=True)
class Unresolved:
    """In the place of a list of classes that a file names as a set: why there is none, a line each reason."""

    reasons: tuple[str, ...]


def resolved(value: Any) -> Any:
    """Of a field that takes a list of classes, before it is read."""
    if isinstance(value, Unresolved):
        raise PydanticCustomError("unresolved", "no list", {"reasons": value.reasons})
    return value


def seen_and_novel(group_sizes: Mapping[str, int], num_seen: int, seed: int) -> dict[str, tuple[str, ...]]:
    """`all`, `seen` (num_seen of them) and `novel`, each in the given order.

    group_sizes: class -> how many were merged into it.  Stratified: in the order of sizes (at random among equals)
    classes are taken at equal distances from a random start, so that of any run of sizes, and so of each size, the
    seen ones have their share, rounded up or down.
    """
    names, total = list(group_sizes), len(group_sizes)
    assert 0 < num_seen < total, f"{num_seen} seen classes of {total}"
    by_size = sorted(random_order(total, f"classes/{seed}"), key=lambda index: group_sizes[names[index]])
    start = random_order(total, f"classes/{seed}/start")[0]
    taken = {names[index] for place, index in enumerate(by_size) if (place * num_seen + start) % total < num_seen}
    return {
        "all": tuple(names),
        "seen": tuple(name for name in names if name in taken),
        "novel": tuple(name for name in names if name not in taken),
    }


def select(names: Sequence[str], count: int, skip: int, seed: int) -> list[str]:
    """`count` of the names, in their order: those at places skip .. skip + count - 1 of a seeded shuffle.

    With one seed a smaller choice is part of a larger one, and choices whose places do not overlap share none.
    """
    assert count > 0 and skip >= 0 and skip + count <= len(names)
    return [names[place] for place in sorted(random_order(len(names), f"select/{seed}")[skip : skip + count])]


def describe(classes: Sequence[str], sets: Mapping[str, Sequence[str]]) -> str | None:
    """`20 of the 461 classes of the set novel`: the smallest set that holds them all; None where none does."""
    holding = [(len(names), name) for name, names in sets.items() if set(classes) <= set(names)]
    if not holding or not classes:
        return None
    size, name = min(holding)
    return f"{'all' if size == len(classes) else f'{len(classes)} of the'} {size} classes of the set {name}"
