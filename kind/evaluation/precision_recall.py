"""Improved precision and recall: how many samples look real, and how much of the real set the samples cover."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kind.evaluation.pairwise import feature_matrix, row_blocks, same_dimension, squared_distances

NEIGHBOURS = 3


class PrecisionRecall(NamedTuple):
    """Two shares in [0, 1]."""

    precision: float
    recall: float


def precision_recall(samples: np.ndarray, reference: np.ndarray, neighbours: int = NEIGHBOURS) -> PrecisionRecall:
    """precision = share of samples in the reference manifold, recall = share of references in the sample manifold.

    A set's manifold is the union of balls about its points; a ball reaches its point's k-th nearest neighbour in
    the set, itself not counted, and holds its border.  [M, D], [N, D], both more than k rows, all pairs in float64.
    Raises UserError for too few, unequal or non-finite features.
    Source: Kynkäänniemi et al. 2019, eq. 1 and 2; which set is which as in ADM's evaluator.
    """
    samples = feature_matrix(samples, minimum=neighbours + 1)
    reference = feature_matrix(reference, minimum=neighbours + 1)
    same_dimension(samples, reference)
    return PrecisionRecall(
        precision=_share_inside(samples, reference, neighbours),
        recall=_share_inside(reference, samples, neighbours),
    )


def _share_inside(points: np.ndarray, manifold: np.ndarray, neighbours: int) -> float:
    inside = np.zeros(len(points), bool)
    for _, centres in row_blocks(manifold):
        radii = _squared_radii(centres, manifold, neighbours)
        for rows, block in row_blocks(points, len(centres)):
            inside[rows] |= (squared_distances(block, centres) <= radii).any(axis=1)
    return float(inside.mean())


def _squared_radii(centres: np.ndarray, manifold: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance of each centre, itself a point of the manifold, to its k-th other point.  [C, D] -> [C]."""
    nearest = np.full((len(centres), 0), np.inf)
    for _, block in row_blocks(manifold, len(centres)):
        candidates = np.concatenate([nearest, squared_distances(centres, block)], axis=1)
        # The centre itself is among them at distance 0 (or its rounding): hence one more than k are kept.
        kept = min(neighbours + 1, candidates.shape[1])
        nearest = np.partition(candidates, kept - 1, axis=1)[:, :kept]
    return nearest.max(axis=1)
