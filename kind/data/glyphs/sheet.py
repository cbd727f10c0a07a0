"""The contact sheet of the documentation: every class once, then how pictures of a class vary, then the shifts.

python -m kind.data.glyphs.sheet docs/glyphs.png
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image

from kind.data.sources.glyphs611 import SOURCE, pictures

COLUMNS, GAP, SIZE = 47, 2, 16
VARIED = "OaéßЖΨ"
PARTS = ("symbols", "georgian", "armenian", "textured")


def tiles() -> list[list[np.ndarray]]:
    """Rows of pictures, uint8 [SIZE, SIZE] each; an empty row parts the blocks."""
    options = SOURCE.options(size=SIZE, images_per_class=1)
    sets = SOURCE.class_sets(options)
    rows = []
    for name in ("seen", "novel"):
        once = [pictures(each, options)[0] for each in sets[name]]
        rows += [once[start : start + COLUMNS] for start in range(0, len(once), COLUMNS)] + [[]]
    many = SOURCE.options(size=SIZE, images_per_class=COLUMNS)
    rows += [pictures(name, many) for name in VARIED] + [[]]
    for part in PARTS:
        shift = SOURCE.options(part=part, size=SIZE, images_per_class=1)
        names = SOURCE.class_names(shift)
        rows.append([pictures(name, shift)[0] for name in names[:: -(-len(names) // COLUMNS)]])
    return rows


def sheet(rows: list[list[np.ndarray]]) -> Image.Image:
    step = SIZE + GAP
    canvas = np.full((GAP + step * len(rows), GAP + step * COLUMNS), 128, np.uint8)
    for row, pictured in enumerate(rows):
        for column, picture in enumerate(pictured):
            top, left = GAP + row * step, GAP + column * step
            canvas[top : top + SIZE, left : left + SIZE] = picture
    return Image.fromarray(canvas)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m kind.data.glyphs.sheet", description=__doc__)
    parser.add_argument("path", help="the PNG file to write")
    path = parser.parse_args().path
    sheet(tiles()).save(path, optimize=True)
