"""Whether two similarities of the same things follow each other: Spearman's correlation, and Mantel's test of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BATCH = 2**22  # numbers of permuted matrices at a time


def mantel_test(
    ours: Sequence[np.ndarray], theirs: np.ndarray, num_permutations: int, seed: int
) -> list[tuple[float | None, float | None]]:
    """(rho, p) of each of several symmetric matrices [C, C] against one.

    rho: Spearman's correlation over all pairs of different things, ties by mean ranks.  p = (1 + n) / (1 + N), with n
    of N seeded permutations of the things of `theirs` that give a rho no smaller (Mantel 1967, one-sided).
    None for both where a matrix has no two different values off its diagonal, as with fewer than three things.
    """
    ranked, wanted = [_ranks(matrix) for matrix in ours], _ranks(theirs)
    usable = [place for place, ranks in enumerate(ranked) if ranks is not None and wanted is not None]
    found: list[tuple[float | None, float | None]] = [(None, None)] * len(ours)
    if not usable:
        return found
    stacked = np.stack([ranked[place].ravel() for place in usable], axis=1)  # [C^2, n]
    rho = wanted.ravel() @ stacked
    count, reached = len(theirs), np.zeros(len(usable), dtype=np.int64)
    generator = np.random.Generator(np.random.PCG64(seed))
    size = max(1, BATCH // count**2)
    for start in range(0, num_permutations, size):
        orders = [generator.permutation(count) for _ in range(min(size, num_permutations - start))]
        permuted = np.stack([wanted[np.ix_(order, order)].ravel() for order in orders])
        reached += (permuted @ stacked >= rho - 1e-9).sum(axis=0)  # rounding must not hide a tie
    for place, one, times in zip(usable, rho, reached, strict=True):
        found[place] = (float(one), (1 + int(times)) / (1 + num_permutations))
    return found


def _ranks(matrix: np.ndarray) -> np.ndarray | None:
    """Ranks of the pairs' values, less their mean, over their length, in both triangles: the sum of the product of two
    such matrices is Spearman's correlation.  [C, C], zero on the diagonal."""
    upper = np.triu_indices(len(matrix), k=1)
    values, places, counts = np.unique(matrix[upper], return_inverse=True, return_counts=True)
    if len(values) < 2:
        return None
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    ranks = ranks - ranks.mean()
    whole = np.zeros(matrix.shape)
    whole[upper] = ranks / np.linalg.norm(ranks) / np.sqrt(2)
    return whole + whole.T
