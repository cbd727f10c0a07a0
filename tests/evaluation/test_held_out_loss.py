"""Held-out losses: the training objective, on the same noise whatever the model or the batch."""

from __future__ import annotations

import pytest
import torch

from kind.diffusion import Diffusion
from kind.evaluation.held_out_loss import held_out_losses
from kind.random_streams import stream


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (6, 3, 8, 8), generator=generator, dtype=torch.uint8), torch.arange(6) % 2


class Echo(torch.nn.Module):
    """Predicts what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, noisy, times, labels, gate_labels):
        return noisy


def losses(model, data, draws=2, seed=0, batch_size=4):
    return held_out_losses(model, Diffusion(num_train_timesteps=50), *data, draws, seed, batch_size)


def test_they_are_the_objective_by_its_formula(data):
    """mean |eps - x_t|^2 with x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps, over the draws."""
    images = data[0].double() / 127.5 - 1
    betas = torch.linspace(1e-4, 0.02, 50, dtype=torch.float64)
    kept = torch.cumprod(1 - betas, 0)
    wanted = torch.zeros(6, dtype=torch.float64)
    for draw in range(3):
        generator = stream(7, "held out", draw)
        noise = torch.randn(images.shape, generator=generator).double()
        share = kept[torch.randint(50, (6,), generator=generator)][:, None, None, None]
        noisy = share.sqrt() * images + (1 - share).sqrt() * noise
        wanted += (noise - noisy).square().flatten(1).mean(1) / 3
    assert torch.allclose(losses(Echo(), data, draws=3, seed=7), wanted, rtol=1e-5)


def test_the_batch_does_not_move_them_and_the_seed_does(build, data):
    model = build(num_classes=2)
    found = losses(model, data)
    assert torch.allclose(found, losses(model, data, batch_size=6), rtol=1e-5)
    assert not torch.allclose(found, losses(model, data, seed=1), rtol=1e-3)


def test_the_label_counts(build, data):
    model = build(num_classes=2)
    assert not torch.allclose(losses(model, data), losses(model, (data[0], 1 - data[1])), rtol=1e-3)
