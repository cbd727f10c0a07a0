"""Which images go where: the train, validation and test split of a source, and the few images a task may use.

The order that decides is drawn by `random.Random` from a text seed, which Python promises to keep from version to
version (numpy does not).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from kind.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def split_sizes(num_images: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Sizes that sum to num_images: floor(fraction * n), the rest by largest remainder, ties to the split named first.

    Raises UserError unless the fractions are positive and sum to 1.
    """
    if not all(math.isfinite(fraction) and fraction > 0 for fraction in fractions.values()):
        raise UserError(f"split: {_show(fractions)}: every fraction must be greater than 0")
    if not math.isclose(sum(fractions.values()), 1, abs_tol=1e-9):
        raise UserError(f"split: {_show(fractions)} sum to {sum(fractions.values()):g}; they must sum to 1")
    exact = {name: Fraction(repr(float(fraction))) for name, fraction in fractions.items()}  # 0.35 is 7/20, as written
    shares = {name: num_images * fraction / sum(exact.values()) for name, fraction in exact.items()}
    sizes = {name: math.floor(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: sizes[name] - shares[name])
    for name in by_remainder[: num_images - sum(sizes.values())]:
        sizes[name] += 1
    return sizes


def stratified_split(
    labels: np.ndarray, fractions: Mapping[str, float], seed: int, class_names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Ascending indices of the images of each split; of every class, each split takes exactly its `split_sizes`.

    labels: int [N].  class_names[label] names a class in errors, and says which classes there must be (by default those
    in labels).  Raises UserError if a class would have no image in some split.
    """
    import numpy as np

    present = range(len(class_names)) if class_names is not None else np.unique(labels).tolist()
    parts: dict[str, list[np.ndarray]] = {name: [] for name in fractions}
    for label in present:
        members = np.flatnonzero(labels == label)
        sizes = split_sizes(len(members), fractions)
        empty = [name for name, size in sizes.items() if size == 0]
        if empty:
            shown = label if class_names is None else repr(class_names[label])
            raise UserError(
                f"split: class {shown} has too few images: {len(members)} of them leave none for {', '.join(empty)} "
                f"({_show(fractions)})",
                hint="add images (exact copies count once), raise the fraction, or leave the class out",
            )
        order = members[random_order(len(members), f"split/{seed}/{label}")]
        ends = np.cumsum(list(sizes.values()))[:-1]
        for name, part in zip(sizes, np.split(order, ends), strict=True):
            parts[name].append(part)
    return {name: np.sort(np.concatenate(part)) for name, part in parts.items()}


def select_shots(labels: np.ndarray, classes: Sequence[str], images_per_class: int | None, seed: int) -> np.ndarray:
    """Ascending indices of `images_per_class` images of each class; all of them for None.

    labels: int [N], positions in `classes`.  With one seed, k images of a class are among its k + 1 images, whatever
    the other classes are and in whatever order.  Raises UserError if a class has fewer images than asked.
    """
    import numpy as np

    chosen = []
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        asked = len(members) if images_per_class is None else images_per_class
        if asked > len(members):
            raise UserError(
                f"images_per_class: {asked} images of class {name!r} asked, {len(members)} available",
                hint="lower images_per_class, or give the training split a larger fraction",
            )
        chosen.append(members[random_order(len(members), f"shots/{seed}/{name}")[:asked]])
    return np.sort(np.concatenate(chosen))


def cap_per_class(labels: np.ndarray, classes: Sequence[str], most: int, seed: int) -> np.ndarray:
    """Ascending indices of at most `most` images of each class, by a draw of their own.  labels: int [N]."""
    import numpy as np

    by_class = [(name, np.flatnonzero(labels == label)) for label, name in enumerate(classes)]
    chosen = [members[random_order(len(members), f"cap/{seed}/{name}")[:most]] for name, members in by_class]
    return np.sort(np.concatenate(chosen))


def random_order(count: int, seed: str) -> list[int]:
    """0 .. count - 1, shuffled."""
    draws = random.Random(seed)  # noqa: S311  no secret
    keys = [draws.random() for _ in range(count)]
    return sorted(range(count), key=keys.__getitem__)


def _show(fractions: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {fraction:g}" for name, fraction in fractions.items())
