"""The training loop: what it repeats bit for bit, what it trains, and the formulas that it follows."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import time

import pytest
import torch

from kind.batches import Batches, Replay, to_model_range
from kind.diffusion import Diffusion
from kind.divergence import Diverged
from kind.errors import Unfinished
from kind.models.factorized import TAILOR_TENSORS
from kind.params import Training
from kind.random_streams import batch_indices
from kind.training import Plan, average_decay, learning_rate_at, train

IMAGES = torch.randint(256, (20, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.arange(20) % 5


def settings(**changes):
    return Training(
        **{"steps": 10, "batch_size": 6, "learning_rate": 1e-3, "log_every": 5, "ema_decay": 0.9, **changes}
    )


def make_plan(*, diffusion=None, learning_rate=1e-3, seed=7, recipe="a recipe", null_gate="learngenes", **changes):
    own = {name: changes.pop(name) for name in ("snapshot_steps", "checkpoint_seconds", "ends") if name in changes}
    diffusion = diffusion or Diffusion("cosine", "v")
    return Plan(settings(**changes), diffusion, learning_rate, seed, recipe, null_gate, **own)


def run(model, tmp_path, images=IMAGES, labels=LABELS, **changes):
    return train(model, images, labels, make_plan(**changes), tmp_path / "state.pt", "a run")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def kill_at(model, step):
    """The model's forward pass number `step` (from 0) ends the process's work, as a kill would."""
    calls = iter(range(step + 1))

    def hook(*_):
        if next(calls) == step:
            raise KeyboardInterrupt

    model.register_forward_pre_hook(hook)


# --- repeating and resuming -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes", [{}, {"learngenes": 8, "tailors": 2}, {"learngenes": 8, "tailors": 0}], ids=["dense", "kind", "all shared"]
)
def test_a_killed_run_goes_on_and_ends_with_the_same_bits(build, tmp_path, sizes):
    plan = {"snapshot_steps": (3, 8), "checkpoint_seconds": 0.0, "learning_rate_schedule": "cosine", "warmup_steps": 3}
    expected = run(build(**sizes), tmp_path / "whole", **plan)
    killed = build(**sizes)
    kill_at(killed, 7)  # after the state of step 5 was saved
    with pytest.raises(KeyboardInterrupt):
        run(killed, tmp_path, **plan)
    torch.manual_seed(99)  # another process: nothing of the first is left but its file
    resumed = run(build(**sizes), tmp_path, **plan)
    assert (resumed.cost["resumes"], expected.cost["resumes"]) == (1, 0)
    assert resumed.cost["steps"] == 10
    assert same(resumed.raw, expected.raw)
    assert resumed.averaged.keys() == expected.averaged.keys() == {3, 8, 10}
    assert all(same(resumed.averaged[step], expected.averaged[step]) for step in (3, 8, 10))
    assert resumed.log == expected.log
    assert [row["step"] for row in resumed.log] == [5, 10]
    live = (tmp_path / "live.csv").read_text()
    assert live == (tmp_path / "whole" / "live.csv").read_text(), "steps that are done again are written once"
    assert live.splitlines()[0] == "step,loss,learning_rate,gradient_norm" and len(live.splitlines()) == 3
    assert not same(expected.averaged[3], expected.averaged[8])


def test_a_run_does_not_depend_on_the_global_random_stream(build, tmp_path):
    first = run(build(), tmp_path / "first")
    torch.rand(13)
    assert same(run(build(), tmp_path / "again").raw, first.raw)
    assert not same(run(build(), tmp_path / "other", seed=8).raw, first.raw)


def test_state_of_another_recipe_is_not_resumed(build, tmp_path, capsys):
    killed = build()
    kill_at(killed, 7)
    with pytest.raises(KeyboardInterrupt):
        run(killed, tmp_path, checkpoint_seconds=0.0, recipe="another")
    outcome = run(build(), tmp_path)
    assert "another recipe" in capsys.readouterr().out
    assert outcome.cost["resumes"] == 0
    assert same(outcome.raw, run(build(), tmp_path / "fresh").raw)


# --- time and signals -----------------------------------------------------------------------------------------


def signal_at(model, step, number):
    """The model's forward pass number `step` (from 0) gets a signal, in the middle of the step."""
    calls = iter(range(1000))
    model.register_forward_pre_hook(lambda *_: os.kill(os.getpid(), number) if next(calls) == step else None)


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGTERM, Unfinished), (signal.SIGUSR1, Unfinished), (signal.SIGINT, KeyboardInterrupt)],
    ids=["SIGTERM", "SIGUSR1", "Ctrl-C"],
)
def test_a_signal_ends_training_after_its_step_with_the_state_saved(build, tmp_path, number, error):
    """Half way between two rows of the log, so that the next row is of steps before and after."""
    expected = run(build(), tmp_path / "whole")
    model = build()
    signal_at(model, 6, number)
    with pytest.raises(error) as caught:
        run(model, tmp_path)
    if error is Unfinished:
        assert str(caught.value) == f"a run: {number.name} came after step 7 of 10"
    resumed = run(build(), tmp_path)
    assert resumed.cost["resumes"] == 1
    assert same(resumed.raw, expected.raw) and same(resumed.averaged[10], expected.averaged[10])
    assert resumed.log == expected.log


