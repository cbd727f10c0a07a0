"""Kernel distance, Inception Score, precision and recall against torch-fidelity and against plain loops."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from kind.errors import UserError
from kind.evaluation import pairwise
from kind.evaluation.inception_score import inception_score
from kind.evaluation.kernel_distance import kernel_distance, kernel_distance_interval
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


@pytest.mark.parametrize("count", [4, 5, 23])
def test_interval_is_the_distances_of_halves_about_the_distance_of_all(sets, blocks, count):
    x, y = sets[0][:count], sets[1]
    found = kernel_distance_interval(x, y, seed=3)
    assert found.value == pytest.approx(kernel_distance(x, y), rel=1e-12)
    generator = np.random.default_rng(99)  # other halves than its own
    halves = [
        kernel_distance(*(part[generator.permutation(len(part))[: len(part) // 2]] for part in (x, y)))
        for _ in range(1000)
    ]
    spread = np.sqrt(np.mean((np.array(halves) - found.value) ** 2))
    assert (found.high - found.value) / 1.959964 == pytest.approx(spread, rel=0.2)
    assert found.value - found.low == pytest.approx(found.high - found.value, rel=1e-9)


def test_interval_is_the_same_for_the_same_seed_only(sets):
    assert kernel_distance_interval(*sets, seed=1) == kernel_distance_interval(*sets, seed=1)
    assert kernel_distance_interval(*sets, seed=1) != kernel_distance_interval(*sets, seed=2)


@pytest.mark.parametrize(
    ("tilt", "count", "other", "least", "most"),
    [
        (0.8, 100, 100, 0.90, 0.99),  # clearly different: as promised
        (0.8, 300, 60, 0.90, 0.99),
        (0.3, 200, 200, 0.92, 1.0),
        (0.0, 60, 200, 0.97, 1.0),  # the same: too wide
    ],
)
def test_interval_holds_the_true_distance_as_often_as_promised(tilt, count, other, least, most):
    """Between two distributions over 64 points, whose distance is known."""
    generator = np.random.default_rng(7)
    points = generator.uniform(0.0, 2.0, size=(64, 8))
    kernel = (points @ points.T / 8 + 1) ** 3
    even, sizes = np.full(64, 1 / 64), points.sum(axis=1)
    weights = np.exp(tilt * (sizes - sizes.mean()) / sizes.std())
    tilted = weights / weights.sum()
    truth = (tilted - even) @ kernel @ (tilted - even)
    held = []
    for seed in range(250):
        x, y = (points[generator.choice(64, size, p=p)] for size, p in ((count, tilted), (other, even)))
        found = kernel_distance_interval(x, y, seed)
        held.append(found.low <= truth <= found.high)
    assert least <= np.mean(held) <= most


# --- Inception Score ------------------------------------------------------------------------------------------


def test_score_is_the_formula():
    logits = np.random.default_rng(2).normal(size=(40, 6)) * 3
    conditional = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    marginal = conditional.mean(axis=0)
    divergences = [sum(p * np.log(p / q) for p, q in zip(row, marginal, strict=True)) for row in conditional]
    assert inception_score(logits) == pytest.approx(np.exp(np.mean(divergences)), rel=1e-12)


def test_score_of_one_part_is_torch_fidelitys():
    import torch
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

    logits = np.random.default_rng(3).normal(size=(64, 7)).astype(np.float32) * 4
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=1)[KEY_METRIC_ISC_MEAN]
    assert inception_score(logits) == pytest.approx(theirs, rel=1e-12)


def adms_score(logits, split_size):
    """As in openai/guided-diffusion's evaluations/evaluator.py: parts in the order of the rows, the rest one more."""
    shares = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True)
    scores = []
    for start in range(0, len(shares), split_size):
        part = shares[start : start + split_size]
        divergence = part * (np.log(part) - np.log(np.expand_dims(np.mean(part, 0), 0)))
        scores.append(np.exp(np.mean(np.sum(divergence, 1))))
    return np.mean(scores)


@pytest.mark.parametrize("split_size", [1, 20, 21, 22, 63, 64, 65])
def test_score_in_parts_is_adms(split_size):
    logits = np.random.default_rng(3).normal(size=(64, 7)).astype(np.float32) * np.linspace(1, 4, 64)[:, None]
    assert inception_score(logits, split_size) == pytest.approx(adms_score(logits, split_size), rel=1e-12)


def test_score_has_parts_of_5000():
    logits = np.random.default_rng(4).normal(size=(10_007, 3)).astype(np.float32)
    assert inception_score(logits) == pytest.approx(adms_score(logits, 5000), rel=1e-12)
    assert inception_score(logits) != pytest.approx(adms_score(logits, 10_007), rel=1e-6)


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


def adms_precision_recall(reference, samples, k=3):
    """As in openai/guided-diffusion's evaluations/evaluator.py: features_1 are the reference's."""

    def squares(u, v):
        return np.maximum((u**2).sum(1)[:, None] + (v**2).sum(1) - 2 * u @ v.T, 0.0)

    radii_1, radii_2 = (np.partition(squares(u, u), range(k + 1), axis=1)[:, k] for u in (reference, samples))
    distances = squares(reference, samples)
    status_1 = (distances <= radii_2).any(axis=1)
    status_2 = (distances <= radii_1[:, None]).any(axis=0)
    return status_2.mean(), status_1.mean()


def test_precision_and_recall_are_adms(sets, blocks):
    samples, reference = sets[0].astype(np.float64) * 0.7, sets[1].astype(np.float64) + 0.5
    ours = precision_recall(samples, reference)
    assert ours == pytest.approx(adms_precision_recall(reference, samples))
    assert ours.precision != ours.recall


def test_duplicates_are_exact():
    """Four equal images have balls of radius 0 with one another; a copy lies in them, however products round."""
    generator = np.random.default_rng(6)
    for others in (5, 9, 13) * 10:
        point, elsewhere = generator.normal(size=501) * 100, generator.normal(size=(3 * others, 501)) + 1e4
        reference = np.concatenate([np.repeat(point[None], 4, axis=0), elsewhere[:others]])
        samples = np.concatenate([-elsewhere[others:], point[None], point[None] * (1 + 1e-5)])
        assert precision_recall(samples, reference).precision * len(samples) == pytest.approx(1)


def test_a_collapsed_model_is_precise_and_covers_nothing():
    reference = np.random.default_rng(4).normal(size=(60, 2))
    samples = reference[0] + np.random.default_rng(5).normal(size=(40, 2)) * 1e-3
    shares = precision_recall(samples, reference)
    assert shares.precision == 1.0
    assert shares.recall < 0.1


# --- all ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [kernel_distance, kernel_distance_interval, precision_recall, inception_score])
def test_memory_maps_of_float32_are_read_in_blocks(metric, tmp_path, monkeypatch):
    monkeypatch.setattr(pairwise, "BLOCK_ELEMENTS", 2**12)
    x = np.random.default_rng(8).normal(size=(1000, 256)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    several = {inception_score: ((mapped, 50), (x, 50))}.get(metric, ((mapped, mapped), (x, x[:])))
    tracemalloc.start()
    found = metric(*several[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes
    assert found == metric(*several[1])


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
    with pytest.raises(UserError, match="at least 4"):
        kernel_distance_interval(samples, reference[:3])
    with pytest.raises(UserError, match="split_size"):
        inception_score(samples, 0)
