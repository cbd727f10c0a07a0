from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from kind.errors import UserError
from kind.evaluation import frechet, pairwise
from kind.evaluation.frechet import (
    Statistics,
    StreamingStatistics,
    frechet_distance,
    gaussian_statistics,
    is_indicative_only,
)


def features(count, dim, seed, scale=1.0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, dim)) @ generator.normal(size=(dim, dim)) * scale + generator.normal(size=dim)


def distance_by_sqrtm(x, y):
    """The textbook form, through scipy's Schur method instead of eigenvectors."""
    from scipy.linalg import sqrtm

    root = sqrtm(np.cov(x.T) @ np.cov(y.T))
    difference = x.mean(axis=0) - y.mean(axis=0)
    return difference @ difference + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root.real)


def test_statistics_are_numpys_mean_and_cov():
    x = features(57, 6, 0).astype(np.float32)
    statistics = gaussian_statistics(x)
    np.testing.assert_allclose(statistics.mu, x.astype(np.float64).mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(statistics.sigma, np.cov(x.astype(np.float64).T), rtol=1e-11)
    assert statistics.count == 57
    assert statistics.mu.dtype == statistics.sigma.dtype == np.float64


def two_pass(x):
    """Mean and covariance by their definitions, in long double."""
    x = x.astype(np.longdouble)
    centred = x - x.mean(axis=0)
    return x.mean(axis=0), centred.T @ centred / (len(x) - 1)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_streaming_is_the_two_pass_result_also_far_from_zero_and_the_same_bits_for_all_batches(
    size, offset, monkeypatch
):
    monkeypatch.setattr(frechet, "FOLD_ROWS", 48)
    x = np.random.default_rng(1).normal(size=(301, 5)) + offset
    x[:100] += 3.0  # sorted: parts do not have the mean of the whole
    streaming = StreamingStatistics()
    for batch in np.split(x, range(size, len(x), size)):
        streaming.update(batch)
        if streaming.count > 1:
            streaming.result()  # a look in between changes nothing
    mu, sigma = two_pass(x)
    np.testing.assert_allclose(streaming.result().sigma, sigma, rtol=0, atol=1e-10 * np.abs(sigma).max())
    np.testing.assert_allclose(streaming.result().mu, mu, rtol=1e-13)
    whole = gaussian_statistics(x)
    assert (streaming.result().sigma == whole.sigma).all() and (streaming.result().mu == whole.mu).all()
    assert (whole.sigma == whole.sigma.T).all()


def test_the_order_of_shards_does_not_matter():
    shards = [np.random.default_rng(seed).normal(size=(400, 6)) + 100 * seed for seed in range(5)]
    forth, back = (gaussian_statistics(np.concatenate(parts)) for parts in (shards, shards[::-1]))
    np.testing.assert_allclose(forth.sigma, back.sigma, rtol=1e-10)
    np.testing.assert_allclose(forth.mu, back.mu, rtol=1e-12)


def test_a_memory_map_is_not_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(pairwise, "BLOCK_ELEMENTS", 2**12)
    monkeypatch.setattr(frechet, "FOLD_ROWS", 64)
    x = features(20_000, 16, 2).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    tracemalloc.start()
    statistics = gaussian_statistics(mapped)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 4
    np.testing.assert_allclose(statistics.sigma, np.cov(x.T.astype(np.float64)), rtol=1e-10)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_distance_is_the_textbook_form(scale):
    x, y = features(200, 8, 3, scale), features(150, 8, 4, scale)
    ours = frechet_distance(gaussian_statistics(x), gaussian_statistics(y))
    assert ours == pytest.approx(distance_by_sqrtm(x, y), rel=1e-9)
    assert ours == pytest.approx(frechet_distance(gaussian_statistics(y), gaussian_statistics(x)), rel=1e-11)


def test_distance_between_commuting_gaussians_is_the_closed_form():
    a = Statistics(np.array([1.0, 2.0, 3.0]), np.diag([4.0, 9.0, 0.0]), 10)
    b = Statistics(np.array([1.0, 0.0, 3.0]), np.diag([1.0, 25.0, 16.0]), 10)
    assert frechet_distance(a, b) == pytest.approx(4.0 + (2 - 1) ** 2 + (3 - 5) ** 2 + 4.0**2, rel=1e-12)


def test_covariances_without_full_rank_give_the_right_number():
    """Fewer images than dimensions: two planes in 30 dimensions, checked inside the space that they span."""
    generator = np.random.default_rng(5)
    basis = np.linalg.qr(generator.normal(size=(30, 4)))[0]
    x, y = generator.normal(size=(90, 4)), generator.normal(size=(90, 4)) * [2, 1, 0.5, 3]
    inside = distance_by_sqrtm(x, y)
    lifted = frechet_distance(gaussian_statistics(x @ basis.T), gaussian_statistics(y @ basis.T))
    assert lifted == pytest.approx(inside, rel=1e-9)
    few = frechet_distance(gaussian_statistics(x[:3] @ basis.T), gaussian_statistics(y[:2] @ basis.T))
    assert np.isfinite(few)
    constant = gaussian_statistics(np.ones((5, 30)))
    assert frechet_distance(constant, constant) == 0.0


def test_distance_to_itself_is_zero_and_never_negative():
    statistics = gaussian_statistics(features(20, 40, 6))
    assert 0.0 <= frechet_distance(statistics, statistics) < 1e-9 * np.trace(statistics.sigma)


def test_indicative_only_up_to_the_rank():
    assert is_indicative_only(2048, 2048)
    assert is_indicative_only(2049, 2048)
    assert not is_indicative_only(2050, 2048)


def test_what_cannot_be_compared_is_refused():
    good = gaussian_statistics(features(10, 3, 0))
    with pytest.raises(UserError, match="not finite"):
        gaussian_statistics(np.array([[1.0, np.nan], [0.0, 1.0]]))
    with pytest.raises(UserError, match="at least 2"):
        gaussian_statistics(np.ones((1, 3)))
    with pytest.raises(UserError, match="3 and 4 dimensions"):
        frechet_distance(good, gaussian_statistics(features(10, 4, 0)))
    with pytest.raises(UserError, match="not finite"):
        frechet_distance(good, good._replace(mu=np.array([0.0, np.inf, 0.0])))
    with pytest.raises(UserError, match="fewer|at least 2"):
        StreamingStatistics().result()