def test_training_stops_before_its_time_ends_and_goes_on_by_at_least_a_step(build, tmp_path, capsys):
    expected = run(build(), tmp_path / "whole", steps=4)
    for step in (1, 2, 3):  # even where no time is left
        with pytest.raises(Unfinished, match=f"a run: time is up after step {step} of 4"):
            run(build(), tmp_path, steps=4, ends=time.time() - 1)
    resumed = run(build(), tmp_path, steps=4, ends=time.time() + 3600)
    assert capsys.readouterr().out.split("resuming after step ")[1:] == ["1\na run: ", "2\na run: ", "3\n"]
    assert resumed.cost["resumes"] == 3 and same(resumed.raw, expected.raw) and resumed.log == expected.log


# --- formulas -------------------------------------------------------------------------------------------------


def test_learning_rates():
    constant = settings(steps=10, warmup_steps=4)
    assert [learning_rate_at(step, 8.0, constant) for step in (0, 1, 3, 4, 9)] == [2.0, 4.0, 8.0, 8.0, 8.0]
    cosine = settings(steps=10, warmup_steps=2, learning_rate_schedule="cosine")
    found = [learning_rate_at(step, 8.0, cosine) for step in range(10)]
    assert found[:3] == [4.0, 8.0, 8.0]
    assert found[2:] == pytest.approx([4 * (1 + math.cos(math.pi * k / 8)) for k in range(8)])
    assert found[6] == pytest.approx(4.0)  # half way
    assert learning_rate_at(10, 8.0, cosine) == pytest.approx(0.0)
    assert learning_rate_at(0, 8.0, settings(steps=1, warmup_steps=0, learning_rate_schedule="cosine")) == 8.0


def test_the_rate_of_the_schedule_is_the_rate_of_the_step(build, tmp_path):
    """AdamW's first step moves every weight by the learning rate, whatever the gradient's size."""
    before = {name: p.detach().clone() for name, p in build().named_parameters()}
    outcome = run(build(), tmp_path, steps=1, warmup_steps=4, learning_rate=0.08)
    moved = (outcome.raw["proj_out_2.weight"] - before["proj_out_2.weight"]).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.02), rtol=1e-3, atol=0)
    assert outcome.log[0]["learning_rate"] == 0.02


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9999])
def test_averages_follow_their_formula(build, tmp_path, decay):
    """theta' <- d_t theta' + (1 - d_t) theta, d_t = min(decay, (1 + t) / (10 + t)), in an explicit float64 loop."""
    average = {name: p.detach().double() for name, p in build().named_parameters()}
    for step in range(4):
        # the run's first steps do not depend on how many follow, so that the raw weights after each are at hand
        outcome = run(build(), tmp_path / str(step), steps=step + 1, learning_rate=0.1, ema_decay=decay)
        d = min(decay, (1 + step) / (10 + step))
        average = {name: d * average[name] + (1 - d) * value.double() for name, value in outcome.raw.items()}
        for name, value in outcome.averaged[step + 1].items():
            torch.testing.assert_close(value.double(), average[name], rtol=1e-5, atol=1e-6, msg=name)


