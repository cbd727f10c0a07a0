"""Cutting to a budget: counts equal the analytic ones, and what is dropped is what an independent search would drop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kind.budget import Budget, canonicalised, cut
from kind.errors import UserError
from kind.evaluation.complexity import count_macs, count_parameters
from kind.models.dit import DiTConfig, build_dit
from kind.models.factorized import Factorization, LayerRanks, factorize, factorized_layers
from kind.models.presets import PRESETS

GROUPED = {"groups": (((0, 2), 2), ((1, 2, 3), 1)), "num_tailors": (3, 1, 2, 0, 2), "matrices": ("q", "out", "adaln")}
UNEVEN = {"num_learngenes": {"q": 7, "out": 3, "adaln": 5}}


@pytest.fixture(scope="module", params=["plain", "grouped"])
def model(request, build):
    """Of five classes; the second has tailors of groups, a different number for each class, and AdaLN factorized."""
    if request.param == "plain":
        return build(learngenes=8, tailors=3)
    config = DiTConfig(*PRESETS["micro/2"], image_size=8, channels=3, num_classes=5)
    model = factorize(build_dit(config, 0), Factorization(**{**UNEVEN, **GROUPED}), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@torch.no_grad()
def test_the_canonical_model_computes_the_same(model, model_inputs):
    same = canonicalised(model)
    torch.testing.assert_close(same(*model_inputs(model)), model(*model_inputs(model)), rtol=1e-5, atol=1e-5)
    for name, layer in factorized_layers(same):
        for owner in range(model.gate.num_owners):
            own = layer.rows_of_owner(owner)
            for directions in (layer.tailor_u[own], layer.tailor_v[own]):
                torch.testing.assert_close(directions @ directions.T, torch.eye(len(directions)), atol=1e-5, rtol=0)
            s = layer.tailor_s[own]
            assert torch.equal(s, s.sort(descending=True).values)
        weight = model.get_submodule(name).dense_weight(2)
        torch.testing.assert_close(layer.dense_weight(2), weight, rtol=1e-5, atol=1e-5)
    assert count_parameters(same) == count_parameters(model)


def component(layer):
    return layer.in_features + layer.out_features + 1


@pytest.mark.parametrize("share", [1.0, 0.9, 0.7])
def test_a_budget_of_parameters_is_met_to_less_than_one_component(model, share):
    small = cut(model, Budget("parameters", share)).model
    allowed = int(share * count_parameters(model))
    largest = max(component(layer) for _, layer in factorized_layers(model))
    assert allowed - largest < count_parameters(small) <= allowed
    analytic = count_parameters(model) - sum(
        (layer.num_components - small.get_submodule(name).num_components) * component(layer)
        for name, layer in factorized_layers(model)
    )
    assert count_parameters(small) == analytic == sum(p.numel() for p in small.parameters())
    assert small.factorization.ranks.keys() == {name for name, _ in factorized_layers(model)}


@pytest.mark.parametrize("share", [1.0, 0.93, 0.85])
def test_a_budget_of_macs_holds_for_every_class(model, share):
    small = cut(model, Budget("macs", share)).model
    tokens, allowed = model.config.num_tokens, int(share * count_macs(model))
    largest = tokens * max(component(layer) for _, layer in factorized_layers(model))
    assert allowed - largest < count_macs(small) <= allowed
    for label in range(5):
        one = count_macs(model) - max(spent(model, c) for c in range(5)) + spent(small, label)
        assert one <= allowed


def spent(model, label):
    """MACs of the factorized matrices for an image of this class."""
    tokens = model.config.num_tokens
    return sum(
        (1 if name.endswith("norm1.linear") else tokens) * layer.num_active(label) * component(layer)
        for name, layer in factorized_layers(model)
    )


@pytest.mark.parametrize("rank", [9, 5, 1])
def test_a_rank_holds_for_every_matrix_and_class(model, rank):
    small = cut(model, Budget("rank", rank)).model
    for name, layer in factorized_layers(small):
        before = model.get_submodule(name)
        for label in (*range(5), None):
            assert layer.num_active(label) <= rank
        assert max(layer.num_active(label) for label in range(5)) == min(
            rank, max(before.num_active(label) for label in range(5))
        )


@pytest.mark.parametrize("relative", [True, False])
def test_what_is_dropped_has_less_energy_than_what_stays(model, relative):
    """Energies from numpy's SVD of each group's dense product, scales from the dense matrices."""
    small = cut(model, Budget("parameters", 0.8), relative=relative).model
    gone, stays = [], []
    for name, layer in factorized_layers(model):
        left = small.get_submodule(name)
        owned = [layer.dense_weight(label).double() for label in range(5)]
        scale = np.mean([weight.square().sum() for weight in owned]) if relative else 1.0
        rows = [layer.rows_of_owner(owner) for owner in range(model.gate.num_owners)]
        groups = [layer.dense_weight(None)] + [
            (layer.tailor_u[own].T * layer.tailor_s[own]) @ layer.tailor_v[own] for own in rows
        ]
        kept = [left.num_learngenes, *left.ranks.tailor_counts]
        for weight, count, old in zip(groups, kept, [layer.num_learngenes, *layer.ranks.tailor_counts], strict=True):
            values = np.linalg.svd(weight.detach().double().numpy(), compute_uv=False)[:old] ** 2 / scale
            stays.append(values[:count])
            gone.append(values[count:])
    stays, gone = np.concatenate(stays), np.concatenate(gone)
    assert len(gone) > 10 and len(stays) > 10
    assert gone.max() <= stays.min() * (1 + 1e-4)


def test_only_raw_energies_see_the_scale_of_a_matrix(build):
    """One matrix is made a hundred times larger: raw energies then keep all of it, relative ones choose as before."""

    def counts(relative, scale):
        model = build(learngenes=8, tailors=3)
        layer = model.transformer_blocks[0].ff.net[2]
        with torch.no_grad():
            layer.learngene_s.mul_(scale), layer.tailor_s.mul_(scale)
        small = cut(model, Budget("parameters", 0.75), relative=relative).model
        return {name: layer.ranks for name, layer in factorized_layers(small)}

    changed = "transformer_blocks.0.ff.net.2"
    assert counts(True, 100) == counts(True, 1)
    assert counts(False, 1)[changed] != counts(False, 100)[changed] == LayerRanks(8, (3,) * 5)


def test_kept_energies_are_those_of_the_dense_matrices(model):
    result = cut(model, Budget("parameters", 0.8))
    assert {(one.layer, one.label) for one in result.kept} == {
        (name, label) for name, _ in factorized_layers(model) for label in (*range(5), None)
    }
    for one in result.kept:
        layer, left = model.get_submodule(one.layer), result.model.get_submodule(one.layer)
        whole, kept = layer.dense_weight(one.label).double(), left.dense_weight(one.label).double()
        np.testing.assert_allclose(one.energy.kept, kept.square().sum() / whole.square().sum(), rtol=1e-4)
        residual = (whole - kept).square().sum() / whole.square().sum()
        np.testing.assert_allclose(one.energy.lost, residual, rtol=1e-3, atol=1e-9)
        assert (one.before, one.after) == (layer.num_active(one.label), left.num_active(one.label))


@torch.no_grad()
def test_a_budget_that_drops_nothing_changes_nothing(model, model_inputs):
    same = cut(model, Budget("parameters", count_parameters(model))).model
    torch.testing.assert_close(same(*model_inputs(model)), model(*model_inputs(model)), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_smaller_model_still_computes_and_keeps_what_is_not_factorized(model, model_inputs):
    small = cut(model, Budget("rank", 4)).model
    assert small(*model_inputs(model)).isfinite().all()
    for name, parameter in small.named_parameters():
        if not name.rsplit(".", 1)[-1].startswith(("learngene", "tailor")):
            assert torch.equal(parameter, model.get_parameter(name)), name
    assert small.factorization.null_gate == model.factorization.null_gate and not small.training


def test_budgets_that_cannot_be_met_name_the_least(model):
    rest = count_parameters(model) - sum(
        layer.num_components * component(layer) for _, layer in factorized_layers(model)
    )
    with pytest.raises(UserError, match=f"cannot be met: what is not factorized takes {rest:,}\n  -> give at least"):
        cut(model, Budget("parameters", rest - 1))
    bare = cut(model, Budget("parameters", rest)).model
    assert count_parameters(bare) == rest and all(layer.num_components == 0 for _, layer in factorized_layers(bare))
    assert bare(torch.zeros(1, 3, 8, 8), torch.tensor([1]), torch.tensor([2])).isfinite().all()
    with pytest.raises(UserError, match=f"takes {count_macs(bare):,}"):
        cut(model, Budget("macs", 0.001))
    assert count_macs(cut(model, Budget("macs", count_macs(bare))).model) == count_macs(bare)
    with pytest.raises(UserError, match="a budget of 0 components a sample and matrix cannot be met: the least is 1"):
        cut(model, Budget("rank", 0))


def test_amounts_that_say_nothing_are_refused(build):
    for kind, amount in (("rank", 0.5), ("parameters", 1.5), ("macs", 0.0), ("parameters", float("nan"))):
        with pytest.raises(UserError, match="is needed"):
            Budget(kind, amount)
    with pytest.raises(UserError, match="no budget of kind 'flops'; there are parameters, macs, rank"):
        Budget("flops", 3)
    with pytest.raises(UserError, match="a dense model has no components to drop"):
        cut(build(), Budget("rank", 3))
