"""Checked feature matrices and distances between all pairs of rows, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from kind.errors import UserError

BLOCK_ELEMENTS = 2**23  # numbers in one float64 block: 64 MiB


def feature_matrix(features: np.ndarray, minimum: int = 1) -> np.ndarray:
    """The given array, once it is known to be a finite [N, D] matrix with N >= `minimum`; raises UserError.

    A memory map is read block by block and not copied.
    """
    features = np.asarray(features)
    if features.ndim != 2:
        raise UserError(f"features must have the shape [N, D]; got {features.shape}")
    if len(features) < minimum:
        raise UserError(f"{len(features)} images are too few for this statistic: it needs at least {minimum}")
    parts = _slices(len(features), BLOCK_ELEMENTS // max(1, features.shape[1]))
    bad = np.concatenate([part.start + np.flatnonzero(~np.isfinite(features[part]).all(axis=1)) for part in parts])
    if len(bad):
        raise UserError(
            f"{len(bad)} of {len(features)} feature rows are not finite (first: row {bad[0]})",
            hint="look at those images and at the extractor; a metric of such features would mean nothing",
        )
    return features


def same_dimension(first: np.ndarray, second: np.ndarray) -> None:
    """Raises UserError unless both matrices have the same number of columns."""
    if first.shape[1] != second.shape[1]:
        raise UserError(
            f"the two sets have features of {first.shape[1]} and {second.shape[1]} dimensions",
            hint="use one extractor and one layer for both",
        )


def row_blocks(matrix: np.ndarray, other_count: int = 0) -> Iterator[tuple[slice, np.ndarray]]:
    """Row ranges of an [N, D] matrix as float64, in blocks of at most BLOCK_ELEMENTS numbers.

    With `other_count`, [rows, other_count] (the distances to that many others) stays within a block as well.
    """
    for block in _slices(len(matrix), BLOCK_ELEMENTS // max(1, matrix.shape[1], other_count)):
        yield block, matrix[block].astype(np.float64)


def block_pairs(matrix: np.ndarray) -> Iterator[tuple[slice, np.ndarray, slice, np.ndarray]]:
    """Each pair of row blocks of one [N, D] matrix once, as float64; a block is also paired with itself.

    The two blocks of a pair and what is computed between them hold at most BLOCK_ELEMENTS numbers each.
    """
    slices = list(_slices(len(matrix), min(BLOCK_ELEMENTS // max(1, matrix.shape[1]), math.isqrt(BLOCK_ELEMENTS))))
    for index, rows in enumerate(slices):
        first = matrix[rows].astype(np.float64)
        yield rows, first, rows, first
        for columns in slices[index + 1 :]:
            yield rows, first, columns, matrix[columns].astype(np.float64)


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """|x|^2 + |y|^2 - 2 x.y, not below 0.  [M, D], [N, D] float64 -> [M, N].  Exact for whole-numbered pixels."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    products = first @ second.T
    products *= 2.0
    squares -= products
    return np.maximum(squares, 0.0, out=squares)


def _slices(count: int, length: int) -> Iterator[slice]:
    length = max(1, length)
    for start in range(0, count, length):
        yield slice(start, min(start + length, count))
