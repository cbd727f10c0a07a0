"""LoHa with one product computes what peft's two compute, and is one product less."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kind.adaptation import Start, adapt
from kind.methods import METHODS
from kind.models.joined_loha import JoinedLoHa


@pytest.fixture
def pair(build):
    """A LoHa layer of ours, and the same as peft has it."""
    from peft.tuners.loha.layer import Linear

    method = METHODS["loha"]
    model = adapt(Start(build()), method, method.options(rank=2, alpha=6.0), 3, 0, "random")
    ours = model.transformer_blocks[0].ff.net[0].proj
    assert type(ours) is JoinedLoHa
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    theirs = deepcopy(ours)
    theirs.__class__ = Linear
    return ours, theirs


def test_outputs_and_gradients_are_pefts(pair):
    inputs = torch.randn(5, 7, 32, generator=torch.Generator().manual_seed(1))
    results = []
    for layer in pair:
        own = inputs.clone().requires_grad_(True)
        output = layer(own)
        output.square().sum().backward()
        gradients = {name: p.grad for name, p in layer.named_parameters() if p.requires_grad}
        results.append((output, own.grad, gradients))
    ours, theirs = results
    assert torch.allclose(ours[0], theirs[0], atol=1e-5) and torch.allclose(ours[1], theirs[1], rtol=1e-4, atol=1e-4)
    assert len(ours[2]) == 4
    for name, gradient in ours[2].items():
        assert torch.allclose(gradient, theirs[2][name], rtol=1e-4, atol=1e-3), name


def test_tokens_are_multiplied_once(pair):
    counted = []
    for layer in pair:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(torch.zeros(50, 40, 32))
        counted.append(counter.get_total_flops())
    product = 2 * 50 * 40 * 32 * 128
    assert counted[1] - counted[0] == product and counted[0] < 1.01 * product
