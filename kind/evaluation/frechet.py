"""Fréchet distance between Gaussians fitted to features (FID, and sFID on spatial features)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kind.errors import UserError
from kind.evaluation.pairwise import feature_matrix

FOLD_ROWS = 2048  # rows that are put into a covariance at once
TOLERANCE = 1e-10  # of a distance
SYMMETRIC = 1e-6  # of the largest entry: that far sigma_ij may be from sigma_ji
NO_COVARIANCE = "look at how these statistics were made: a covariance is symmetric and has no negative eigenvalue"


class Statistics(NamedTuple):
    """Mean [D] and covariance [D, D] (divided by N - 1), both float64, of `count` feature vectors."""

    mu: np.ndarray
    sigma: np.ndarray
    count: int


class Gaussian(NamedTuple):
    """Mean [D], a factor F [D, R] of the covariance F F^T, and its trace: what a Fréchet distance needs of a set."""

    mu: np.ndarray
    factor: np.ndarray
    variance: float


class _Moments(NamedTuple):
    count: int
    mean: np.ndarray
    scatter: np.ndarray


class StreamingStatistics:
    """Mean and covariance of batches that are seen once, in float64.

    M <- M_a + M_b + (mu_b - mu_a)(mu_b - mu_a)^T n_a n_b / (n_a + n_b)

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
    1979.  The scatter M is about the mean, so a mean that is large against the spread costs no digits.  Rows are
    taken in FOLD_ROWS at a time, however they come: the result is the same bits for any sizes of batches.
    """

    def __init__(self) -> None:
        self.count = 0
        self._moments: _Moments | None = None
        self._waiting = np.empty((0, 0))

    def update(self, batch: np.ndarray) -> None:
        """Takes in features [B, D], B >= 1; raises UserError for numbers that are not finite or for another D."""
        batch = feature_matrix(batch)
        if self.count == 0:
            self._waiting = np.empty((FOLD_ROWS, batch.shape[1]))
        if batch.shape[1] != self._waiting.shape[1]:
            raise UserError(f"a batch of {batch.shape[1]} dimensions after batches of {self._waiting.shape[1]}")
        taken = 0
        while taken < len(batch):
            start = self.count % FOLD_ROWS
            rows = batch[taken : taken + FOLD_ROWS - start]
            self._waiting[start : start + len(rows)] = rows
            self.count, taken = self.count + len(rows), taken + len(rows)
            if self.count % FOLD_ROWS == 0:
                self._moments = _folded(self._moments, self._waiting)

    def result(self) -> Statistics:
        """The statistics so far; raises UserError for fewer than two vectors."""
        if self.count < 2:
            raise UserError(f"{self.count} images are too few for a covariance: it needs at least 2")
        moments, rest = self._moments, self._waiting[: self.count % FOLD_ROWS]
        if len(rest):
            moments = _folded(moments, rest)
        return Statistics(moments.mean, moments.scatter / (self.count - 1), self.count)


def gaussian_statistics(features: np.ndarray) -> Statistics:
    """np.mean and np.cov over rows in float64.  [N, D] -> mu [D], sigma [D, D].  As ADM and pytorch-fid do it."""
    streaming = StreamingStatistics()
    streaming.update(features)
    return streaming.result()


def gaussian(of: Statistics | np.ndarray) -> Gaussian:
    """The Gaussian of statistics or of features [N, D], in the form that `frechet_distance` works on.

    Make it once of a set that is compared often.  No more vectors than dimensions are their own factor, which no
    covariance is needed for.  Raises UserError for other shapes, for numbers that are not finite, and for a matrix
    that no covariance can be.
    """
    if isinstance(of, np.ndarray):
        features = feature_matrix(of, minimum=2)
        if len(features) <= features.shape[1]:
            return _gaussian_of_few(features)
        of = gaussian_statistics(features)
    _check(of)
    mu, sigma = np.asarray(of.mu, np.float64), np.asarray(of.sigma)
    return Gaussian(mu, _factor(sigma), float(np.trace(sigma, dtype=np.float64)))


def frechet_distance(a: Statistics | Gaussian | np.ndarray, b: Statistics | Gaussian | np.ndarray) -> float:
    """|mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr (S_a^1/2 S_b S_a^1/2)^1/2, in squared feature units, >= 0.

    Each side may be features [N, D], their statistics, or a Gaussian made of them before.  The last trace is the
    sum of the singular values of F_a^T F_b with S = F F^T, which is the same number without taking roots of rounding
    noise; so covariances of any rank are right and none gives NaN.  Where that is good to TOLERANCE of the distance,
    eigenvalues of the product's Gram matrix take their place, in a quarter of the time.  Between few vectors (one
    class of images) it takes milliseconds.  Raises UserError as `gaussian` does, and for sets of different dimensions.
    Source: Dowson and Landau 1982; Heusel et al. 2017, eq. 6.
    """
    first, second = (of if isinstance(of, Gaussian) else gaussian(of) for of in (a, b))
    if len(first.mu) != len(second.mu):
        raise UserError(f"statistics of {len(first.mu)} and {len(second.mu)} dimensions cannot be compared")
    apart = float(np.sum((first.mu - second.mu) ** 2)) + first.variance + second.variance
    product = first.factor.T @ second.factor
    overlap, error = _overlap_by_gram(product)
    if 2.0 * error > TOLERANCE * (apart - 2.0 * overlap):
        overlap = float(np.linalg.svd(product, compute_uv=False).sum())
    return max(0.0, apart - 2.0 * overlap)


def is_indicative_only(count: int, dim: int) -> bool:
    """Whether `count` vectors of `dim` numbers are too few for a covariance of full rank: count <= dim + 1.

    N vectors span at most N - 1 directions about their mean.  Below that a Fréchet distance is finite and
    repeatable, but it says more about the count than about the images (bioinf-jku/TTUR#4).
    """
    return count <= dim + 1


def _overlap_by_gram(product: np.ndarray) -> tuple[float, float]:
    """Sum of the singular values, as roots of the Gram matrix's eigenvalues, and how far off it may be.

    An eigenvalue l is off by about eps times the largest one, d, and its root by d / (2 sqrt(l)).  That these add up is
    the worst case: 100 times or more what was found at 1,024 dimensions.
    """
    if product.size == 0:
        return 0.0, 0.0
    flat = product if product.shape[0] <= product.shape[1] else product.T
    values = np.linalg.eigvalsh(flat @ flat.T)
    noise = np.finfo(np.float64).eps * values[-1]
    if values[0] <= 2.0 * noise:
        return 0.0, np.inf
    return float(np.sqrt(values).sum()), float((noise / (2.0 * np.sqrt(values - noise))).sum())


def _folded(moments: _Moments | None, block: np.ndarray) -> _Moments:
    """Moments of what was seen and of one more block [B, D]."""
    mean = block.mean(axis=0)
    centred = block - mean
    scatter = centred.T @ centred
    if moments is None:
        return _Moments(len(block), mean, scatter)
    total = moments.count + len(block)
    shift = mean - moments.mean
    scatter += moments.scatter
    scatter += np.outer(shift, shift) * (moments.count * len(block) / total)
    return _Moments(total, moments.mean + shift * (len(block) / total), scatter)


def _gaussian_of_few(features: np.ndarray) -> Gaussian:
    features = features.astype(np.float64)
    mu = features.mean(axis=0)
    factor = (features - mu).T / np.sqrt(len(features) - 1)
    return Gaussian(mu, factor, float(np.sum(factor**2)))


def _check(statistics: Statistics) -> None:
    dimension = len(statistics.mu)
    if statistics.sigma.shape != (dimension, dimension):
        raise UserError(f"mu has {dimension} dimensions but sigma has the shape {statistics.sigma.shape}")
    if not (np.isfinite(statistics.mu).all() and np.isfinite(statistics.sigma).all()):
        raise UserError("statistics hold numbers that are not finite: a Fréchet distance to them means nothing")
    if np.abs(statistics.sigma - statistics.sigma.T).max() > SYMMETRIC * np.abs(statistics.sigma).max():
        raise UserError("sigma is not a covariance: it is not symmetric", hint=NO_COVARIANCE)


def _factor(sigma: np.ndarray) -> np.ndarray:
    """F [D, R] with F F^T = sigma; directions whose variance is rounding noise are left out.

    Cholesky where the features that vary have full rank, else eigenvectors, which take several times as long.
    """
    noise = np.finfo(np.result_type(sigma, np.float32)).eps * len(sigma)
    used = np.flatnonzero(sigma.any(axis=1))
    varying = sigma[np.ix_(used, used)].astype(np.float64, copy=False)
    root = _triangle(varying, noise)
    if root is None:
        root = _eigenvectors(varying, noise)
    factor = np.zeros((len(sigma), root.shape[1]))
    factor[used] = root
    return factor


def _triangle(sigma: np.ndarray, noise: float) -> np.ndarray | None:
    """The Cholesky factor; None where a feature is the others' linear combination, or nearly."""
    try:
        root = np.linalg.cholesky(sigma)
    except np.linalg.LinAlgError:
        return None
    return root if (np.diag(root) ** 2 > noise * np.diag(sigma)).all() else None


def _eigenvectors(sigma: np.ndarray, noise: float) -> np.ndarray:
    """Each eigenvector times the root of its eigenvalue."""
    values, vectors = np.linalg.eigh(sigma)
    if values[0] < -np.sqrt(noise) * max(values[-1], 0.0):
        raise UserError(
            f"sigma is not a covariance: it has the eigenvalue {values[0]:.3g}, and {values[-1]:.3g} as the largest",
            hint=NO_COVARIANCE,
        )
    kept = values > noise * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])
