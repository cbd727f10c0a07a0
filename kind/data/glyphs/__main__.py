"""Make the tables of glyph classes anew, and compare them with those that are shipped; --write replaces them.

    python -m kind.data.glyphs

Takes about twenty seconds.  Classes are what the shipped table says, whatever the versions of Pillow and FreeType; the
tables were made with those in requirements.lock.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from kind.artifacts import write_bytes
from kind.data.drawing import FACES, face_path, missing_faces
from kind.data.glyphs import merging
from kind.data.glyphs.characters import PARTS, name_of, part_of
from kind.data.glyphs.table import COLUMNS, MERGES, TABLE
from kind.errors import UserError


def common_code_points() -> list[int]:
    """Those that all faces hold, ascending."""
    from matplotlib.ft2font import FT2Font

    return sorted(set.intersection(*(set(FT2Font(str(face_path(face))).get_charmap()) for face in FACES)))


def build() -> tuple[str, str]:
    """The texts of both tables."""
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for point in common_code_points():
        if (part := part_of(point)) is not None:
            parts[part].append(point)
    drawn = {part: merging.pictures(points) for part, points in parts.items()}
    found = {"letters": merging.letters(parts["letters"], drawn["letters"])}
    for part in PARTS[1:]:
        found[part] = _apart_from_letters(parts[part], drawn[part], drawn["letters"])
    rows = [
        (f"U+{point:04X}", part, chr(classes.of[point]), name_of(point))
        for part, classes in found.items()
        for point in sorted(classes.of, key=lambda point: (classes.of[point], point))
    ]
    merges = [
        (str(number), chr(merge.kept), chr(merge.joined), merge.rule, str(merge.marks), f"{merge.difference:.6f}")
        for number, merge in enumerate(found["letters"].log, 1)
    ]
    return _text(COLUMNS, rows), _text(("step", "kept", "joined", "rule", "marks", "difference"), merges)


def _apart_from_letters(points: list[int], drawn: np.ndarray, letters: np.ndarray) -> merging.Classes:
    """The part's classes, without those of which a character looks like a letter."""
    classes = merging.Classes.apart(points)
    merging.unite(classes, points, merging.least_differences(drawn, drawn))
    nearest = merging.least_differences(drawn, letters).min(axis=1)
    alike = {
        classes.of[point] for point, difference in zip(points, nearest, strict=True) if difference < merging.NEARLY
    }
    classes.of = {point: name for point, name in classes.of.items() if name not in alike}
    return classes


def _text(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "".join("\t".join(row) + "\n" for row in (heading, *rows))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kind.data.glyphs", description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the shipped tables")
    write = parser.parse_args().write
    if missing := missing_faces(FACES):
        raise UserError("\n".join(("the glyphs' faces are missing on this machine:", *missing)))
    code = 0
    for path, text in zip((TABLE, MERGES), build(), strict=True):
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        if write and not same:
            write_bytes(path, text.encode())
        told = "as shipped" if same else "written" if write else "differs from the one shipped"
        code = code or int(told.startswith("differs"))
        print(f"{path}: {told}, {len(text.splitlines()) - 1} rows")
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
