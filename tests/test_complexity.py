"""Parameters and multiply-accumulates against torch's own counter, DiT's published figures and brute force."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kind.evaluation.complexity import count_active_parameters, count_macs, count_parameters, describe_cost
from kind.models.dit import DiT, DiTConfig
from kind.models.factorized import Factorization, factorized_layers, make_room
from kind.models.learngene import assemble, take_apart
from kind.models.presets import PRESETS


def counted(model, label=0):
    """Half the floating-point operations that torch counts in one forward pass for one image."""
    config = model.config
    image = torch.zeros(1, config.channels, config.image_size, config.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image, torch.tensor([5]), torch.tensor([label]))
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


def products_of_attention(model):
    """q k^T and its product with v: torch's counter may not know the CPU's fused kernel."""
    return model.config.depth * 2 * model.config.num_tokens**2 * model.config.width


@pytest.mark.parametrize("sizes", [{}, {"learned_variance": True}, {"num_classes": 9, "channels": 1}], ids=str)
def test_macs_of_a_dense_model_are_those_that_torch_counts(build, sizes):
    model = build(**sizes)
    assert count_macs(model) - counted(model) in (0, products_of_attention(model))
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert count_macs(model) == counted(model)


@pytest.mark.parametrize(
    "preset, exact, published",
    [("S/2", 6_055_673_856, 6.06), ("B/2", 23_005_102_080, 23.01), ("L/2", 80_697_622_528, 80.71),
     ("XL/2", 118_621_421_568, 118.64)],
    ids=["S/2", "B/2", "L/2", "XL/2"],
)  # fmt: skip
def test_macs_of_dit_are_the_published_ones(preset, exact, published):
    """The paper's "Gflops" are multiply-accumulates; its last digits come out when each number that a norm puts out
    counts as one more, which is our reading."""
    config = DiTConfig(*PRESETS[preset], image_size=32, channels=4, num_classes=1000, learned_variance=True)
    with torch.device("meta"):
        model = DiT(config)
    assert count_macs(model) == exact
    depth, width, tokens = config.depth, config.width, 256
    blocks = depth * (12 * tokens * width**2 + 2 * tokens**2 * width + 6 * width**2)
    ends = tokens * 16 * width + 256 * width + width**2 + 2 * width**2 + tokens * 32 * width
    assert blocks + ends == exact
    norms = (2 * depth + 1) * tokens * width
    assert round((exact + norms) / 1e9, 2) == published


def test_macs_of_a_gated_model_are_those_of_the_components_that_it_uses(build):
    model = build(learngenes=8, tailors=2, num_classes=9)  # few components of many: the gathered form
    tokens = model.config.num_tokens
    gains = sum(tokens * layer.num_active(0) for _, layer in factorized_layers(model))  # h * s is no matrix product
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert count_macs(model) == counted(model) + gains
    dense = build()
    saved = sum(
        tokens * (layer.in_features * layer.out_features - 10 * (layer.in_features + layer.out_features + 1))
        for _, layer in factorized_layers(model)
    )
    assert count_macs(dense) - count_macs(model) == saved


def test_macs_do_not_depend_on_how_many_classes_there_are(build):
    few, many = build(learngenes=8, tailors=2, num_classes=2), build(learngenes=8, tailors=2, num_classes=30)
    assert count_macs(few) == count_macs(many)


def test_active_parameters_are_those_of_a_model_of_one_class(build):
    model = build(learngenes=8, tailors=3)
    shared, parts, _ = take_apart(model)
    one = assemble(model.config, model.factorization, shared, parts[:1])
    other_label_rows = 4 * model.config.width  # the label table counts whole
    assert count_active_parameters(model) == count_parameters(one) + other_label_rows
    assert count_active_parameters(one) == count_parameters(one)
    alone = assemble(model.config, model.factorization, shared, [])
    assert count_active_parameters(alone) == count_parameters(alone)


def test_parameters_of_a_gated_model(build):
    dense, model = build(), build(learngenes=8, tailors=3)
    matrices = [(32, 32)] * 4 + [(32, 128), (128, 32)]
    change = 2 * sum((8 + 5 * 3) * (i + o + 1) - i * o for i, o in matrices)
    assert count_parameters(model) - count_parameters(dense) == change
    assert describe_cost(model) == {
        "deployed": count_parameters(model),
        "active": count_active_parameters(model),
        "macs": count_macs(model),
    }


def test_macs_of_kind_at_the_papers_size():
    """Active rank R costs R (in + out + 1) a token in place of in * out: DiT-L/2 with rank 370 saves 35 G."""
    config = DiTConfig(*PRESETS["L/2"], image_size=32, channels=4, num_classes=3, learned_variance=True)
    with torch.device("meta"):
        model = make_room(DiT(config), Factorization(num_learngenes=365, num_tailors=5))
    width, tokens, rank = 1024, 256, 370
    components = 4 * (2 * width + 1) + 2 * (5 * width + 1)
    assert 80_697_622_528 - count_macs(model) == 24 * tokens * (12 * width**2 - rank * components)
