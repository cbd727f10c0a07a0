"""How characters become classes: what looks alike is united, then marked letters join their base until 611 are left.

The outcome is in `glyphs.tsv` and the order in `merges.tsv`, both written by `python -m kind.data.glyphs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from kind.data.drawing import FACES
from kind.data.glyphs.characters import base_of, capital_of, num_marks
from kind.data.glyphs.draw import draw

NUM_CLASSES = 611  # as many as the paper's merge of ImageNet has
NEARLY = 0.01  # difference below which two characters are one picture: see `differences`
TWINS = 0.1  # mean difference below which a letter is its capital, drawn with other strokes
GRID = 16  # drawings are compared as GRID x GRID pixels
BLUR = 4  # after a blur over squares of 2 BLUR + 1 of their SIDE pixels, so that edges may be a little apart


@dataclass(frozen=True)
class Merge:
    """`joined` and all that is with it became part of the class `kept`.

    rule: `identical`, `capital` or `base`; marks: of the letter that joined its base; difference: what decided.
    """

    kept: int
    joined: int
    rule: str
    marks: int
    difference: float


@dataclass
class Classes:
    """Sets of code points that were joined, each named by its smallest."""

    of: dict[int, int]
    log: list[Merge] = field(default_factory=list)

    @classmethod
    def apart(cls, code_points: Iterable[int]) -> Classes:
        return cls({code_point: code_point for code_point in code_points})

    def join(self, one: int, other: int, rule: str, difference: float, marks: int = 0) -> None:
        kept, joined = sorted((self.of[one], self.of[other]))
        if kept != joined:
            self.of = {point: kept if name == joined else name for point, name in self.of.items()}
            self.log.append(Merge(kept, joined, rule, marks, difference))

    def __len__(self) -> int:
        return len(set(self.of.values()))


def pictures(code_points: Sequence[int]) -> np.ndarray:
    """What is compared.  Whole numbers 0..255 as float64 [F, N, GRID * GRID], a face after another."""
    from PIL import ImageFilter

    def picture(code_point: int, face: str) -> np.ndarray:
        drawing = draw(code_point, face)
        return np.asarray(drawing.filter(ImageFilter.BoxBlur(BLUR)).reduce(drawing.width // GRID)).ravel()

    return np.array([[picture(point, face) for point in code_points] for face in FACES], dtype=np.float64)


def differences(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """|a - b|^2 / (|a|^2 + |b|^2): 0 for equal pictures, 1 for ink that nowhere overlaps.  [N, D], [M, D] -> [N, M]

    Products of whole numbers, whose sums float64 holds exactly, so that every machine finds the same.
    """
    norms = (ones**2).sum(1)[:, None] + (others**2).sum(1)[None, :]
    return 1 - 2 * (ones @ others.T) / norms


def least_differences(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Over all pairs of faces.  [F, N, D], [F, M, D] -> [N, M]"""
    least = np.ones((ones.shape[1], others.shape[1]))
    for drawn in ones:
        for compared in others:
            np.minimum(least, differences(drawn, compared), out=least)
    return least


def unite(classes: Classes, code_points: Sequence[int], least: np.ndarray) -> None:
    """Joins all whose pictures are nearly identical in any two faces, the most alike first."""
    for difference, one, other in sorted(_pairs(code_points, least)):
        classes.join(one, other, "identical", difference)


def _pairs(code_points: Sequence[int], least: np.ndarray) -> Iterator[tuple[float, int, int]]:
    for row, column in zip(*np.nonzero(np.triu(least < NEARLY, 1)), strict=True):
        yield float(least[row, column]), code_points[row], code_points[column]


def unite_twins(classes: Classes, code_points: Sequence[int], drawn: np.ndarray) -> None:
    """Joins small letters and their capitals of the same shape (c and C, but not a and A), the most alike first.

    All glyphs fill the picture, so that only the weight of strokes tells such two apart, which varies anyway.
    """
    for difference, point, capital in sorted(_relations(code_points, drawn, capital_of)):
        if difference < TWINS:
            classes.join(point, capital, "capital", difference)


def merge(classes: Classes, code_points: Sequence[int], drawn: np.ndarray) -> None:
    """Letters join themselves without their last mark until NUM_CLASSES are left: of most marks first, of these the
    most alike.  In the spirit of the merge of ImageNet by WordNet: the deepest, most specific groups first.
    """
    steps = ((-num_marks(step[1]), *step) for step in _relations(code_points, drawn, base_of))
    for marks, difference, point, base in sorted(steps):
        if len(classes) == NUM_CLASSES:
            break
        classes.join(point, base, "base", difference, -marks)
    assert len(classes) == NUM_CLASSES, f"{len(classes)} classes are left, and no more letters to merge"


def _relations(
    code_points: Sequence[int], drawn: np.ndarray, relative_of: Callable[[int], int | None]
) -> Iterator[tuple[float, int, int]]:
    """(mean difference over the faces, letter, its relative) of all letters that have a relative with a picture."""
    place = {point: index for index, point in enumerate(code_points)}
    for point in code_points:
        relative = relative_of(point)
        while relative is not None and relative not in place:  # it has no picture itself
            relative = relative_of(relative)
        if relative is not None:
            both = [face[[place[point], place[relative]]] for face in drawn]
            yield float(np.mean([differences(pair[:1], pair[1:]) for pair in both])), point, relative


def letters(code_points: Sequence[int], drawn: np.ndarray) -> Classes:
    """drawn: see `pictures`."""
    classes = Classes.apart(code_points)
    unite(classes, code_points, least_differences(drawn, drawn))
    unite_twins(classes, code_points, drawn)
    merge(classes, code_points, drawn)
    return classes
