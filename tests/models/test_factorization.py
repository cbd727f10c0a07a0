"""Who owns which components: counts by kind of matrix, by class, by group of classes, and by layer."""

from __future__ import annotations

import json

import pytest
import torch

from kind.models.dit import DiT, DiTConfig, build_dit
from kind.models.factorization import BLOCK, MATRICES, Factorization, LayerRanks, matrix_shape
from kind.models.factorized import factorize, factorized_layers, make_room
from kind.models.gate import ClassGate
from kind.models.learngene import assemble, take_apart
from kind.models.presets import PRESETS

CONFIG = DiTConfig(*PRESETS["micro/2"], image_size=8, channels=3, num_classes=4)
BY_LAYER = {
    BLOCK.format(index, MATRICES[kind]): LayerRanks(6 + index, (3, index, 0, 2, 1))
    for index in range(2)
    for kind in ("q", "k", "v", "o", "in", "out")
}
CASES = {
    "one number": Factorization(8, 2),
    "by kind": Factorization(
        {"q": 4, "in": 9, "adaln": 3}, {"q": 2, "in": (1, 0, 3, 2), "adaln": 1}, matrices=("q", "in", "adaln")
    ),
    "by class": Factorization(8, (3, 0, 2, 1), null_gate="true_class"),
    "groups": Factorization(8, 1, groups=(((0, 2), 3), ((2, 3), 2)), overcomplete=True),
    "by layer": Factorization(0, 0, groups=(((1, 3), 1),), ranks=BY_LAYER),
}
each_case = pytest.mark.parametrize("factorization", CASES.values(), ids=CASES)


