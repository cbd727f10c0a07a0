"""Taking a KIND model apart and putting parts together changes nothing that it computes."""

from __future__ import annotations

import pytest
import torch

from kind.models.dit import renew_label_table
from kind.models.factorized import factorized_layers
from kind.models.learngene import add_fresh_tailors, assemble, take_apart


@pytest.fixture
def model(build):
    return build(learngenes=8, tailors=3)


def test_apart_and_together_is_the_identity(model):
    again = assemble(model.config, model.factorization, *take_apart(model))
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (again.config, again.factorization) == (model.config, model.factorization)
    assert again.gate.num_classes == 5


def test_every_number_of_the_model_is_in_exactly_one_part(model):
    shared, parts, groups = take_apart(model)
    assert (len(parts), len(groups)) == (5, 0)
    total = sum(t.numel() for part in (shared, *parts) for t in part.values())
    assert total == sum(t.numel() for t in model.state_dict().values())


@pytest.mark.parametrize("chosen", [[3], [4, 0], [2, 0, 1, 4, 3]], ids=str)
@torch.no_grad()
def test_chosen_classes_in_any_order_compute_what_the_full_model_does(model, model_inputs, chosen):
    shared, parts, _ = take_apart(model)
    smaller = assemble(model.config, model.factorization, shared, [parts[label] for label in chosen]).eval()
    images, timesteps, _ = model_inputs(model)
    own = torch.arange(12) % (len(chosen) + 1)  # the null class too
    theirs = torch.tensor([*chosen, 5])[own]
    expected = model(images, timesteps, theirs)
    torch.testing.assert_close(smaller(images, timesteps, own), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_learngenes_alone_are_the_full_model_on_the_null_label(model, model_inputs):
    alone = assemble(model.config, model.factorization, take_apart(model)[0], []).eval()
    images, timesteps, _ = model_inputs(model)
    expected = model(images, timesteps, torch.full((12,), 5))
    torch.testing.assert_close(
        alone(images, timesteps, torch.zeros(12, dtype=torch.long)), expected, rtol=1e-5, atol=1e-5
    )
    assert alone.config.num_classes == 0
    assert alone.factorization.num_tailors == 0
    assert all(layer.tailor_s.numel() == 0 for _, layer in factorized_layers(alone))


def test_parts_that_do_not_fit_are_refused(build, model):
    shared, parts, _ = take_apart(model)
    other_shared, other_parts, _ = take_apart(build(learngenes=6, tailors=2))
    with pytest.raises(RuntimeError, match="learngene_u"):
        assemble(model.config, model.factorization, other_shared, parts)
    with pytest.raises(RuntimeError, match="tailor_"):
        assemble(model.config, model.factorization, shared, other_parts)
    with pytest.raises(RuntimeError, match=r"part 1 .*tailor_s is \[2\], where \[3\] is needed"):
        assemble(model.config, model.factorization, shared, [parts[0], other_parts[1]])
    incomplete = {name: tensor for name, tensor in parts[0].items() if not name.endswith("0.attn1.to_q.tailor_v")}
    with pytest.raises(RuntimeError, match=r"0\.attn1\.to_q\.tailor_v"):
        assemble(model.config, model.factorization, shared, [incomplete])


@pytest.mark.parametrize("start", ["random", "zero"])
@torch.no_grad()
def test_fresh_tailors_leave_the_learngenes_and_the_null_label_alone(model, model_inputs, start):
    alone = assemble(model.config, model.factorization, take_apart(model)[0], []).eval()
    before = {name: tensor.clone() for name, tensor in alone.state_dict().items()}
    renew_label_table(alone, 3, seed=0, start="null")
    add_fresh_tailors(alone, num_classes=3, num_tailors=2, start=start, seed=0)
    after = alone.state_dict()
    for name, tensor in before.items():
        if "tailor_" not in name and "embedding_table" not in name:
            assert torch.equal(after[name], tensor), name
    assert after["transformer_blocks.0.ff.net.0.proj.tailor_u"].shape == (6, 128)
    assert alone.factorization.num_tailors == 2
    images, timesteps, _ = model_inputs(model)
    expected = model(images, timesteps, torch.full((12,), 5))
    null, first = torch.full((12,), 3), torch.zeros(12, dtype=torch.long)
    torch.testing.assert_close(alone(images, timesteps, null), expected, rtol=1e-5, atol=1e-5)
    if start == "zero":  # rows copied from the null label and tailors that add nothing
        torch.testing.assert_close(alone(images, timesteps, first), expected, rtol=1e-5, atol=1e-5)
    else:
        assert not torch.allclose(alone(images, timesteps, first), expected, atol=1e-3)


def test_fresh_tailors_depend_on_the_seed_alone(model):
    def drawn(seed):
        torch.rand(3)
        alone = assemble(model.config, model.factorization, take_apart(model)[0], [])
        add_fresh_tailors(renew_label_table(alone, 2, 0, "random"), 2, 3, "random", seed)
        return alone.get_parameter("transformer_blocks.1.attn1.to_v.tailor_v")

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))


def test_fresh_tailors_start_with_the_spectrum_that_pre_training_starts_with(build):
    """Of all components of a draw, so whole spectra compare: q, k and v of DiT have the bound of the fused matrix."""
    width = 32
    whole = build(learngenes=width - 1, tailors=1, num_classes=1, shaken=False)
    alone = build(learngenes=1, tailors=1, num_classes=1, shaken=False)
    add_fresh_tailors(alone, num_classes=1, num_tailors=width, start="random", seed=0)
    for (name, pretrained), (_, fresh) in zip(factorized_layers(whole), factorized_layers(alone), strict=True):
        energy = pretrained.learngene_s.square().sum() + pretrained.tailor_s.square().sum()
        ratio = (fresh.tailor_s.square().sum() / energy).item()
        assert 0.85 < ratio < 1.15, f"{name}: {ratio}"
