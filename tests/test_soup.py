"""Model soups against their definitions."""

from __future__ import annotations

import torch

from kind.soup import greedy_soup, mean_weights, uniform_soup


def models(*values):
    return [{"a": torch.tensor([v, 2 * v]), "b": torch.tensor(-v, dtype=torch.float64)} for v in values]


def test_the_mean_is_taken_tensor_by_tensor():
    found = mean_weights(models(1.0, 2.0, 6.0))
    assert torch.equal(found["a"], torch.tensor([3.0, 6.0]))
    assert (found["b"].item(), found["a"].dtype, found["b"].dtype) == (-3.0, torch.float32, torch.float64)
    assert uniform_soup(models(1.0, 2.0, 6.0)).members == [0, 1, 2]


def test_the_greedy_soup_keeps_what_does_not_raise_the_loss():
    """Loss |mean - 2|: the best alone is 3 (loss 1); with 0 the mean is 1.5 (0.5, kept); with 7 it would be 10 / 3."""
    found = greedy_soup(models(7.0, 0.0, 3.0), lambda model: abs(model["a"][0].item() - 2))
    assert found.members == [2, 1]
    assert (found.losses, found.loss) == ([5.0, 2.0, 1.0], 0.5)


def test_the_greedy_soup_is_no_worse_than_its_best_member():
    found = greedy_soup(models(2.0, 5.0, 9.0), lambda model: abs(model["a"][0].item() - 2))
    assert (found.members, found.loss) == ([0], 0.0)
