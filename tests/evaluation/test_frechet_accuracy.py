"""The Fréchet distance against scipy's sqrtm, 60 digits and closed forms, for covariances of all kinds.

On the random ones here sqrtm(S_a S_b) is good to 1e-8 of the distance up to condition numbers of about 1e6.  At 1e10 it
was 1e-5 off in 1,024 dimensions, and of singular covariances it takes roots of rounding noise, so that these are held
against 60 digits or against what is known of them.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy.linalg import sqrtm

from kind.errors import UserError
from kind.evaluation.frechet import Statistics, frechet_distance, gaussian, gaussian_statistics


def covariance(spectrum, seed):
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(spectrum), len(spectrum))))[0]
    sigma = (basis * spectrum) @ basis.T
    return (sigma + sigma.T) / 2


def pair_of(first, second):
    dim = len(first)
    return Statistics(np.zeros(dim), first, 0), Statistics(np.full(dim, 0.1), second, 0)


def in_60_digits(a, b):
    with mpmath.workdps(60):
        values, vectors = mpmath.eigsy(mpmath.matrix(a.sigma))
        root = vectors * mpmath.diag([mpmath.sqrt(max(value, 0)) for value in values]) * vectors.T
        middle = mpmath.eigsy(root * mpmath.matrix(b.sigma) * root, eigvals_only=True)
        traces = mpmath.fsum(np.diag(a.sigma)) + mpmath.fsum(np.diag(b.sigma))
        means = mpmath.fsum((mpmath.mpf(x) - mpmath.mpf(y)) ** 2 for x, y in zip(a.mu, b.mu, strict=True))
        return float(means + traces - 2 * mpmath.fsum(mpmath.sqrt(max(value, 0)) for value in middle))


SPECTRA = {"even": np.linspace(1, 2, 60), "power": 20 * np.arange(1, 61.0) ** -1.5, "1e6": np.logspace(2, -4, 60)}


@pytest.mark.parametrize("name", SPECTRA)
def test_sqrtm_gives_the_same(name):
    a, b = pair_of(covariance(SPECTRA[name], 0), covariance(SPECTRA[name] * 1.1, 1))
    theirs = np.sum((a.mu - b.mu) ** 2) + np.trace(a.sigma + b.sigma - 2 * sqrtm(a.sigma @ b.sigma).real)
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=1e-8)


@pytest.mark.parametrize("condition", [1e4, 1e10, 1e13])
def test_60_digits_give_the_same_of_ill_conditioned_covariances(condition):
    spectrum = np.geomspace(10, 10 / condition, 10)
    a, b = pair_of(covariance(spectrum, 2), covariance(spectrum[::-1].copy(), 3))
    assert frechet_distance(a, b) == pytest.approx(in_60_digits(a, b), rel=1e-8)


def test_60_digits_give_the_same_where_features_have_very_different_scales():
    scales = np.logspace(-6, 2, 8)
    a, b = pair_of(*(covariance(np.linspace(1, 2, 8), seed) * np.outer(scales, scales) for seed in (4, 5)))
    assert frechet_distance(a, b) == pytest.approx(in_60_digits(a, b), rel=1e-8)
    assert frechet_distance(a, a) < 1e-12 * np.trace(a.sigma)


@pytest.mark.parametrize("condition", [10, 6e6])
def test_nearly_equal_covariances_are_told_apart(condition):
    """The distance is 1e-8 of the traces: an error that would not be seen elsewhere is all of it here."""
    spectrum = np.geomspace(10, 10 / condition, 60)
    a, b = (Statistics(np.zeros(60), covariance(spectrum * scale, 13), 0) for scale in (1.0, 1.0002))
    assert frechet_distance(a, b) == pytest.approx(spectrum.sum() * (np.sqrt(1.0002) - 1) ** 2, rel=5e-7)


@pytest.mark.parametrize(("first_rank", "second_rank"), [(3, 3), (3, 12), (1, 7), (12, 5)])
def test_covariances_of_any_rank(first_rank, second_rank):
    """F F^T of factors of whole numbers, so that the covariances are exact and of that rank."""
    generator = np.random.default_rng(5)
    first, second = (generator.integers(-9, 10, (12, rank)).astype(float) for rank in (first_rank, second_rank))
    a, b = pair_of(first @ first.T, second @ second.T)
    overlap = np.linalg.svd(first.T @ second, compute_uv=False).sum()
    known = 12 * 0.1**2 + np.sum(first**2) + np.sum(second**2) - 2 * overlap
    assert frechet_distance(a, b) == pytest.approx(known, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(known, rel=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_rounding_noise_is_not_taken_for_a_direction(seed):
    """One direction is missing in a; in b it has a small variance, and that is all of the distance."""
    spectrum = np.append(np.linspace(1, 2, 11), 0.0)
    a, b = (Statistics(np.zeros(12), covariance(spectrum + np.eye(12)[11] * more, seed), 0) for more in (0, 1e-6))
    assert frechet_distance(a, b) == pytest.approx(1e-6, rel=1e-7)


def test_few_vectors_far_from_zero_add_no_noise():
    x = np.random.default_rng(6).normal(size=(9, 40)) + 1e4
    y = np.random.default_rng(7).normal(size=(14, 40)) + 1e4
    first, second = (part - part.mean(axis=0) for part in (x, y))
    overlap = np.linalg.svd(first @ second.T, compute_uv=False).sum() / np.sqrt(8 * 13)
    known = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + np.sum(first**2) / 8 + np.sum(second**2) / 13 - 2 * overlap
    assert frechet_distance(gaussian_statistics(x), gaussian_statistics(y)) == pytest.approx(known, rel=1e-8)
    assert frechet_distance(x, y) == pytest.approx(known, rel=1e-10)


@pytest.mark.parametrize(("count", "other"), [(12, 30), (12, 200), (100, 25), (90, 200), (40, 41)])
def test_features_their_statistics_and_their_gaussians_give_the_same(count, other):
    generator = np.random.default_rng(8)
    mixed = generator.normal(size=(40, 40))
    x = (generator.normal(size=(count, 40)) @ mixed).astype(np.float32)
    y = (generator.normal(size=(other, 40)) @ mixed * 1.3 + 1).astype(np.float32)
    forms = [(part, gaussian_statistics(part), gaussian(part), gaussian(gaussian_statistics(part))) for part in (x, y)]
    distances = [frechet_distance(a, b) for a in forms[0] for b in forms[1]]
    np.testing.assert_allclose(distances, distances[0], rtol=1e-9)


@pytest.mark.parametrize(("count", "dim"), [(500, 20), (10, 20)])
def test_closed_forms(count, dim):
    x = np.random.default_rng(9).normal(size=(count, dim)) @ np.random.default_rng(10).normal(size=(dim, dim)) + 2
    mu, sigma, _ = gaussian_statistics(x)
    variance = np.trace(sigma)
    shift = np.arange(dim) / dim
    for form in (lambda features: features, gaussian_statistics):
        assert frechet_distance(form(x), form(x)) < 1e-12 * variance
        assert frechet_distance(form(x), form(x[::-1])) < 1e-12 * variance
        assert frechet_distance(form(x), form(x + shift)) == pytest.approx(shift @ shift, rel=1e-8)
        assert frechet_distance(form(x), form(3 * x)) == pytest.approx(4 * (variance + mu @ mu), rel=1e-10)
        assert frechet_distance(form(x), form(np.full((2, dim), 5.0))) == pytest.approx(
            variance + np.sum((mu - 5) ** 2), rel=1e-10
        )


def test_statistics_of_other_number_types():
    """float32 has more rounding noise, of which no directions are made."""
    a, b = pair_of(covariance(np.append(np.linspace(1, 2, 20), np.zeros(20)), 11), covariance(np.ones(40), 12))
    short = a._replace(sigma=a.sigma.astype(np.float32))
    assert frechet_distance(short, b) == pytest.approx(frechet_distance(a, b), rel=1e-6)
    whole = Statistics(np.zeros(2, int), np.diag([4, 9]), 10)
    assert frechet_distance(whole, whole._replace(sigma=np.diag([16, 0]))) == pytest.approx((4 - 2) ** 2 + 9)


def test_what_is_no_covariance_is_refused():
    for sigma in ([[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.0], [0.0, -1.0]], [[0.0, 1.0], [1.0, 0.0]]):
        with pytest.raises(UserError, match="not a covariance: it has the eigenvalue -1"):
            frechet_distance(*pair_of(np.array(sigma), np.eye(2)))
    with pytest.raises(UserError, match="not symmetric"):
        frechet_distance(*pair_of(np.eye(2), np.array([[1.0, 0.1], [0.0, 1.0]])))
