"""What every method keeps to: its start, what it trains, its formula, its declaration."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from every_method import (
    SEED,
    attached,
    counted,
    each_method,
    outputs,
    start_of,
    train_three_steps,
)

from kind.adaptation import Start, adapt, learned_tensors, trained_parameters
from kind.checkpoints import load_start
from kind.diffusion import Diffusion
from kind.methods import METHODS, Adaptation, Outline, Unknown
from kind.models.dit import LABEL_TABLE, DiT, DiTConfig, renew_label_table
from kind.models.factorization import SoftGating
from kind.models.factorized import Factorization, make_room
from kind.models.presets import PRESETS
from kind.params import Training
from kind.training import Plan, train


@each_method
def test_attaching_keeps_the_output_where_the_method_says_so(name, given, starts):
    model, options = attached(name, given, starts)
    start = start_of(name, starts).model
    renew_label_table(start, 3, seed=0, start="null")
    with torch.no_grad():
        start.label_table.copy_(model.label_table)  # the fresh rows are no part of the method
    kept = torch.allclose(outputs(model), outputs(start.eval()), rtol=1e-5, atol=1e-5)
    assert kept == METHODS[name].keeps_output(options)


@each_method
def test_the_label_table_is_fresh_but_for_the_null_row_and_trained_unless_nothing_is(name, given, starts):
    model, options = attached(name, given, starts)
    start, idle = start_of(name, starts).model, METHODS[name].trains_nothing(options)
    assert model.config.num_classes == 3
    assert model.label_table.shape == (4, 32)
    assert torch.equal(model.label_table[-1], start.label_table[-1])
    assert model.label_table.requires_grad is not idle
    inherited = start.label_table[0 if METHODS[name].for_seen else -1]
    assert torch.equal(model.label_table[0], inherited) == idle


@each_method
def test_attaching_depends_on_the_seed_alone(name, given, starts):
    first = attached(name, given, starts)[0].state_dict()
    torch.rand(5)
    again, other = (
        attached(name, given, starts)[0].state_dict(),
        attached(name, given, starts, SEED + 1)[0].state_dict(),
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    idle = METHODS[name].trains_nothing(METHODS[name].options.model_validate(given))
    assert torch.equal(first[LABEL_TABLE], other[LABEL_TABLE]) == idle


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@each_method
def test_training_changes_what_is_declared_and_nothing_else(name, given, weight_decay, starts, tmp_path):
    model, options = attached(name, given, starts)
    declared, learned = set(trained_parameters(model)), set(learned_tensors(model))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    outcome = train_three_steps(model, tmp_path, name, options, weight_decay=weight_decay)
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed <= learned
    # keys' biases shift all of a query's scores alike, so that their gradients are rounding at most
    assert all(key in changed or key.endswith("to_k.bias") for key in declared)
    assert outcome.raw.keys() == outcome.averaged[1].keys() == outcome.averaged[3].keys() == learned
    assert set(trained_parameters(model)) == declared


def test_svdiff_trains_vectors_at_a_thousandth_of_the_rate(starts, tmp_path):
    model, options = attached("svdiff", {"vector_rate": 1e-3}, starts)
    before = {key: p.detach().double().clone() for key, p in trained_parameters(model).items()}
    method = METHODS["svdiff"]
    settings = Training(steps=1, batch_size=8, learning_rate=1e-2)
    plan = Plan(settings, Diffusion("cosine", "v"), 1e-2, 0, "test", rate_scales=method.rate_scales(model, options))
    images = torch.randint(256, (8, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    train(model, images, torch.arange(8) % 3, plan, tmp_path / "state.pt", "test")
    for key, parameter in trained_parameters(model).items():
        if key.endswith("to_k.bias"):  # attention does not depend on it
            continue
        moved = (parameter - before[key]).abs().max().item()  # AdamW's first step is of the rate's length
        assert moved == pytest.approx(1e-5 if key.endswith("bias") else 1e-2, rel=0.05), key


@each_method
def test_the_formula_counts_what_is_trained(name, given, starts):
    model, options = attached(name, given, starts)
    task = Adaptation(3, SEED)
    assert METHODS[name].trainable_parameters(model, options, task) == counted(model)


@each_method
def test_the_formula_says_the_same_before_there_is_a_model_or_says_nothing(name, given, starts):
    """Sizes are matched by the formula of an outline: what is known of a backbone from the params alone."""
    model, options = attached(name, given, starts)
    method, task = METHODS[name], Adaptation(3, SEED)
    learngenes = start_of(name, starts).model.factorization if method.start not in ("dense", None) else None
    try:
        found = method.trainable_parameters(Outline(PRESETS["micro/2"], 3, factorization=learngenes), options, task)
    except Unknown:
        assert method.size_option is None or "train_dense" in given, "a size must be known beforehand"
    else:
        assert found == method.trainable_parameters(model, options, task)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.size_option])
def test_a_larger_size_trains_more(name):
    method, outline = METHODS[name], Outline(PRESETS["micro/2"], 3, factorization=Factorization(8, 0))
    annotation = str(method.options.model_fields[method.size_option].annotation)
    sizes = [0.1, 0.2, 0.9] if "float" in annotation else [2, 4, 8, 16]
    given = [{**method.examples[0], method.size_option: size} for size in sizes]
    counts = [method.trainable_parameters(outline, method.options(**one), Adaptation(3, 0)) for one in given]
    assert counts == sorted(counts) and counts[0] < counts[-1]


@pytest.mark.parametrize("preset", ["S/2", "B/2", "L/2", "XL/2"])
@each_method
def test_the_formula_counts_what_is_trained_at_the_papers_sizes(name, given, preset, monkeypatch):
    method, options = METHODS[name], METHODS[name].options.model_validate(given)
    if method.for_seen:
        return  # nothing is trained, and weights decide what is left
    monkeypatch.setattr("kind.models.learngene.draw_tailors", lambda *_: None)  # meta tensors have no values
    monkeypatch.setattr("kind.models.factorized.factorize", lambda model, ranks, seed: make_room(model, ranks))
    task = Adaptation(num_classes=20, seed=0)
    with torch.device("meta"):
        model = DiT(DiTConfig(*PRESETS[preset], image_size=32, channels=4, num_classes=20, learned_variance=True))
        if method.start == "kind":
            make_room(model, Factorization(num_learngenes=96, num_tailors=0))
        elif method.start == "soft":
            everyone, soft = ((tuple(range(20)), 64),), SoftGating((64,), "tailors", embedding_size=256)
            make_room(model, Factorization(96, 0, groups=everyone, soft=soft))
        model.requires_grad_(False)
        method.attach(model, options, task)
    assert method.trainable_parameters(model, options, task) == counted(model)
    label_table_alone = name == "label-table" or given.get("num_tailors") == 0
    assert counted(model) > 0 or label_table_alone or method.trains_nothing(options)


# --- declarations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_declared_whole(name):
    method = METHODS[name]
    assert method.name == name
    assert method.title
    assert method.source
    backbones = {
        "kind-nogate": name,
        "divgate": "kind-soft",
        "recombined": "kind",
    }  # names in a params file that are no form's
    wanted = backbones.get(name, method.start)
    field = method.options.model_fields.get("backbone")
    assert (field.default if field else None) == wanted
    assert method.options.model_fields["learning_rate"].default is None


def test_a_method_that_unfreezes_nothing_trains_the_label_table_alone(starts):
    idle = dataclasses.replace(METHODS["full"], attach=lambda model, options, task: None)
    model = adapt(load_start("dense", starts.dense), idle, idle.options(), 3, SEED, "random")
    assert trained_parameters(model).keys() == {LABEL_TABLE}


def test_fresh_weights_need_no_file():
    start = Start.fresh(DiTConfig(*PRESETS["micro/2"], image_size=8, channels=3, num_classes=3), seed=1)
    assert (start.identity, start.diffusion) == (None, None)
