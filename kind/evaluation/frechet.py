"""Fréchet distance between Gaussians fitted to features (FID, and sFID on spatial features)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kind.errors import UserError
from kind.evaluation.pairwise import feature_matrix, row_blocks


class Statistics(NamedTuple):
    """Mean [D] and covariance [D, D] (divided by N - 1), both float64, of `count` feature vectors."""

    mu: np.ndarray
    sigma: np.ndarray
    count: int


class StreamingStatistics:
    """Mean and covariance of batches that are seen once, in float64.

    M <- M_a + M_b + (mu_b - mu_a)(mu_b - mu_a)^T n_a n_b / (n_a + n_b)

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
    1979.  The scatter M is about the mean, so a mean that is large against the spread costs no digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: np.ndarray | None = None
        self._scatter: np.ndarray | None = None

    def update(self, batch: np.ndarray) -> None:
        """Takes in features [B, D], B >= 1; raises UserError for numbers that are not finite or for another D."""
        batch = feature_matrix(batch).astype(np.float64)
        mean = batch.mean(axis=0)
        centred = batch - mean
        scatter = centred.T @ centred
        if self._mean is None:
            self.count, self._mean, self._scatter = len(batch), mean, scatter
            return
        if mean.shape != self._mean.shape:
            raise UserError(f"a batch of {len(mean)} dimensions after batches of {len(self._mean)}")
        total = self.count + len(batch)
        shift = mean - self._mean
        self._scatter += scatter + np.outer(shift, shift) * (self.count * len(batch) / total)
        self._mean = self._mean + shift * (len(batch) / total)
        self.count = total

    def result(self) -> Statistics:
        """The statistics so far; raises UserError for fewer than two vectors."""
        if self.count < 2:
            raise UserError(f"{self.count} images are too few for a covariance: it needs at least 2")
        sigma = self._scatter / (self.count - 1)
        return Statistics(self._mean.copy(), (sigma + sigma.T) / 2, self.count)


def gaussian_statistics(features: np.ndarray) -> Statistics:
    """np.mean and np.cov over rows in float64.  [N, D] -> mu [D], sigma [D, D].  As ADM and pytorch-fid do it."""
    streaming = StreamingStatistics()
    for _, block in row_blocks(feature_matrix(features, minimum=2)):
        streaming.update(block)
    return streaming.result()


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr (S_a^1/2 S_b S_a^1/2)^1/2, in squared feature units, >= 0.

    The last trace is computed as the sum of the singular values of F_a^T F_b with S = F F^T, which is the same
    number without taking roots of rounding noise; so covariances of any rank are right and none gives NaN.
    Raises UserError for other shapes or numbers that are not finite.
    Source: Dowson and Landau 1982; Heusel et al. 2017, eq. 6.
    """
    for statistics in (a, b):
        dimension = len(statistics.mu)
        if statistics.sigma.shape != (dimension, dimension):
            raise UserError(f"mu has {dimension} dimensions but sigma has the shape {statistics.sigma.shape}")
        if not (np.isfinite(statistics.mu).all() and np.isfinite(statistics.sigma).all()):
            raise UserError("statistics hold numbers that are not finite: a Fréchet distance to them means nothing")
    if len(a.mu) != len(b.mu):
        raise UserError(f"statistics of {len(a.mu)} and {len(b.mu)} dimensions cannot be compared")
    between_means = float(np.sum((np.float64(a.mu) - np.float64(b.mu)) ** 2))
    traces = float(np.trace(a.sigma) + np.trace(b.sigma))
    overlap = float(np.linalg.svd(_factor(a.sigma).T @ _factor(b.sigma), compute_uv=False).sum())
    return max(0.0, between_means + traces - 2.0 * overlap)


def is_indicative_only(count: int, dim: int) -> bool:
    """Whether `count` vectors of `dim` numbers are too few for a covariance of full rank: count <= dim + 1.

    N vectors span at most N - 1 directions about their mean.  Below that a Fréchet distance is finite and
    repeatable, but it says more about the count than about the images (bioinf-jku/TTUR#4).
    """
    return count <= dim + 1


def _factor(sigma: np.ndarray) -> np.ndarray:
    """F [D, R] with F F^T = sigma; directions whose variance is rounding noise are left out."""
    values, vectors = np.linalg.eigh(np.asarray(sigma, np.float64))
    kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def frechet_distance_between(x: np.ndarray, y: np.ndarray) -> float:
    return frechet_distance(gaussian_statistics(x), gaussian_statistics(y))