def test_decay_of_the_average_warms_up():
    assert [average_decay(step, 0.95) for step in (0, 90, 10**6)] == [0.1, 0.91, 0.95]


def test_one_step_is_adamw_on_the_mean_loss(build, tmp_path):
    """A step by hand: the same images, noise, times and labels through torch's plain AdamW."""
    model, seen = build(), {}
    model.register_forward_pre_hook(
        lambda _, given: seen.update(zip(("noisy", "times", "labels"), given, strict=False))
    )
    outcome = run(model, tmp_path, steps=1, weight_decay=0.1, learning_rate=0.01, diffusion=Diffusion("linear", "v"))

    product = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    product = product[seen["times"]][:, None, None, None]
    images = IMAGES[batch_indices(20, 6, step=0, seed=7)].double() / 127.5 - 1
    noise = (seen["noisy"] - product.sqrt() * images) / (1 - product).sqrt()
    target = product.sqrt() * noise - (1 - product).sqrt() * images
    reference = build().train()
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.01, weight_decay=0.1, fused=False, foreach=False)
    loss = (reference(seen["noisy"], seen["times"], seen["labels"]).double() - target).square().mean()
    loss.backward()
    optimizer.step()
    assert outcome.log[0]["loss"] == pytest.approx(loss.item(), rel=1e-4)
    norm = torch.stack([p.grad.norm() for p in reference.parameters()]).norm().item()
    assert outcome.log[0]["gradient_norm"] == pytest.approx(norm, rel=1e-3)
    for name, parameter in reference.named_parameters():
        large = parameter.grad.abs() > 1e-3  # where the gradient is rounding, so is AdamW's first step
        torch.testing.assert_close(outcome.raw[name][large], parameter[large], rtol=1e-4, atol=1e-5, msg=name)


def test_images_reach_the_model_in_its_range():
    assert to_model_range(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]
    assert to_model_range(torch.tensor([51], dtype=torch.uint8)).item() == pytest.approx(-0.6)


# --- what is trained and with what ----------------------------------------------------------------------------


def test_only_what_requires_gradients_is_trained(build, tmp_path):
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.requires_grad_(False)
    model.proj_out_2.requires_grad_(True)
    outcome = run(model, tmp_path, weight_decay=0.1)
    assert outcome.raw.keys() == outcome.averaged[10].keys() == {"proj_out_2.weight", "proj_out_2.bias"}
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == outcome.raw.keys()


