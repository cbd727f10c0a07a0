"""Intruder dimensions, drift and effective rank against float64 computations of numpy, and in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kind.analysis.matrices import drift, effective_rank, intruder_dimensions

OUT, IN = 12, 8


def orthonormal(size: int, count: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0][:, :count]


def matrix(u: np.ndarray, s: list[float], v: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((u * np.array(s)) @ v.T).float()


@pytest.fixture
def reference() -> torch.Tensor:
    return matrix(orthonormal(OUT, IN, 0), list(range(IN, 0, -1)), orthonormal(IN, IN, 1))


def planted(reference: torch.Tensor, cosine: float, size: float) -> torch.Tensor:
    """The reference with its smallest component replaced by one of this size, whose left vector has that cosine with
    the old one and is otherwise outside the reference's column space."""
    u, s, vt = np.linalg.svd(reference.double().numpy())
    y = cosine * u[:, IN - 1] + np.sqrt(1 - cosine**2) * u[:, IN]
    kept = (u[:, : IN - 1] * s[: IN - 1]) @ vt[: IN - 1]
    return torch.from_numpy(kept + size * np.outer(y, vt[IN - 1])).float()


@pytest.mark.parametrize(
    "cosine, max_cosine, count", [(0.0, 0.6, 1), (0.55, 0.6, 1), (0.65, 0.6, 0), (0.65, 0.7, 1), (1.0, 0.6, 0)]
)
def test_a_planted_intruder_is_counted_where_it_is_foreign_enough(reference, cosine, max_cosine, count):
    tuned = planted(reference, cosine, size=100.0)
    assert intruder_dimensions(tuned, reference, 3, max_cosine) == count


def test_only_the_largest_vectors_count(reference):
    tuned = planted(reference, 0.0, size=4.5)  # the fifth: 8, 7, 6, 5, then it
    assert [intruder_dimensions(tuned, reference, k, 0.6) for k in (4, 5, 8)] == [0, 1, 1]


@pytest.mark.parametrize("seed", range(4))
def test_random_changes_count_as_numpy_counts(reference, seed):
    change = np.random.default_rng(seed).normal(size=(OUT, IN))
    tuned = reference + torch.from_numpy(1.5 * change).float()
    x, y = (np.linalg.svd(one.double().numpy(), full_matrices=False)[0] for one in (reference, tuned))
    wanted = sum(np.abs(x.T @ y[:, j]).max() < 0.8 for j in range(6))
    assert wanted > 0 and intruder_dimensions(tuned, reference, 6, 0.8) == wanted


def test_a_matrix_has_no_intruders_against_itself_or_a_multiple(reference):
    assert intruder_dimensions(reference, reference, IN, 0.99) == 0
    assert intruder_dimensions(-3 * reference, reference, IN, 0.99) == 0


def test_directions_that_a_matrix_of_low_rank_has_not_are_foreign_to_it():
    """torch gives such a matrix eight left vectors, six of them arbitrary."""
    u, v = orthonormal(OUT, 3, 0), orthonormal(IN, 3, 1)
    low, more = matrix(u[:, :2], [5, 4], v[:, :2]), matrix(u, [5, 4, 9], v)
    assert intruder_dimensions(more, low, 10, 0.6) == 1
    assert intruder_dimensions(low, more, 10, 0.6) == 0
    assert intruder_dimensions(low, torch.zeros(OUT, IN), 10, 0.6) == 2
    assert intruder_dimensions(torch.zeros(OUT, IN), low, 10, 0.6) == 0


def test_drift_is_the_relative_frobenius_norm(reference):
    assert drift(1.25 * reference, reference) == pytest.approx(0.25, rel=1e-6)
    other = torch.from_numpy(np.random.default_rng(5).normal(size=(OUT, IN))).float()
    a, b = other.double().numpy(), reference.double().numpy()
    assert drift(other, reference) == pytest.approx(np.sqrt(((a - b) ** 2).sum() / (b**2).sum()), rel=1e-12)
    assert drift(reference, reference) == 0 and drift(reference, torch.zeros(OUT, IN)) is None


@pytest.mark.parametrize("s, rank", [([2, 2, 2], 3), ([7], 1), ([3, 1], 4 / 3**0.75), ([1, 1e-12], 1)])
def test_effective_rank_in_closed_form(s, rank):
    """Of shares 3/4 and 1/4: exp(-3/4 log 3/4 - 1/4 log 1/4) = 4 / 3^(3/4)."""
    u, v = orthonormal(OUT, len(s), 0), orthonormal(IN, len(s), 1)
    exact = torch.from_numpy((u * np.array(s, dtype=float)) @ v.T)
    assert effective_rank(exact) == pytest.approx(rank, rel=1e-9)


def test_zeros_have_no_rank():
    assert effective_rank(torch.zeros(OUT, IN)) == 0
