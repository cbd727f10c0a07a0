"""Letters drawn from the fonts that matplotlib carries, each with its own small turn, slant, scale and shift."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from kind.data.class_sets import resolved
from kind.data.drawing import FACES, face_path, missing_faces, move, to_pixels, what_draws
from kind.data.sources import RawData, Source, SourceOptions
from kind.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

OVERSAMPLING = 8  # pixels drawn per side of a final pixel
LEGIBLE_CLASSES = ["A", "C", "E", "H", "K", "T"]  # at 8x8
LEGIBLE_FACES = [face for face in FACES if face not in ("DejaVuSerif", "DejaVuSerif-Italic")]
FILL = 0.86  # height of an upright capital at scale 1, as a share of the picture's side
MAX_WIDTH = 0.95  # width of a drawing at scale 1, at most


def _no_repeats(names: list[str]) -> list[str]:
    twice = list(dict.fromkeys(name for name in names if names.count(name) > 1))
    if twice:
        raise ValueError(f"{', '.join(map(repr, twice))} named twice")
    return names


class Options(SourceOptions):
    """max_rotation is in degrees; max_shear is horizontal, per unit of height; max_shift is a share of the side."""

    classes: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        BeforeValidator(resolved),
        Field(min_length=1),
        AfterValidator(_no_repeats),
    ] = LEGIBLE_CLASSES
    images_per_class: Annotated[int, Field(ge=1)] = 300
    size: Annotated[int, Field(ge=4, le=256)] = 8
    faces: Annotated[list[Literal[FACES]], Field(min_length=1), AfterValidator(_no_repeats)] = LEGIBLE_FACES
    max_rotation: Annotated[float, Field(ge=0, le=180)] = 10.0
    max_shear: Annotated[float, Field(ge=0, le=1)] = 0.15
    min_scale: Annotated[float, Field(gt=0, le=2)] = 0.85
    max_scale: Annotated[float, Field(gt=0, le=2)] = 1.1
    max_shift: Annotated[float, Field(ge=0, le=0.5)] = 0.06
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _ordered_scales(self) -> Self:
        if self.min_scale > self.max_scale:
            raise ValueError(f"min_scale {self.min_scale:g} exceeds max_scale {self.max_scale:g}")
        return self


def load(options: Options) -> RawData:
    """White on black, class after class, the faces in turn.  images [len(classes) * images_per_class, size, size, 1].

    An image depends on the seed, its class and its number in the class only, so adding a class or asking for more
    images leaves the others as they are.  One version of Pillow and FreeType gives the same bytes everywhere.
    """
    import numpy as np

    images = []
    for name in options.classes:
        drawings = [_draw(name, face, options.size * OVERSAMPLING) for face in options.faces]
        draws = random.Random(f"letters/{options.seed}/{name}")  # noqa: S311  Python keeps its sequence over versions
        images += [_distort(drawings[i % len(drawings)], draws, options) for i in range(options.images_per_class)]
    labels = np.repeat(np.arange(len(options.classes), dtype=np.int64), options.images_per_class)
    return RawData(np.stack(images)[..., None], labels, tuple(options.classes), what_draws(options.faces))


def missing(options: Options) -> list[str]:
    return missing_faces(options.faces)


def _draw(text: str, face: str, side: int) -> Image:
    """The text, undistorted and centred: capitals FILL of the side high, anything that would not fit made smaller."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(face_path(face), side, layout_engine=ImageFont.Layout.BASIC)
    absent = [letter for letter in text if letter != " " and not _holds(font, letter)]
    if absent or text.isspace():
        raise UserError(
            f"letters: the face {face} cannot draw {', '.join(map(repr, absent or text))} of class {text!r}",
            hint="take the class out of `classes` or the face out of `faces`",
        )
    left, top, right, bottom = font.getmask(text).getbbox()  # of the ink; font.getbbox counts the space beside it
    _, capital_top, _, capital_bottom = font.getmask("H").getbbox()
    height = max(capital_bottom - capital_top, bottom - top)
    font = font.font_variant(size=side * side * min(FILL / height, MAX_WIDTH / (right - left)))
    roomy = Image.new("L", (3 * side, 3 * side))
    ImageDraw.Draw(roomy).text((side, side), text, fill=255, font=font)
    left, top, right, bottom = roomy.getbbox()
    corner_x, corner_y = (left + right - side) // 2, (top + bottom - side) // 2
    return roomy.crop((corner_x, corner_y, corner_x + side, corner_y + side))


def _holds(font: FreeTypeFont, letter: str) -> bool:
    """False if the font draws nothing for the letter, or the box that it draws for every letter it does not hold."""
    mask, placeholder = font.getmask(letter), font.getmask("\U0010ffff")
    return mask.getbbox() is not None and (mask.size, bytes(mask)) != (placeholder.size, bytes(placeholder))


def _distort(drawing: Image, draws: random.Random, options: Options) -> np.ndarray:
    """One random affine map about the centre.  [size, size]"""
    angle = math.radians(draws.uniform(-options.max_rotation, options.max_rotation))
    shear = draws.uniform(-options.max_shear, options.max_shear)
    scale = draws.uniform(options.min_scale, options.max_scale)
    side = drawing.width
    shift_x, shift_y = (side * draws.uniform(-options.max_shift, options.max_shift) for _ in "xy")
    moved = move(drawing, side, angle=angle, shear=shear, scale=scale, shift_x=shift_x, shift_y=shift_y)
    return to_pixels(moved, OVERSAMPLING)


SOURCE = Source(
    name="letters",
    options=Options,
    load=load,
    class_names=lambda options: tuple(options.classes),
    class_counts=lambda options: dict.fromkeys(options.classes, options.images_per_class),
    channels=lambda options: 1,
    missing=missing,
)
