"""SaRA's and LT-SFT's training, step by step, against loops written here from their definitions."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from kind.adaptation import Start, adapt, fill, learned_tensors
from kind.diffusion import Diffusion
from kind.errors import UserError
from kind.methods import METHODS
from kind.models.dit import LABEL_TABLE
from kind.params import Training
from kind.random_streams import batch_indices
from kind.training import Plan, average_decay, learning_rate_at, train
from kind.training_routine import routine_of

IMAGES = torch.randint(256, (20, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS, SEED, RATE = torch.arange(20) % 5, 4, 1e-3
SETTINGS = Training(steps=8, batch_size=6, learning_rate=RATE, log_every=2, ema_decay=0.6, warmup_steps=2)
GIVEN = {"sara": {"share": 0.3, "rank_penalty": 0.01}, "lt-sft": {"share": 0.1}}
VALUES, POSITIONS = "deltas.values", "deltas.positions"
each_method = pytest.mark.parametrize("name", GIVEN)


def attached(name, build):
    method = METHODS[name]
    return adapt(Start(build()), method, method.options(**GIVEN[name]), 5, SEED, "random")


def run(name, model, folder, **changes):
    method, options = METHODS[name], METHODS[name].options(**GIVEN[name])
    plan = Plan(
        SETTINGS.model_copy(update=changes), Diffusion("linear", "v"), RATE, SEED, "a recipe", checkpoint_seconds=0.0
    )
    plan = dataclasses.replace(
        plan, snapshot_steps=(3, 4, 6), routine=routine_of(method, options, SETTINGS.steps, SEED)
    )
    return train(model, IMAGES, LABELS, plan, folder / "state.pt", "a run")


def recorded(model):
    """What the model is asked in each step."""
    asked = []
    model.register_forward_pre_hook(lambda _, given: asked.append([one.clone() for one in given[:3]]))
    return asked


@each_method
@pytest.mark.parametrize("killed_at", [3, 4, 5, 7])
def test_a_killed_run_ends_with_the_same_bits(name, killed_at, build, tmp_path):
    expected = run(name, attached(name, build), tmp_path / "whole", weight_decay=0.1)
    model, calls = attached(name, build), iter(range(99))

    def kill(*_):
        if next(calls) == killed_at:
            raise KeyboardInterrupt

    model.register_forward_pre_hook(kill)
    with pytest.raises(KeyboardInterrupt):
        run(name, model, tmp_path, weight_decay=0.1)
    again = run(name, attached(name, build), tmp_path, weight_decay=0.1)
    assert again.cost["resumes"] == 1
    for found, wanted in (
        (again.raw, expected.raw),
        *((again.averaged[s], expected.averaged[s]) for s in (3, 4, 6, 8)),
    ):
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


class Reference:
    """A plain model stepped by torch's AdamW with the trainer's rates and averages, on what the real run was asked."""

    def __init__(self, build, label_table, steps):
        self.model = build().train()
        self.weights = [p for key, p in self.model.named_parameters() if key != LABEL_TABLE]
        with torch.no_grad():
            self.model.label_table.copy_(label_table)
        self.settings = SETTINGS.model_copy(update={"steps": steps})
        self.begin()

    def begin(self):
        self.adam = torch.optim.AdamW(self.model.parameters(), lr=0.0, weight_decay=0.0, fused=True)
        self.average = {key: p.detach().clone() for key, p in self.model.named_parameters()}

    def step(self, step, asked, images, mask=None, penalty=None):
        noisy, times, labels = asked
        product = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)[times][:, None, None, None]
        noise = (noisy - product.sqrt() * images) / (1 - product).sqrt()
        loss = (
            (self.model(noisy, times, labels) - (product.sqrt() * noise - (1 - product).sqrt() * images))
            .square()
            .mean()
        )
        self.adam.zero_grad()
        (loss if penalty is None else loss + penalty()).backward()
        for weight, kept in zip(self.weights, mask or [], strict=mask is not None):
            weight.grad *= kept
        self.adam.param_groups[0]["lr"] = learning_rate_at(step, RATE, self.settings)
        self.adam.step()
        with torch.no_grad():
            for key, parameter in self.model.named_parameters():
                self.average[key].lerp_(parameter, 1 - average_decay(step, self.settings.ema_decay))


def images_of(step):
    return IMAGES[batch_indices(20, 6, step, SEED)].float() / 127.5 - 1


def nearly_all_equal(found, wanted):
    """But for entries whose gradient is rounding: AdamW makes steps of full length of them."""
    assert ((found - wanted).abs() < 2e-5).double().mean() > 0.99
    torch.testing.assert_close(found, wanted, rtol=0, atol=20 * RATE)


def test_lt_sft_keeps_what_moved_most_rewinds_and_trains_it_alone(build, tmp_path):
    model = attached("lt-sft", build)
    label_start, asked = model.label_table.detach().clone(), recorded(model)
    outcome = run("lt-sft", model, tmp_path)

    reference = Reference(build, label_start, steps=4)
    start = torch.cat([w.detach().flatten() for w in reference.weights])
    for step in range(4):
        reference.step(step, asked[step], images_of(step))
    moved = torch.cat([w.detach().flatten() for w in reference.weights]) - start
    count = round(0.1 * len(start))
    expected = moved.abs().topk(count).indices.sort().values
    found = outcome.raw[POSITIONS]
    assert len(found) == count
    assert torch.isin(found, expected).double().mean() > 0.98

    before = outcome.averaged[4]  # at the turn: the largest changes of the averages, not retrained
    averaged = torch.cat([reference.average[key].flatten() for key in reference.average if key != LABEL_TABLE]) - start
    assert torch.isin(before[POSITIONS], averaged.abs().topk(count).indices).double().mean() > 0.98
    nearly_all_equal(before[VALUES], averaged[before[POSITIONS]])

    mask = torch.zeros_like(start).index_fill(0, found, 1.0).split([w.numel() for w in reference.weights])
    reference = Reference(build, label_start, steps=4)
    for step in range(4):
        reference.step(
            step,
            asked[4 + step],
            images_of(4 + step),
            [m.view_as(w) for m, w in zip(mask, reference.weights, strict=True)],
        )
    end = torch.cat([w.detach().flatten() for w in reference.weights])
    nearly_all_equal(outcome.raw[VALUES], (end - start)[found])
    nearly_all_equal(outcome.raw[LABEL_TABLE], reference.model.label_table.detach())
    averaged = torch.cat([reference.average[key].flatten() for key in reference.average if key != LABEL_TABLE])
    nearly_all_equal(outcome.averaged[8][VALUES], (averaged - start)[found])


def test_sara_trains_small_weights_and_freezes_those_that_outgrow_the_threshold(build, tmp_path, monkeypatch):
    model = attached("sara", build)
    asked, chosen = recorded(model), []
    draw = torch.randint
    monkeypatch.setattr(
        "kind.sparse_routines.torch.randint", lambda *a, **k: chosen.append(draw(*a, **k)) or chosen[-1]
    )
    label_start = model.label_table.detach().clone()
    outcome = run("sara", model, tmp_path)
    chosen = [int(one) for one in chosen if one.numel() == 1]

    reference = Reference(build, label_start, steps=8)
    reference.weights = matrices = [w for w in reference.weights if w.dim() >= 2]
    vectors = [p for p in reference.model.parameters() if p.dim() < 2]
    flat = torch.cat([w.detach().flatten() for w in matrices])
    count = round(0.3 * len(flat))
    threshold = flat.abs().sort().values[count - 1]
    trained = flat.abs() <= threshold
    masks = [m.view_as(w) for m, w in zip(trained.split([w.numel() for w in matrices]), matrices, strict=True)]
    for parameter in vectors:
        parameter.requires_grad_(False)
    for step in range(8):
        if step == 4:  # those that are still below go on, and AdamW begins anew; the averages do not
            masks = [mask & (w.detach().abs() <= threshold) for mask, w in zip(masks, matrices, strict=True)]
            average = reference.average
            reference.begin()
            reference.average = average
        weight, mask = matrices[chosen[step]], masks[chosen[step]]
        u, _, v = torch.linalg.svd((weight * mask).detach().flatten(1).double(), full_matrices=False)
        slope = (0.01 * (u @ v)).float().view_as(weight)  # of the nuclear norm
        reference.step(step, asked[step], images_of(step), masks, lambda w=weight, m=mask, g=slope: (w * m * g).sum())
    assert 0 < sum(int(m.sum()) for m in masks) < count, "some outgrew the threshold"
    assert len(set(chosen)) > 2

    end = torch.cat([w.detach().flatten() for w in matrices])
    nearly_all_equal(outcome.raw[VALUES], (end - flat)[trained])
    names = [key for key, p in reference.model.named_parameters() if p.dim() >= 2 and key != LABEL_TABLE]
    averaged = torch.cat([reference.average[key].flatten() for key in names])
    nearly_all_equal(outcome.averaged[8][VALUES], (averaged - flat)[trained])
    assert POSITIONS not in outcome.raw, "they follow from the backbone"


def test_weight_decay_does_not_move_what_sara_has_frozen(build, tmp_path):
    outcome = run("sara", attached("sara", build), tmp_path, weight_decay=10.0, steps=8)
    model = attached("sara", build)
    start = torch.cat([w.detach().flatten() for w in _matrices(build())])[model.deltas.positions]
    half = run("sara", attached("sara", build), tmp_path / "half", weight_decay=10.0, steps=4).raw[VALUES]
    threshold = torch.cat([w.detach().flatten() for w in _matrices(build())]).abs().sort().values[len(half) - 1]
    grown = (start + half).abs() > threshold
    assert grown.any()
    assert torch.equal(outcome.raw[VALUES][grown], half[grown])
    assert not torch.equal(outcome.raw[VALUES][~grown], half[~grown])


def test_of_equally_small_weights_sara_trains_the_first(build):
    start = build()
    with torch.no_grad():
        for weight in _matrices(start):
            weight.copy_((weight * 4).round() / 4 + 0.125)  # few different magnitudes
    flat = torch.cat([w.detach().flatten() for w in _matrices(start)])
    method = METHODS["sara"]
    model = adapt(Start(start), method, method.options(**GIVEN["sara"]), 5, SEED, "random")
    expected = flat.abs().argsort(stable=True)[: round(0.3 * len(flat))].sort().values
    assert torch.equal(model.deltas.positions, expected)


def test_sara_refuses_a_backbone_of_zeros(build, tmp_path):
    method = METHODS["sara"]
    model = adapt(Start(build(shaken=False)), method, method.options(share=0.1, rank_penalty=0.0), 5, SEED, "random")
    with pytest.raises(UserError, match="so many are exactly 0"):
        routine_of(method, method.options(share=0.1, rank_penalty=0.0), 8, SEED)(model)


def test_a_single_step_of_lt_sft_selects_what_moved(build, tmp_path):
    model = attached("lt-sft", build)
    method, options = METHODS["lt-sft"], METHODS["lt-sft"].options(**GIVEN["lt-sft"])
    plan = Plan(SETTINGS.model_copy(update={"steps": 1}), Diffusion("linear", "v"), RATE, SEED, "a recipe")
    plan = dataclasses.replace(plan, routine=routine_of(method, options, 1, SEED))
    outcome = train(model, IMAGES, LABELS, plan, tmp_path / "state.pt", "a run")
    assert outcome.raw[POSITIONS].max() > 2 * len(outcome.raw[POSITIONS]), "not simply the first"
    assert (outcome.raw[VALUES] != 0).all()


@pytest.mark.parametrize("wrong", ["falling", "beyond", "negative"])
def test_positions_of_a_changed_file_are_refused(build, wrong):
    model = attached("lt-sft", build)
    tensors = {name: tensor.detach().clone() for name, tensor in learned_tensors(model).items()}
    positions = tensors[POSITIONS]
    positions[0] = {"falling": 5, "beyond": positions[0], "negative": -1}[wrong]
    positions[-1] = 10**9 if wrong == "beyond" else positions[-1]
    with pytest.raises(UserError, match="positions of sparse changes do not rise from 0 to below [0-9]+"):
        fill(model, tensors)


def _matrices(model):
    return [p for key, p in model.named_parameters() if key != LABEL_TABLE and p.dim() >= 2]