def shaken(factorization):
    model = make_room(build_dit(CONFIG, seed=0), factorization)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def outputs(model, labels):
    images = torch.randn(len(labels), 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(images.to(model.label_table), torch.arange(len(labels)) * 90, torch.tensor(labels))


@each_case
def test_it_comes_back_from_json(factorization):
    content = json.loads(json.dumps(factorization.to_dict()))
    assert content == factorization.to_dict()
    assert Factorization.from_dict(content) == factorization


@each_case
def test_every_layer_has_its_counts_and_a_class_its_own_and_its_groups_rows(factorization):
    model = shaken(factorization)
    layers = dict(factorized_layers(model))
    assert list(layers) == [name for name, _ in factorization.layers(2)]
    for name, kind in factorization.layers(2):
        layer = layers[name]
        assert (layer.in_features, layer.out_features) == matrix_shape(kind, CONFIG.width)
        counts = layer.ranks.tailor_counts
        owner_of_row = [owner for owner, count in enumerate(counts) for _ in range(count)]
        for label in range(4):
            groups = [4 + index for index, (members, _) in enumerate(factorization.groups) if label in members]
            wanted = [row for owner in (label, *groups) for row, own in enumerate(owner_of_row) if own == owner]
            u, s, v = layer.components_of(label)
            assert torch.equal(u, layer.tailor_u[wanted]) and torch.equal(v, layer.tailor_v[wanted])
            assert torch.equal(s, layer.tailor_s[wanted])
            assert layer.num_active(label) == layer.num_learngenes + len(wanted)
            weight = sum(torch.outer(layer.tailor_u[r], layer.tailor_v[r]) * layer.tailor_s[r] for r in wanted)
            shared = sum(
                torch.outer(u, v) * s
                for u, s, v in zip(layer.learngene_u, layer.learngene_s, layer.learngene_v, strict=True)
            )
            torch.testing.assert_close(layer.dense_weight(label), (shared + weight).detach(), rtol=1e-4, atol=1e-5)
        assert layer.components_of(None)[1].numel() == layer.components_of(4)[1].numel() == 0


def test_counts_of_the_kinds():
    by_kind, by_class = CASES["by kind"], CASES["by class"]
    assert by_kind.layer_ranks("transformer_blocks.1.attn1.to_q", 4) == LayerRanks(4, (2, 2, 2, 2))
    assert by_kind.layer_ranks("transformer_blocks.0.ff.net.0.proj", 4) == LayerRanks(9, (1, 0, 3, 2))
    assert by_kind.layer_ranks("transformer_blocks.0.norm1.linear", 4) == LayerRanks(3, (1, 1, 1, 1))
    assert CASES["groups"].layer_ranks("transformer_blocks.0.ff.net.2", 4) == LayerRanks(8, (1, 1, 1, 1, 3, 2))
    assert CASES["by layer"].layer_ranks("transformer_blocks.1.ff.net.2", 4) == LayerRanks(7, (3, 1, 0, 2, 1))
    with pytest.raises(ValueError, match="numbers of tailors for 4 classes, but there are 3"):
        by_class.layer_ranks("transformer_blocks.0.ff.net.2", 3)


def test_owners_are_classes_then_groups():
    gate = ClassGate(4, [(0, 2), (2, 3)])
    assert [gate.owners_of(label) for label in (0, 1, 2, 3, 4, None)] == [(0, 4), (1,), (2, 4, 5), (3, 5), (), ()]
    gate.open(torch.tensor([2, 4, 1]))
    assert gate.mask(torch.float32).tolist() == [[0, 0, 1, 0, 1, 1], [0] * 6, [0, 1, 0, 0, 0, 0]]


@each_case
@pytest.mark.parametrize("chosen", [[2], [3, 0], [1, 3, 2, 0]], ids=str)
def test_chosen_classes_compute_what_the_whole_model_does(factorization, chosen):
    model, config = shaken(factorization), CONFIG
    parts = take_apart(model)
    kept = [parts.groups[index] for index in factorization.kept_groups(chosen)]
    smaller = assemble(
        config, factorization.select(chosen), parts.shared, [parts.classes[label] for label in chosen], kept
    )
    own = [index % (len(chosen) + 1) for index in range(8)]
    theirs = [[*chosen, 4][label] for label in own]
    torch.testing.assert_close(outputs(smaller.eval(), own), outputs(model, theirs), rtol=1e-5, atol=1e-5)
    again = take_apart(smaller)
    assert all(torch.equal(again.classes[0][name], value) for name, value in parts.classes[chosen[0]].items())
    alone = assemble(config, factorization, parts.shared, [])
    torch.testing.assert_close(outputs(alone.eval(), [0] * 8), outputs(model, [4] * 8), rtol=1e-5, atol=1e-5)


@each_case
def test_fresh_tailors_replace_all_owners(factorization):
    fresh = factorization.with_tailors(3, 5)
    for name, _ in fresh.layers(2):
        before, after = factorization.layer_ranks(name, 4), fresh.layer_ranks(name, 3)
        assert after == LayerRanks(before.num_learngenes, (5, 5, 5))


def test_adaln_begins_with_zeros_in_random_directions_and_can_learn():
    dense = build_dit(CONFIG, seed=0)
    model = factorize(dense, Factorization(20, 3, matrices=("q", "adaln")), seed=0)
    layer = model.get_submodule("transformer_blocks.0.norm1.linear")
    assert not layer.learngene_s.any() and not layer.tailor_s.any()
    for rows in (layer.learngene_u, layer.learngene_v):
        torch.testing.assert_close(rows @ rows.T, torch.eye(20), rtol=0, atol=1e-5)
        assert (rows.abs() > 0.9).sum() == 0  # no axes
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.proj_out_2.weight.normal_(generator=generator)
    images = torch.randn(4, 3, 8, 8, generator=generator)
    model(images, torch.arange(4), torch.arange(4)).square().sum().backward()
    assert layer.learngene_s.grad.all() and layer.tailor_s.grad.all()


def test_a_model_with_adaln_factorized_equals_the_dense_one():
    with torch.no_grad():
        dense = shaken(Factorization(1, 1, matrices=("q",)))
        plain = DiT(CONFIG)
        generator = torch.Generator().manual_seed(2)
        for parameter in plain.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    plain = plain.double().eval()  # rounding of float32 depends on the machine
    expected = outputs(plain, [0] * 6)
    one_class = Factorization(20, (12, 0, 0, 0), matrices=("q", "k", "v", "o", "in", "out", "adaln"))
    model = factorize(plain, one_class, seed=0).eval()
    torch.testing.assert_close(outputs(model, [0] * 6), expected, rtol=0, atol=1e-10)
    assert not torch.allclose(outputs(model, [1] * 6), expected, atol=1e-3)
    assert dense.gate is not model.gate
