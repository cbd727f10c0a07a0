"""Spearman's correlation against scipy, and Mantel's test against one that is written out."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

from kind.analysis.mantel import mantel_test


def symmetric(values: np.ndarray) -> np.ndarray:
    return (values + values.T) / 2


def pairs(matrix: np.ndarray) -> list[float]:
    return [matrix[i, j] for i in range(len(matrix)) for j in range(i)]


def written_out(ours: np.ndarray, theirs: np.ndarray, orders) -> tuple[float, int]:
    """rho, and how many of the orders of `theirs` reach it."""
    rho = spearmanr(pairs(ours), pairs(theirs)).statistic
    return rho, sum(
        spearmanr(pairs(ours), pairs(theirs[np.ix_(order, order)])).statistic >= rho - 1e-9 for order in orders
    )


@pytest.fixture
def matrices():
    """Two that follow a third, more and less, with ties in it."""
    random = np.random.default_rng(5)
    theirs = np.round(symmetric(random.normal(size=(9, 9))), 1)
    noise = [symmetric(random.normal(size=(9, 9))) for _ in range(2)]
    return [theirs + 0.5 * noise[0], noise[1]], theirs


def test_rho_is_spearmans_and_p_counts_the_orders_that_reach_it(matrices):
    ours, theirs = matrices
    found = mantel_test(ours, theirs, 300, seed=3)
    generator = np.random.Generator(np.random.PCG64(3))
    orders = [generator.permutation(9) for _ in range(300)]
    for one, (rho, p) in zip(ours, found, strict=True):
        wanted, reached = written_out(one, theirs, orders)
        assert rho == pytest.approx(wanted, abs=1e-12)
        assert p == (1 + reached) / 301
    assert found[0][1] < 0.02 < found[1][1]


def test_p_tends_to_the_share_of_all_orders():
    """Of four things there are 24."""
    random = np.random.default_rng(0)
    ours, theirs = (symmetric(random.normal(size=(4, 4))) for _ in range(2))
    _, reached = written_out(ours, theirs, [list(order) for order in permutations(range(4))])
    ((_, p),) = mantel_test([ours], theirs, 20_000, seed=0)
    assert p == pytest.approx(reached / 24, abs=0.015)


def test_many_things_in_several_batches_are_what_they_are_in_one(matrices, monkeypatch):
    from kind.analysis import mantel

    ours, theirs = matrices
    at_once = mantel_test(ours, theirs, 50, seed=1)
    monkeypatch.setattr(mantel, "BATCH", 7 * 81)
    assert mantel_test(ours, theirs, 50, seed=1) == at_once


def test_what_follows_exactly_has_the_least_p_and_the_diagonal_plays_no_part(matrices):
    _, theirs = matrices
    other = np.exp(theirs) + 100 * np.eye(9)
    ((rho, p),) = mantel_test([other], theirs, 99, seed=0)
    assert rho == pytest.approx(1) and p == 0.01
    ((rho, p),) = mantel_test([-other], theirs, 99, seed=0)
    assert rho == pytest.approx(-1) and p == 1


def test_where_nothing_differs_there_is_nothing_to_say(matrices):
    ours, theirs = matrices
    assert mantel_test([np.ones((9, 9)), ours[0]], theirs, 9, seed=0)[0] == (None, None)
    assert mantel_test([ours[0]], np.ones((9, 9)), 9, seed=0) == [(None, None)]
    assert mantel_test([np.eye(2)], np.eye(2), 9, seed=0) == [(None, None)]
    assert mantel_test([np.eye(0)], np.eye(0), 9, seed=0) == [(None, None)]
