"""Kernel distance: unbiased squared maximum mean discrepancy with a cubic kernel (KID on Inception features)."""

from __future__ import annotations

import numpy as np

from kind.evaluation.pairwise import feature_matrix, row_blocks, same_dimension


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j),  k(a, b) = (a.b / D + 1)^3.

    [M, D], [N, D] -> number without unit, in float64 over all pairs, M and N at least 2.  It is unbiased, so it may
    be negative, and its expectation does not depend on M or N: the distance to trust for small sets.
    Raises UserError for too few, unequal or non-finite features.  Source: Binkowski et al. 2018, eq. 3 and 4.
    """
    x, y = feature_matrix(x, minimum=2), feature_matrix(y, minimum=2)
    same_dimension(x, y)
    cross = sum(_kernel(a, b).sum() for _, a in row_blocks(x) for _, b in row_blocks(y, len(a)))
    return float(_mean_off_diagonal(x) + _mean_off_diagonal(y) - 2.0 * cross / (len(x) * len(y)))


def _mean_off_diagonal(x: np.ndarray) -> float:
    total = 0.0
    for rows, a in row_blocks(x):
        for columns, b in row_blocks(x, len(a)):
            kernel = _kernel(a, b)
            total += kernel.sum()
            if columns.start < rows.stop and rows.start < columns.stop:
                same = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
                total -= kernel[same - rows.start, same - columns.start].sum()
    return total / (len(x) * (len(x) - 1))


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1.0) ** 3


from typing import NamedTuple


class KernelDistance(NamedTuple):
    value: float
    low: float
    high: float


def kernel_distance_interval(x, y):
    v = kernel_distance(x, y)
    return KernelDistance(v, v, v)
