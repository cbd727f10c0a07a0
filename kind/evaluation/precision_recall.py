"""Improved precision and recall: how many samples look real, and how much of the real set the samples cover."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kind.evaluation.pairwise import block_pairs, feature_matrix, row_blocks, same_dimension, squared_distances

NEIGHBOURS = 3
ROUNDING = 4 * np.finfo(np.float64).eps  # of |x|^2 + |y|^2 - 2 x.y for equal x and y, times D |x|^2: a bound


class PrecisionRecall(NamedTuple):
    """Two shares in [0, 1]."""

    precision: float
    recall: float


def precision_recall(samples: np.ndarray, reference: np.ndarray, neighbours: int = NEIGHBOURS) -> PrecisionRecall:
    """precision = share of samples in the reference manifold, recall = share of references in the sample manifold.

    A set's manifold is the union of balls about its points; a ball reaches its point's k-th nearest neighbour in
    the set, itself not counted, and holds its border.  [M, D], [N, D], both more than k rows, all pairs, each
    distance computed once, in float64 blocks: float32 memory maps are not copied.  Balls are wider by the rounding
    of a squared distance, so that duplicates are exact: a copy lies in a ball even where k others make its radius 0.
    Raises UserError for too few, unequal or non-finite features.
    Source: Kynkäänniemi et al. 2019, eq. 1 and 2; which set is which as in ADM's evaluator.
    """
    samples = feature_matrix(samples, minimum=neighbours + 1)
    reference = feature_matrix(reference, minimum=neighbours + 1)
    same_dimension(samples, reference)
    of_samples, of_reference = (_squared_radii(points, neighbours) for points in (samples, reference))
    real, covered = np.zeros(len(samples), bool), np.zeros(len(reference), bool)
    for rows, block in row_blocks(samples):
        for columns, others in row_blocks(reference, len(block)):
            distances = squared_distances(block, others)
            real[rows] |= (distances <= of_reference[columns]).any(axis=1)
            covered[columns] |= (distances <= of_samples[rows, None]).any(axis=0)
    return PrecisionRecall(precision=float(real.mean()), recall=float(covered.mean()))


def _squared_radii(points: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance of each point to its k-th other point, widened by what rounding may do.  [N, D] -> [N]."""
    nearest, rounding = np.full((len(points), neighbours), np.inf), np.empty(len(points))
    for rows, first, columns, second in block_pairs(points):
        distances = squared_distances(first, second)
        if rows == columns:
            np.fill_diagonal(distances, np.inf)  # a point is no neighbour of its own
            rounding[rows] = ROUNDING * points.shape[1] * (first**2).sum(axis=1)
        else:
            nearest[columns] = _smallest(nearest[columns], distances.T)
        nearest[rows] = _smallest(nearest[rows], distances)
    return nearest.max(axis=1) + rounding


def _smallest(known: np.ndarray, more: np.ndarray) -> np.ndarray:
    """The k smallest numbers of each row of both, in any order.  [N, k], [N, C] -> [N, k]."""
    neighbours = known.shape[1]
    kept = min(neighbours, more.shape[1])
    candidates = np.concatenate([known, np.partition(more, kept - 1, axis=1)[:, :kept]], axis=1)
    return np.partition(candidates, neighbours - 1, axis=1)[:, :neighbours]