@pytest.mark.parametrize("policy", ["learngenes", "true_class"])
def test_null_gate_policy_decides_whether_dropped_labels_train_tailors(build, tmp_path, policy):
    model = build(learngenes=8, tailors=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    outcome = run(model, tmp_path, label_dropout=0.99999, null_gate=policy)
    for name, tensor in outcome.raw.items():
        if name.rsplit(".", 1)[-1] in TAILOR_TENSORS:
            assert torch.equal(tensor, before[name]) == (policy == "learngenes"), name
    table = "embedder.class_embedder.embedding_table.weight"
    assert torch.equal(outcome.raw[table][:5], before[table][:5])
    assert not torch.equal(outcome.raw[table][5], before[table][5])


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_labels_are_dropped_at_their_rate_and_stay_with_their_images(build, tmp_path, share):
    model, seen = build(), []
    model.register_forward_pre_hook(lambda _, given: seen.append(given))
    grey = (LABELS[:, None, None, None] * 60).expand(20, 3, 8, 8).to(torch.uint8)
    almost_no_noise = Diffusion("linear", "epsilon", num_train_timesteps=1)
    run(model, tmp_path, images=grey, diffusion=almost_no_noise, steps=40, batch_size=20, label_dropout=share)
    noisy, labels = torch.cat([given[0] for given in seen]), torch.cat([given[2] for given in seen])
    kept = labels < 5
    own = ((noisy.mean((1, 2, 3)) + 1) * 127.5 / 60).round().long()
    assert torch.equal(labels[kept], own[kept])
    assert torch.equal(labels[~kept], torch.full_like(labels[~kept], 5))
    dropped = 1 - kept.double().mean().item()
    assert dropped == 0 if share == 0 else abs(dropped - share) < 0.06  # 800 draws: 3.7 standard deviations
    assert torch.equal(own.bincount(), torch.full((5,), 160))  # 40 epochs of 4 images a class


def test_timesteps_are_uniform_and_noise_is_normal(build, tmp_path):
    model, seen = build(), []
    model.register_forward_pre_hook(lambda _, given: seen.append(given))
    run(model, tmp_path, diffusion=Diffusion("linear", "epsilon"), steps=40, batch_size=20)
    times = torch.cat([given[1] for given in seen]).double()
    assert times.min() < 20
    assert times.max() > 980
    assert abs(times.mean() - 499.5) < 40  # 800 draws: 10 is one standard deviation
    noisy = torch.cat([given[0] for given in seen])[times > 900]
    assert abs(noisy.std() - 1) < 0.02


def test_the_gradient_is_clipped(build, tmp_path):
    """Clipped far below AdamW's epsilon of 1e-8, gradients hardly move a weight; the log has the norm before."""
    before = build().state_dict()
    free, clipped = run(build(), tmp_path / "free"), run(build(), tmp_path / "clipped", gradient_clip=1e-13)

    def moved(outcome):
        return max((value - before[name]).abs().max().item() for name, value in outcome.raw.items())

    assert moved(free) > 1e-3
    assert moved(clipped) < 1e-6
    assert clipped.log[0]["gradient_norm"] > 0.1


@pytest.mark.parametrize(
    ("checkpoint_seconds", "log_every"),
    [(0.0, 10), (60.0, 10), (60.0, 7)],
    ids=["saved after each step", "not saved", "right after a row of the log"],
)
def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(build, tmp_path, checkpoint_seconds, log_every):
    """In the very step, wherever the log's rows lie; what was saved before is sound."""
    model, calls = build(), iter(range(100))
    model.register_forward_hook(lambda _, given, output: output * (torch.nan if next(calls) == 7 else 1))
    indices = batch_indices(20, 9, step=7, seed=7).tolist()
    message = (
        rf"a run: the loss or its gradient is not finite in step 8: loss nan, gradient norm nan, learning rate 0\.001, "
        rf"last finite loss \d\.\d+, training images {', '.join(map(str, indices[:8]))} and 1 more\n  -> lower the"
    )
    plan = {"checkpoint_seconds": checkpoint_seconds, "log_every": log_every, "batch_size": 9, "warmup_steps": 8}
    with pytest.raises(Diverged, match=message) as caught:
        run(model, tmp_path, steps=30, **plan)
    finite = caught.value.facts.pop("last_finite_loss")
    assert caught.value.facts == {"step": 8, "learning_rate": 0.001, "images": indices}
    whole = run(build(), tmp_path / "whole", **plan | {"steps": 7, "log_every": 1})
    assert finite == whole.log[-1]["loss"]
    resumed = run(build(), tmp_path, steps=10, **plan)
    assert resumed.cost["resumes"] == (1 if checkpoint_seconds == 0 else 0)
    assert same(resumed.raw, run(build(), tmp_path / "again", steps=10, **plan).raw)


def test_the_loss_falls_on_a_toy_problem(build, tmp_path):
    grey = (LABELS[:, None, None, None] * 60).expand(20, 3, 8, 8).to(torch.uint8)
    outcome = run(
        build(shaken=False), tmp_path, images=grey, steps=120, learning_rate=3e-3, batch_size=20, log_every=20
    )
    losses = [row["loss"] for row in outcome.log]
    assert losses[-1] < 0.4 * losses[0]


def test_a_learned_variance_is_trained(build, tmp_path):
    model = build(learned_variance=True)
    before = model.proj_out_2.weight.detach().clone()
    outcome = run(model, tmp_path, diffusion=Diffusion("linear", "epsilon", learned_variance=True))
    rows = (outcome.raw["proj_out_2.weight"] != before).any(1).reshape(2, 2, 6)  # of a patch, 3 + 3 channels
    assert rows.all()


# --- replay (Diff-Tuning) -------------------------------------------------------------------------------------

REPLAYED = torch.full((7, 3, 8, 8), 255, dtype=torch.uint8)  # white, as no image of the task is


def batches(**changes):
    given = {"size": 10, "seed": 3, "num_classes": 5, "num_timesteps": 1000, "label_dropout": 0.1, "keep_gates": False}
    return Batches(IMAGES // 2, LABELS, **given | changes)


@pytest.mark.parametrize("keep_gates", [False, True])
def test_replayed_images_are_a_share_of_each_batch_under_the_null_label(keep_gates):
    drawn = [batches(replay=Replay(REPLAYED, 0.2, 0.1), keep_gates=keep_gates).at(step) for step in range(7)]
    for batch in drawn:
        white = (batch.images == 1).flatten(1).all(1)
        assert white.tolist() == [False] * 8 + [True] * 2
        assert batch.labels[8:].tolist() == batch.gate_labels[8:].tolist() == [5, 5]
        assert torch.equal(batch.weights, torch.tensor([1.0] * 8 + [0.1] * 2))
    plain = batches(keep_gates=keep_gates).at(0)
    assert plain.weights is None
    assert not (plain.images == 1).flatten(1).all(1).any()


def test_timesteps_of_the_task_rise_and_those_of_replayed_images_fall():
    """P(t) = (t + 1) / sum for the task and (T - t) / sum for the replay: means 2 T / 3 and T / 3."""
    source = batches(size=100, replay=Replay(REPLAYED, 0.4, 0.1))
    times = torch.stack([source.at(step).timesteps for step in range(60)]).double()
    own, replayed = times[:, :60], times[:, 60:]
    for found, rising in ((own, True), (replayed, False)):
        weights = torch.arange(1, 1001, dtype=torch.float64)
        chances = (weights if rising else weights.flip(0)) / weights.sum()
        mean = (chances * torch.arange(1000)).sum()
        assert abs(found.mean() - mean) < 4 * 236 / found.numel() ** 0.5  # the standard deviation is 236
        half = (found < 500).double().mean()
        assert abs(half - chances[:500].sum()) < 4 * 0.5 / found.numel() ** 0.5


def test_the_loss_weighs_replayed_images(build, tmp_path):
    """With the learning rate zero, the logged loss is the weighted mean of the samples' losses."""
    replay, model, seen = Replay(REPLAYED, 0.5, 0.1), build(), []
    model.register_forward_hook(lambda _, given, output: seen.append((given, output.detach())))
    plan = dataclasses.replace(make_plan(steps=1, diffusion=Diffusion("linear", "epsilon")), replay=replay)
    outcome = train(model, IMAGES // 2, LABELS, plan, tmp_path / "state.pt", "a run")
    (noisy, times, labels, _), output = seen[0]
    product = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[times][:, None, None, None]
    images = torch.cat([(IMAGES // 2)[batch_indices(20, 3, 0, 7)], REPLAYED[:3]]).double() / 127.5 - 1
    noise = (noisy - product.sqrt() * images) / (1 - product).sqrt()
    losses = (output - noise).square().mean((1, 2, 3))
    assert labels[3:].tolist() == [5, 5, 5]
    expected = (losses * torch.tensor([1.0, 1, 1, 0.1, 0.1, 0.1])).mean()
    assert outcome.log[0]["loss"] == pytest.approx(expected.item(), rel=1e-4)
