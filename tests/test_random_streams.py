"""Random numbers depend on seed, purpose and position, never on what was drawn before."""

from __future__ import annotations

import pytest
import torch

from kind.random_streams import batch_indices, derive_seed, stream


def test_a_stream_depends_on_its_parts_alone():
    expected = torch.randn(5, generator=stream(3, "diffusion", 7))
    torch.rand(11)
    stream(3, "diffusion", 6)
    assert torch.equal(torch.randn(5, generator=stream(3, "diffusion", 7)), expected)
    for other in ((4, "diffusion", 7), (3, "order", 7), (3, "diffusion", 8)):
        assert not torch.equal(torch.randn(5, generator=stream(*other)), expected)


def test_seeds_are_the_same_on_every_machine():
    assert derive_seed(0, "sample", 1) == 4703416825124098946
    assert 0 <= derive_seed("anything") < 2**63


def test_streams_of_neighbouring_samples_are_uncorrelated():
    draws = torch.stack([torch.randn(400, generator=stream(0, "sample", i)) for i in range(50)])
    correlation = torch.corrcoef(draws).fill_diagonal_(0)
    assert correlation.abs().max() < 0.25  # 5 / sqrt(400)


@pytest.mark.parametrize("num_images, batch_size", [(10, 4), (7, 7), (5, 12), (9, 1)])
def test_each_epoch_visits_every_image_once(num_images, batch_size):
    row = torch.cat([batch_indices(num_images, batch_size, step, seed=1) for step in range(30)])
    assert len(row) == 30 * batch_size
    epochs = row[: len(row) // num_images * num_images].reshape(-1, num_images)
    assert torch.equal(epochs.sort(dim=1).values, torch.arange(num_images).expand_as(epochs))
    assert len(epochs) < 2 or num_images < 3 or not torch.equal(epochs[0], epochs[1])  # shuffled anew


def test_a_batch_depends_on_seed_and_step_only():
    expected = [batch_indices(10, 4, step, seed=1) for step in range(8)]
    for step in (7, 2, 5, 0):
        batch_indices(10, 4, step, seed=2)
        assert torch.equal(batch_indices(10, 4, step, seed=1), expected[step])
    assert any(not torch.equal(batch_indices(10, 4, step, seed=2), expected[step]) for step in range(8))
