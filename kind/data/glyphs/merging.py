"""How characters become classes: what looks alike is united, then forms join their base letters until 611 are left.

The outcome is in `glyphs.tsv` and the order in `merges.tsv`, both written by `python -m kind.data.glyphs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from kind.data.drawing import FACES
from kind.data.glyphs.characters import form_of, num_marks
from kind.data.glyphs.draw import draw

NUM_CLASSES = 611  # as many as the paper's merge of ImageNet has
NEARLY = 0.01  # difference below which two characters are one: see `differences`
GRID = 16  # drawings are compared as GRID x GRID pixels
BLUR = 4  # after a blur over squares of 2 BLUR + 1 of their SIDE pixels, so that edges may be a little apart


@dataclass(frozen=True)
class Merge:
    """`joined` and all that is with it became part of the class `kept`.  marks: 0 where they were united by looks."""

    kept: int
    joined: int
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

    def join(self, one: int, other: int, marks: int, difference: float) -> None:
        kept, joined = sorted((self.of[one], self.of[other]))
        if kept != joined:
            self.of = {point: kept if name == joined else name for point, name in self.of.items()}
            self.log.append(Merge(kept, joined, marks, difference))

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
        classes.join(one, other, 0, difference)


def _pairs(code_points: Sequence[int], least: np.ndarray) -> Iterator[tuple[float, int, int]]:
    for row, column in zip(*np.nonzero(np.triu(least < NEARLY, 1)), strict=True):
        yield float(least[row, column]), code_points[row], code_points[column]


def merge(classes: Classes, code_points: Sequence[int], drawn: np.ndarray) -> None:
    """Forms join what they are forms of until NUM_CLASSES are left: of most marks first, of these the most alike.

    In the spirit of the merge of ImageNet by WordNet: the deepest, most specific groups first.  How alike is the mean
    over the faces.  drawn: see `pictures`.
    """
    place = {point: index for index, point in enumerate(code_points)}
    forms = []
    for point in code_points:
        base = form_of(point)
        while base is not None and base not in place:  # a form whose own base has no picture
            base = form_of(base)
        if base is not None:
            apart = [differences(face[[place[point]]], face[[place[base]]])[0, 0] for face in drawn]
            forms.append((-max(1, num_marks(point)), float(np.mean(apart)), point, base))
    for marks, difference, point, base in sorted(forms):
        if len(classes) == NUM_CLASSES:
            return
        classes.join(point, base, -marks, difference)
    raise AssertionError(f"{len(classes)} classes are left, and no more forms to merge")


def letters(code_points: Sequence[int], drawn: np.ndarray) -> Classes:
    classes = Classes.apart(code_points)
    unite(classes, code_points, least_differences(drawn, drawn))
    merge(classes, code_points, drawn)
    return classes
