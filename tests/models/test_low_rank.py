"""Cutting dense matrices by SVD, held against numpy's SVD in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kind.evaluation.complexity import count_macs, count_parameters
from kind.models.factorization import BLOCK, FACTORIZED
from kind.models.low_rank import prune, ranks_within

SIX = list(FACTORIZED)


def product_of(layer: nn.Module) -> np.ndarray:
    if isinstance(layer, nn.Linear):
        return layer.weight.detach().double().numpy()
    return layer.up.weight.detach().double().numpy() @ layer.down.weight.detach().double().numpy()


def matrices(model, kinds=SIX):
    names = [
        BLOCK.format(block, ({"adaln": "norm1.linear"} | FACTORIZED)[kind]) for block in range(2) for kind in kinds
    ]
    return {name: model.get_submodule(name) for name in names}


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("share", [0.15, 0.5, 0.8])
def test_each_matrix_is_its_best_approximation_and_nothing_larger_was_dropped(build, share, relative):
    whole, model = build(), build()
    entries = sum(layer.weight.numel() for layer in matrices(whole).values())
    numbers = int(share * entries)
    assert prune(model, SIX, numbers, relative=relative) is model
    held, kept, dropped = 0, [], []
    for name, layer in matrices(model).items():
        weight = product_of(matrices(whole)[name])
        u, s, v = np.linalg.svd(weight, full_matrices=False)
        scale = np.square(s).sum() if relative else 1.0
        if isinstance(layer, nn.Linear):
            assert torch.equal(layer.weight, matrices(whole)[name].weight)
            held += weight.size
            continue
        rank = layer.down.out_features
        best = (u[:, :rank] * s[:rank]) @ v[:rank]
        np.testing.assert_allclose(product_of(layer), best, rtol=0, atol=1e-6)
        lost = np.square(weight - product_of(layer)).sum()
        assert lost == pytest.approx(np.square(s[rank:]).sum(), rel=1e-4), "no approximation of this rank loses less"
        assert torch.equal(layer.up.bias, matrices(whole)[name].bias)
        assert rank * sum(weight.shape) < weight.size, "two thin ones are smaller"
        held += rank * sum(weight.shape)
        kept += list(np.square(s[:rank]) / scale)
        dropped += list(np.square(s[rank:]) / scale)
    assert held <= numbers < held + 5 * 32, "less than a component is left over"
    assert max(dropped) <= min(kept)
    assert count_parameters(model) == count_parameters(whole) - entries + held
    assert count_macs(model) == count_macs(whole) - 16 * (entries - held), "each number is used once a token"


def test_what_is_within_stays_as_it_is(build):
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prune(model, SIX, sum(layer.weight.numel() for layer in matrices(model).values()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_adaln_is_applied_once_an_image(build):
    whole, model = build(), build()
    prune(model, ["adaln"], 1000)
    held = sum(layer.down.out_features * 7 * 32 for layer in matrices(model, ["adaln"]).values())
    assert 0 < held <= 1000
    assert count_macs(model) == count_macs(whole) - 2 * 6 * 32 * 32 + held


def test_the_first_components_of_a_matrix_to_go_save_nothing():
    """4 x 4: rank 4, 3 and 2 cost its 16 entries, rank 1 costs 8, rank 0 nothing."""
    spectra = {"a": np.array([4.0, 3.0, 2.0, 1.0]), "b": np.array([40.0, 30.0, 20.0, 10.0])}
    shapes = {"a": (4, 4), "b": (4, 4)}

    def ranks(numbers, relative=False):
        return list(ranks_within(spectra, shapes, numbers, relative=relative).values())

    assert ranks(32) == [None, None]
    assert ranks(31) == ranks(24) == [1, None]
    assert ranks(23) == [0, None]
    assert ranks(16) == [0, None]
    assert ranks(15) == [0, 1]
    assert ranks(16, relative=True) == [1, 1], "as shares of their matrices' energies both are alike"
