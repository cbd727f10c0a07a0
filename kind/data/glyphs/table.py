"""The shipped tables: which characters are which class, so that classes have names without anything being drawn."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
TABLE = FOLDER / "glyphs.tsv"  # code point, part, class, name in Unicode
MERGES = FOLDER / "merges.tsv"  # the order in which letters were joined
COLUMNS = ("code_point", "part", "class", "unicode_name")


@cache
def classes_of(part: str) -> Mapping[str, tuple[int, ...]]:
    """Class -> its code points, both in the order of code points.  A class is named by its first character."""
    found: dict[str, list[int]] = {}
    for line in read_lines():
        code_point, its_part, name, _ = line.split("\t")
        if its_part == part:
            found.setdefault(name, []).append(int(code_point.removeprefix("U+"), 16))
    return {name: tuple(points) for name, points in found.items()}


def read_lines() -> list[str]:
    """Of the table, without its heading."""
    return TABLE.read_text(encoding="utf-8").splitlines()[1:]
