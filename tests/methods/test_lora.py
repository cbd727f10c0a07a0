"""LoRA against its formula, and its sizes against the published ones."""

from __future__ import annotations

import pytest
import torch

from kind.adaptation import adapt
from kind.checkpoints import load_start
from kind.methods import METHODS, Adaptation
from kind.models.dit import DiT, DiTConfig
from kind.models.factorized import FACTORIZED
from kind.models.presets import PRESETS

LORA = METHODS["lora"]


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_every_matrix_is_w_plus_scaled_ba(starts, alpha):
    options = LORA.options(rank=3, alpha=alpha)
    model = adapt(load_start("dense", starts.dense), LORA, options, 3, seed=0, label_table="random").double()
    plain = load_start("dense", starts.dense).model
    generator = torch.Generator().manual_seed(0)
    scale = 1.0 if alpha is None else alpha / 3
    for index, block in enumerate(model.transformer_blocks):
        for path in FACTORIZED.values():
            layer = block.get_submodule(path)
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            assert a.shape == (3, layer.in_features)
            assert b.shape == (layer.out_features, 3)
            assert a.any()
            assert not b.any()
            with torch.no_grad():
                b.normal_(generator=generator)
            before = plain.transformer_blocks[index].get_submodule(path)
            weight = before.weight.double() + scale * b @ a
            x = torch.randn(2, 5, layer.in_features, generator=generator, dtype=torch.float64)
            torch.testing.assert_close(layer(x), x @ weight.T + before.bias.double())


@pytest.mark.parametrize("preset, rank, millions", [
    ("B/2", 16, 2.65), ("L/2", 16, 7.08), ("XL/2", 16, 9.29),
    ("B/2", 64, 10.62), ("L/2", 64, 28.31), ("XL/2", 64, 37.16),
])  # fmt: skip
def test_sizes_with_q_k_and_v_apart(preset, rank, millions):
    with torch.device("meta"):
        model = DiT(DiTConfig(*PRESETS[preset], image_size=32, channels=4, num_classes=3, learned_variance=True))
    count = LORA.trainable_parameters(model, LORA.options(rank=rank), Adaptation(3, 0))
    assert round(count / 1e6, 2) == millions


def test_a_rank_beyond_the_matrix_is_a_problem():
    shape = PRESETS["micro/2"]
    assert LORA.problem(LORA.options(rank=32), shape, None, 5, 3) is None
    assert "33 exceeds the rank 32" in LORA.problem(LORA.options(rank=33), shape, None, 5, 3)
