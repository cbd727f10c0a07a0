"""What every method keeps to.  A new method is tested here by being there; options that have no default are given in
OPTIONS, and further settings worth a test are added to it."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from kind.adaptation import Start, adapt, learned_tensors, trained_parameters
from kind.artifacts import load_tensors, save_tensors
from kind.checkpoints import load_adapted, load_start, save_adapted
from kind.diffusion import Diffusion
from kind.errors import UserError
from kind.methods import METHODS, Adaptation, Material, Outline, Unknown
from kind.models.dit import LABEL_TABLE, DiT, DiTConfig, renew_label_table, to_diffusers
from kind.models.factorization import SoftGating
from kind.models.factorized import Factorization, make_room
from kind.models.plain import is_plain
from kind.models.presets import PRESETS
from kind.params import Training
from kind.sampling import predictor
from kind.training import Plan, train
from kind.training_routine import routine_of

CASES = [
    pytest.param(name, options, id=" ".join([name, *(f"{k}={v}" for k, v in options.items())]))
    for name in METHODS
    for options in METHODS[name].examples
]
CLASSES, SEED = ["x", "y", "z"], 11
each_method = pytest.mark.parametrize("name, given", CASES)


def start_of(name, starts) -> Start:
    method = METHODS[name]
    fresh = DiTConfig(*PRESETS["micro/2"], image_size=8, channels=3, num_classes=3)
    start = load_start(method.start, starts.of(method.start), fresh, SEED)
    if method.start is None:
        shake(start.model.parameters())  # a fresh DiT's output is zero whatever is attached
    return start


def shake(parameters):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def attached(name, given, starts, seed=SEED):
    """The start with the method attached, in evaluation mode, and its options."""
    method, options = METHODS[name], METHODS[name].options.model_validate(given)
    material = material_of(method, options)
    return adapt(start_of(name, starts), method, options, 3, seed, "random", material).eval(), options


def material_of(method, options) -> Material | None:
    needs, generator = method.needs(options), torch.Generator().manual_seed(4)
    return Material(embeddings=torch.randn(3, 6, generator=generator)) if "embeddings" in needs else None


def counted(model):
    """Numbers that are trained, without the label table."""
    trained = trained_parameters(model)
    return sum(parameter.numel() for name, parameter in trained.items() if name != LABEL_TABLE)


def outputs(model):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 8, 8, generator=generator)
    with torch.no_grad():
        return model(images, torch.arange(8) * 120, torch.arange(8) % 4)  # class 3 is the null class


def train_three_steps(model, folder, name, options, **changes):
    settings = Training(steps=3, batch_size=8, learning_rate=1e-2, ema_decay=0.5, **changes)
    method = METHODS[name]
    of_method = {"routine": routine_of(method, options, 3, 0), "rate_scales": method.rate_scales(model, options)}
    plan = Plan(settings, Diffusion("cosine", "v"), 1e-2, seed=0, recipe="test", snapshot_steps=(1,), **of_method)
    images = torch.randint(256, (8, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return train(model, images, torch.arange(8) % 3, plan, folder / "state.pt", "test")


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
def test_the_label_table_is_fresh_but_for_the_null_row_and_trained(name, given, starts):
    model, options = attached(name, given, starts)
    start, idle = start_of(name, starts).model, METHODS[name].trains_nothing(options)
    assert model.config.num_classes == 3
    assert model.label_table.shape == (4, 32)
    assert torch.equal(model.label_table[-1], start.label_table[-1])
    assert model.label_table.requires_grad is not idle
    assert torch.equal(model.label_table[0], start.label_table[-1]) == idle


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
    learngenes = start_of(name, starts).model.factorization if method.start in ("kind", "soft") else None
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
    assert counted(model) > 0 or name == "label-table" or method.trains_nothing(options)


# --- files ----------------------------------------------------------------------------------------------------


def save(path, model, name, options, starts, **changes):
    method = METHODS[name]
    learned = learned_tensors(model)
    header = {
        "method": name,
        "options": options.model_dump(),
        "classes": CLASSES,
        "config": model.config.to_dict(),
        "diffusion": Diffusion("cosine", "v").to_dict(),
        "null_gate": "learngenes",
        "label_table": "random",
        "seed": SEED,
        "start": load_start(method.start, starts.of(method.start), model.config, SEED).identity,
        **changes,
    }
    save_adapted(path, learned, header)
    return learned.keys()


@each_method
def test_saved_and_loaded_it_computes_the_same(name, given, starts, tmp_path):
    method, options = METHODS[name], METHODS[name].options.model_validate(given)
    fresh = DiTConfig(*PRESETS["micro/2"], image_size=8, channels=3, num_classes=3)
    start = load_start(method.start, starts.of(method.start), fresh, SEED)
    model = adapt(start, method, options, 3, SEED, "random", material_of(method, options))
    train_three_steps(model, tmp_path, name, options)
    shake(trained_parameters(model.eval()).values())
    path = tmp_path / "adapted"
    names = save(path, model, name, options, starts)
    tensors, header = load_tensors(path)
    assert tensors.keys() == names
    loaded = load_adapted(path, starts.of(method.start))
    assert torch.equal(outputs(loaded.model.eval()), outputs(model))
    assert (loaded.classes, loaded.diffusion) == (CLASSES, Diffusion("cosine", "v"))
    assert loaded.header == header
    assert header["format"] == "adapted/2"
    assert outputs(model).std() > 0.1


@each_method
def test_merging_keeps_the_output_and_exports(name, given, starts):
    model, _ = attached(name, given, starts)
    shake(trained_parameters(model).values())
    before = outputs(model)
    merged = copy.deepcopy(model)
    if METHODS[name].merge is not None:
        merged = METHODS[name].merge(merged)
    torch.testing.assert_close(outputs(merged), before, rtol=1e-5, atol=1e-5)
    assert is_plain(merged) == METHODS[name].has_plain_form, "what may be saved, cut and exported"
    if merged.gate is not None or not METHODS[name].has_plain_form:
        return
    start = start_of(name, starts).model
    assert merged.state_dict().keys() == start.state_dict().keys()
    stock = to_diffusers(merged)
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exported = stock(images, timestep=torch.arange(8) * 120, class_labels=torch.arange(8) % 4).sample
    torch.testing.assert_close(exported, before, rtol=1e-5, atol=1e-5)


@each_method
def test_sampling_steps_compute_what_the_model_does(name, given, starts):
    model, _ = attached(name, given, starts)
    shake(trained_parameters(model).values())
    times, labels = torch.tensor([900, 100]), torch.arange(8) % 4
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    predict = predictor(model, times, labels, None)
    for step in range(2):
        with torch.no_grad():
            expected = model(images, times[step].expand(8), labels)
        torch.testing.assert_close(predict(images, step), expected, rtol=1e-5, atol=1e-5)


@each_method
def test_files_that_do_not_fit_are_refused(name, given, starts, make_starts, tmp_path):
    model, options = attached(name, given, starts)
    path, method = tmp_path / "adapted", METHODS[name]
    save(path, model, name, options, starts)
    tensors, header = load_tensors(path)
    start = starts.of(method.start)

    if start is not None:
        with pytest.raises(UserError, match="was trained from another start"):
            load_adapted(path, make_starts(seed=5).of(method.start))
        with pytest.raises(UserError, match="format 'adapted/2', where '(backbone|learngenes)/2' is needed"):
            load_adapted(path, path)
    with pytest.raises(UserError, match="is needed"):
        load_adapted(starts.dense, start)

    first = min(tensors)
    save_tensors(path, {key: tensor for key, tensor in tensors.items() if key != first}, header)
    with pytest.raises(UserError, match=f"does not hold what {name} trains.*{first}"):
        load_adapted(path, start)
    save_tensors(path, {**tensors, first: tensors[first][..., :1]}, header)
    with pytest.raises(UserError, match=f"does not hold what {name} trains.*{first}"):
        load_adapted(path, start)
    save_tensors(path, {**tensors, "more": torch.zeros(1)}, header)
    with pytest.raises(UserError, match=f"does not hold what {name} trains.*more"):
        load_adapted(path, start)
    save_tensors(path, tensors, {**header, "method": "nomethod"})
    with pytest.raises(UserError, match="trained by method 'nomethod', which this version does not have"):
        load_adapted(path, start)
    save_tensors(path, tensors, header)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_adapted(path, start)


# --- declarations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_declared_whole(name):
    method = METHODS[name]
    assert method.name == name
    assert method.title
    assert method.source
    backbones = {"kind-nogate": name, "divgate": "kind-soft"}  # names in a params file that are no form's
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
