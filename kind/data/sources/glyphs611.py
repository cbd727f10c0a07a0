"""611 classes of letters drawn from the fonts that matplotlib carries, and other domains drawn by the same hand.

How characters become classes is said in docs/glyphs.md; the table is kind/data/glyphs/glyphs.tsv.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from kind.data.class_sets import seen_and_novel
from kind.data.drawing import FACES, missing_faces, what_draws
from kind.data.glyphs.table import TABLE, classes_of
from kind.data.labelled_files import ClassNames
from kind.data.sources import RawData, Source, SourceOptions

if TYPE_CHECKING:
    import numpy as np

NUM_SEEN = 150  # for pre-training, as in the paper; 461 are novel


class Options(SourceOptions):
    """part: `letters` are the 611 classes; the others are shifts: `symbols` (arrows, boxes, shapes), the scripts
    `georgian` and `armenian`, `textured`: the novel letters in black on a ground of stripes or squares.

    max_rotation is in degrees; max_shear is horizontal, per unit of height; max_shift and max_stroke (how far edges of
    strokes move out or in) are shares of the side.  split_seed: which letters are seen and which novel.  classes: of
    the part, those to draw, in this order; None: all.
    """

    part: Literal["letters", "symbols", "georgian", "armenian", "textured"] = "letters"
    images_per_class: Annotated[int, Field(ge=1)] = 100
    size: Literal[12, 16, 32] = 12
    max_rotation: Annotated[float, Field(ge=0, le=180)] = 8.0
    max_shear: Annotated[float, Field(ge=0, le=1)] = 0.12
    min_scale: Annotated[float, Field(gt=0, le=1.25)] = 0.85
    max_scale: Annotated[float, Field(gt=0, le=1.25)] = 1.05
    max_shift: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    max_stroke: Annotated[float, Field(ge=0, le=0.02)] = 0.012
    seed: Annotated[int, Field(ge=0)] = 0
    split_seed: Annotated[int, Field(ge=0)] = 0
    classes: ClassNames | None = None

    @model_validator(mode="after")
    def _ordered_scales(self) -> Self:
        if self.min_scale > self.max_scale:
            raise ValueError(f"min_scale {self.min_scale:g} exceeds max_scale {self.max_scale:g}")
        return self

    @model_validator(mode="after")
    def _classes_of_the_part(self) -> Self:
        names = all_classes(self)
        for name in self.classes or ():
            if name not in names:
                raise ValueError(f"classes: the part {self.part} has no {name!r}")
            if self.classes.count(name) > 1:
                raise ValueError(f"classes: {name!r} is named twice")
        return self


def load(options: Options) -> RawData:
    """White on black (`textured`: black on grey), class after class.  [classes * images_per_class, size, size, 1].

    The characters of a class and the faces take turns in a seeded order.  An image depends on the seed, the part, its
    class and its number in the class only.  One version of Pillow and FreeType gives the same bytes everywhere.
    """
    import numpy as np

    names = class_names(options)
    images = np.stack([picture for name in names for picture in pictures(name, options)])
    labels = np.repeat(np.arange(len(names), dtype=np.int64), options.images_per_class)
    return RawData(images[..., None], labels, names, what_draws(FACES) | {"table": _table_sum()})


def class_names(options: Options) -> tuple[str, ...]:
    return all_classes(options) if options.classes is None else tuple(options.classes)


def all_classes(options: Options) -> tuple[str, ...]:
    """Of the part, whatever `classes` takes of it."""
    return _sets_of_part(options)["all"]


def class_sets(options: Options) -> dict[str, tuple[str, ...]]:
    """`seen` and `novel` letters, stratified by the number of characters in a class; of the other parts `all` alone; of
    each what `classes` takes."""
    taken = set(class_names(options))
    kept = {name: tuple(one for one in names if one in taken) for name, names in _sets_of_part(options).items()}
    return {name: names for name, names in kept.items() if names}


def _sets_of_part(options: Options) -> dict[str, tuple[str, ...]]:
    if options.part not in ("letters", "textured"):
        return {"all": tuple(classes_of(options.part))}
    group_sizes = {name: len(points) for name, points in classes_of("letters").items()}
    sets = seen_and_novel(group_sizes, NUM_SEEN, options.split_seed)
    return sets if options.part == "letters" else {"all": sets["novel"]}


def pictures(name: str, options: Options) -> list[np.ndarray]:
    """All of one class.  uint8 [size, size] each"""
    from kind.data.glyphs.draw import blurred, draw, texture, vary

    textured = options.part == "textured"
    points = classes_of("letters" if textured else options.part)[name]
    draws = random.Random(f"glyphs611/{options.part}/{options.seed}/{name}")  # noqa: S311  Python keeps its sequence
    turns = [(point, face) for point in points for face in FACES]
    turns = [turns[place] for place in sorted(range(len(turns)), key=[draws.random() for _ in turns].__getitem__)]
    drawings = [blurred(draw(point, face)) for point, face in turns[: options.images_per_class]]
    found = []
    for number in range(options.images_per_class):
        picture = vary(drawings[number % len(drawings)], draws, options)
        found.append(texture(picture, draws) if textured else picture)
    return found


def _table_sum() -> str:
    from kind.artifacts import sha256

    return sha256(TABLE)


SOURCE = Source(
    name="glyphs611",
    options=Options,
    load=load,
    class_names=class_names,
    class_counts=lambda options: dict.fromkeys(class_names(options), options.images_per_class),
    class_sets=class_sets,
    drawn_from=lambda options: "letters" if options.part == "textured" else options.part,
    channels=lambda options: 1,
    missing=lambda options: missing_faces(FACES),
)
