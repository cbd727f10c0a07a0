"""Pictures of code points: one drawing for a code point and a face, and the variations that are made of it."""

from __future__ import annotations

import math
import random
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from kind.data.drawing import face_path, move, to_pixels

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

SIDE = 96  # of a drawing, whatever the size of the pictures, so that all sizes show the same
FILL = 0.8  # longer side of the ink, as a share of the drawing's
POINTS = 160  # size of the font, which is then scaled to FILL
OVERSAMPLING = 4  # pixels moved per side of a final pixel
RADIUS = 2  # of the blur whose levels are the outlines of thinner and thicker strokes
LIGHT, DARK = 255, 150  # levels of the two parts of a texture


class Variation(Protocol):
    """Limits of what is drawn at random: the options of the source."""

    size: int
    max_rotation: float
    max_shear: float
    min_scale: float
    max_scale: float
    max_shift: float
    max_stroke: float


@lru_cache(maxsize=16)
def font_of(face: str) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(face_path(face), POINTS, layout_engine=ImageFont.Layout.BASIC)


def draw(code_point: int, face: str) -> Image:
    """White ink on black, the longer side of its box FILL of the picture, centred.  L, SIDE x SIDE.

    Filling the picture makes c and C, or a letter and its superscript, one picture where only the size differs.
    """
    from PIL import Image

    mask = font_of(face).getmask(chr(code_point))
    box = mask.getbbox()
    drawing = Image.new("L", (SIDE, SIDE))
    if box is None:  # a space
        return drawing
    ink = Image.frombytes("L", mask.size, bytes(mask)).crop(box)
    shrink = FILL * SIDE / max(ink.size)
    width, height = (max(1, round(length * shrink)) for length in ink.size)
    ink = ink.resize((width, height), Image.Resampling.BILINEAR)
    drawing.paste(ink, ((SIDE - width) // 2, (SIDE - height) // 2))
    return drawing


def blurred(drawing: Image) -> Image:
    """The drawing as `vary` wants it: averages over squares of 2 RADIUS + 1, whose levels are distances to an edge."""
    from PIL import ImageFilter

    return drawing.filter(ImageFilter.BoxBlur(RADIUS))


def vary(drawing: Image, draws: random.Random, limits: Variation) -> np.ndarray:
    """One picture of a blurred drawing: strokes, turn, slant, scale and place at random.  uint8 [size, size]"""
    angle = math.radians(draws.uniform(-limits.max_rotation, limits.max_rotation))
    shear = draws.uniform(-limits.max_shear, limits.max_shear)
    scale = draws.uniform(limits.min_scale, limits.max_scale)
    side = limits.size * OVERSAMPLING
    shift_x, shift_y = (side * draws.uniform(-limits.max_shift, limits.max_shift) for _ in "xy")
    stroke = draws.uniform(-limits.max_stroke, limits.max_stroke)
    inked = drawing.point(_levels(stroke))
    moved = move(inked, side, angle=angle, shear=shear, scale=scale, shift_x=shift_x, shift_y=shift_y)
    return to_pixels(moved, OVERSAMPLING)


def _levels(stroke: float) -> list[int]:
    """New levels of a blurred drawing that move every edge outwards by `stroke` of the side, one pixel soft.

    Across a straight edge the blur's level falls by 1 / (2 RADIUS + 1) a pixel, so that an edge moved by d pixels is
    where the level is 1/2 - d / (2 RADIUS + 1).
    """
    width = 2 * RADIUS + 1
    edge = 0.5 - stroke * SIDE / width
    return [min(255, max(0, round(255 * ((level / 255 - edge) * width + 0.5)))) for level in range(256)]


def texture(picture: np.ndarray, draws: random.Random) -> np.ndarray:
    """Black ink on a ground of stripes or squares of two greys, each a sixth of the side wide.  uint8 [size, size]

    Whole numbers alone, so that every machine draws the same.
    """
    import numpy as np

    size = len(picture)
    step = max(2, size // 6)
    y, x = np.indices(picture.shape)
    phase_x, phase_y = draws.randrange(2 * step), draws.randrange(2 * step)
    columns, rows = (x + phase_x) // step, (y + phase_y) // step
    patterns = (columns, rows, (x + y + phase_x) // step, (x - y + 2 * size * step + phase_x) // step, columns + rows)
    odd = patterns[draws.randrange(len(patterns))] % 2
    ground = np.where(odd == 1, LIGHT, DARK)
    return (ground * (255 - picture.astype(np.int64)) // 255).astype(np.uint8)
