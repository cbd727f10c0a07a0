"""Kernel distance, Inception Score, precision and recall against torch-fidelity and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from kind.errors import UserError
from kind.evaluation import pairwise
from kind.evaluation.inception_score import inception_score
from kind.evaluation.kernel_distance import kernel_distance
from kind.evaluation.precision_recall import precision_recall


@pytest.fixture
def sets():
    generator = np.random.default_rng(0)
    return generator.normal(size=(23, 5)).astype(np.float32), generator.normal(size=(31, 5)).astype(np.float32) + 0.4


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(pairwise, "BLOCK_ELEMENTS", 36)


# --- kernel distance ------------------------------------------------------------------------------------------


def kernel_distance_by_loops(x, y):
    def kernel(a, b):
        return (float(np.dot(a.astype(np.float64), b.astype(np.float64))) / len(a) + 1.0) ** 3

    within = [np.mean([kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (x, y)]
    return sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_kernel_distance_is_the_mean_over_pairs(sets, blocks):
    assert kernel_distance(*sets) == pytest.approx(kernel_distance_by_loops(*sets), rel=1e-10)
    assert kernel_distance(*sets) == pytest.approx(kernel_distance(*sets[::-1]), rel=1e-10)


def test_kernel_distance_is_torch_fidelitys(sets):
    from torch_fidelity.metric_kid import kernel_poly, mmd2

    x, y = (part[:20].astype(np.float64) for part in sets)
    settings = {"kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1}
    theirs = mmd2(*(kernel_poly(a, b, **settings) for a, b in ((x, x), (x, y), (y, y))))
    assert kernel_distance(x, y) == pytest.approx(theirs, rel=1e-10)


def test_kernel_distance_has_no_bias_for_small_sets():
    generator = np.random.default_rng(1)
    values = [kernel_distance(generator.normal(size=(5, 3)), generator.normal(size=(5, 3))) for _ in range(2000)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0


# --- Inception Score ------------------------------------------------------------------------------------------


def test_score_is_the_formula():
    logits = np.random.default_rng(2).normal(size=(40, 6)) * 3
    conditional = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    marginal = conditional.mean(axis=0)
    divergences = [sum(p * np.log(p / q) for p, q in zip(row, marginal, strict=True)) for row in conditional]
    assert inception_score(logits) == pytest.approx(np.exp(np.mean(divergences)), rel=1e-12)


@pytest.mark.parametrize("splits", [1, 3, 10])
def test_score_is_torch_fidelitys(splits):
    import torch
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

    logits = np.random.default_rng(3).normal(size=(64, 7)).astype(np.float32) * 4
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=splits)[KEY_METRIC_ISC_MEAN]
    assert inception_score(logits, splits) == pytest.approx(theirs, rel=1e-12)


def test_score_at_its_bounds():
    certain = np.repeat(np.eye(4), 5, axis=0) * 2000.0
    assert inception_score(certain) == pytest.approx(4.0)
    assert inception_score(np.zeros((12, 4))) == pytest.approx(1.0)
    assert inception_score(certain[:5]) == pytest.approx(1.0)


# --- precision and recall -------------------------------------------------------------------------------------


def precision_recall_by_loops(samples, reference, k=3):
    def radius(points, i):
        return sorted(np.linalg.norm(points[i] - points[j]) for j in range(len(points)) if j != i)[k - 1]

    def share(points, manifold):
        radii = [radius(manifold, i) for i in range(len(manifold))]
        return np.mean([any(np.linalg.norm(p - c) <= r for c, r in zip(manifold, radii, strict=True)) for p in points])

    return share(samples, reference), share(reference, samples)


@pytest.mark.parametrize(("k", "shift"), [(1, 0.5), (3, 1.6)])
def test_precision_and_recall_are_the_definition(sets, blocks, k, shift):
    samples, reference = sets[0] * 0.7, sets[1] + shift
    ours = precision_recall(samples, reference, k)
    assert ours == pytest.approx(precision_recall_by_loops(samples, reference, k))
    assert len({0.0, 1.0, *ours}) == 4, "the example must tell precision from recall"


def test_precision_and_recall_are_torch_fidelitys(sets):
    import torch
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    theirs = calculate_precision_recall_full(*(torch.from_numpy(part) for part in sets))
    assert precision_recall(*sets) == pytest.approx(theirs)


def test_a_collapsed_model_is_precise_and_covers_nothing():
    reference = np.random.default_rng(4).normal(size=(60, 2))
    samples = reference[0] + np.random.default_rng(5).normal(size=(40, 2)) * 1e-3
    shares = precision_recall(samples, reference)
    assert shares.precision == 1.0
    assert shares.recall < 0.1


def test_what_cannot_be_scored_is_refused(sets):
    samples, reference = sets
    with pytest.raises(UserError, match="at least 4"):
        precision_recall(samples[:3], reference)
    with pytest.raises(UserError, match="5 and 4 dimensions"):
        kernel_distance(samples, reference[:, :4])
    with pytest.raises(UserError, match="at least 2"):
        kernel_distance(samples[:1], reference)
    with pytest.raises(UserError, match="row 2"):
        inception_score(np.where(np.arange(6)[:, None] == 2, np.nan, np.ones((6, 3))))
    with pytest.raises(UserError, match="splits"):
        inception_score(samples, 0)
