"""The Python API: what is loaded, made and written, and what a person reads who asks for what is not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kind
from kind import checkpoints
from kind.artifacts import read_header
from kind.diffusion import Diffusion
from kind.errors import UserError

CLASSES = ["0", "1", "cat", "3", "9"]
DIFFUSION = Diffusion(schedule="cosine", prediction="v")


@pytest.fixture
def place(build, tmp_path):
    """A backbone, as the pipeline leaves it."""
    checkpoints.save_backbone(
        tmp_path / "backbone" / "model.safetensors", build(learngenes=8, tailors=2), CLASSES, DIFFUSION
    )
    return tmp_path / "backbone"


def same(first, second):
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    equal = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    return equal and (first.classes, first.diffusion) == (second.classes, second.diffusion)


def train(path, name, start_path, shift=1.0, **options):
    """What a method leaves after training that moved all that it trains."""
    from kind.adaptation import adapt, trained_parameters
    from kind.methods import METHODS

    method = METHODS[name]
    start = checkpoints.load_start(method.start, start_path)
    model = adapt(start, method, method.options(**options), 2, 0, "random")
    with torch.no_grad():
        model.label_table[-1] += shift  # tuning trains the null row too
        for parameter in trained_parameters(model).values():
            parameter.add_(0.01 * shift)
    header = {
        "method": name, "options": options, "classes": ["owl", "fox"], "config": model.config.to_dict(),
        "diffusion": DIFFUSION.to_dict(), "null_gate": "learngenes", "label_table": "random", "seed": 0,
        "start": start.identity,
    }  # fmt: skip
    checkpoints.save_adapted(path, trained_parameters(model), header)


def test_five_lines_keep_two_classes_halve_what_is_left_and_sample(place, tmp_path):
    model = kind.load(place)
    small = model.keep(["cat", 3]).budget(macs=0.8)
    images = small.sample(6, num_steps=2)
    assert images.shape == (6, 8, 8, 3) and images.dtype == np.uint8
    assert small.classes == ("cat", "3") and model.classes == tuple(CLASSES)
    assert small.cost["macs"] <= 0.8 * model.keep(["cat", "3"]).cost["macs"]
    assert {one.label for one in small.kept} == {0, 1, None}
    small.save(tmp_path / "small.safetensors")
    assert same(kind.load(tmp_path / "small.safetensors"), small)
    small.export(tmp_path / "small")
    assert same(kind.load(tmp_path / "small"), small)


@torch.no_grad()
def test_a_kept_class_draws_what_the_whole_model_draws_of_it(place):
    model = kind.load(place)
    own = model.keep(["cat"]).sample(3, num_steps=3, seed=4)
    labels = torch.full((3,), 2)
    from kind.params import Sampling
    from kind.sampling import sample_images

    protocol = Sampling(
        sampler="dpm",
        num_inference_steps=3,
        timestep_spacing="linspace",
        guidance_scale=1.5,
        num_samples=3,
        batch_size=64,
    )
    whole = sample_images(model.model, model.diffusion, protocol, labels, 4)
    assert np.abs(own.astype(int) - whole).max() <= 1


def test_everything_that_holds_a_model_loads(place, tmp_path):
    model = kind.load(place)
    assert same(kind.load(str(place / "model.safetensors")), model)
    model.save_parts(tmp_path / "parts")
    assert same(kind.load(tmp_path / "parts"), model)
    alone = kind.load(tmp_path / "parts" / "learngenes.safetensors")
    assert same(alone, model.learngenes()) and alone.classes == ()
    assert alone.sample(2, num_steps=2).shape == (2, 8, 8, 3)


def test_parts_of_groups_and_of_cut_models_load_again(tmp_path):
    from kind.models.dit import DiTConfig, build_dit
    from kind.models.factorized import Factorization, factorize
    from kind.models.presets import PRESETS

    config = DiTConfig(*PRESETS["micro/2"], image_size=8, channels=3, num_classes=5)
    factorization = Factorization(6, 2, groups=(((0, 2), 2), ((1, 2, 3), 1)))
    model = kind.KindModel(factorize(build_dit(config, 0), factorization, 0).eval(), tuple(CLASSES), DIFFUSION)
    for name, one in (("whole", model), ("cut", model.budget(parameters=0.9)), ("kept", model.keep(["3", "cat"]))):
        one.save_parts(tmp_path / name)
        assert same(kind.load(tmp_path / name), one), name


def test_saved_files_describe_themselves(place, tmp_path):
    kind.load(place).keep(["9"]).budget(rank=4).save(tmp_path / "x")
    header = read_header(tmp_path / "x")
    assert header["classes"] == ["9"] and header["config"]["num_classes"] == 1
    assert header["diffusion"]["prediction"] == "v" and header["factorization"]["null_gate"] == "learngenes"
    ranks = header["factorization"]["ranks"]
    assert len(ranks) == 12 and all(one["learngenes"] + sum(one["tailors"]) == 4 for one in ranks.values())
    assert header["versions"].keys() >= {"torch", "diffusers"}


def test_methods_leave_their_model_alone(place):
    model = kind.load(place)
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    model.keep(["9"]), model.budget(rank=3), model.canonical(), model.learngenes(), model.combine()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.model.state_dict().items())
    assert model.classes == tuple(CLASSES) and model.kept is None


def test_models_that_share_learngenes_become_one(place):
    model = kind.load(place)
    joint = kind.combine(model.keep(["9", "0"]), model.keep(["cat"]))
    assert same(joint, model.keep(["9", "0", "cat"]))
    with pytest.raises(UserError, match="class '0', '9' is in more than one of the models"):
        kind.combine(model, model.keep(["9", "0"]))
    other = kind.KindModel(model.keep(["cat"]).model, ("cat",), Diffusion())
    with pytest.raises(UserError, match="different diffusions"):
        model.keep(["9"]).combine(other)


@torch.no_grad()
def test_seen_classes_and_those_of_a_task_become_one_model(place, tmp_path, model_inputs):
    """The backbone's classes beside those that KIND's adaptation learned on its frozen learngenes."""
    model = kind.load(place)
    model.save_parts(tmp_path / "parts")
    learngenes = tmp_path / "parts" / "learngenes.safetensors"
    train(tmp_path / "adapted", "kind", learngenes, num_tailors=3)
    with pytest.raises(UserError, match="adapted: holds only what kind trained[^$]*--start"):
        kind.load(tmp_path / "adapted")
    task = kind.load(tmp_path / "adapted", start=learngenes)
    with pytest.raises(UserError, match="null_row_of"):
        model.combine(task)
    joint = model.combine(task, null_row_of=0)
    assert joint.classes == (*CLASSES, "owl", "fox")
    images, timesteps, _ = model_inputs(model.model)
    expected = task.model(images, timesteps, torch.tensor([1] * 12))
    torch.testing.assert_close(joint.model(images, timesteps, torch.tensor([6] * 12)), expected, rtol=1e-5, atol=1e-5)
    expected = model.model(images, timesteps, torch.tensor([5] * 12))
    torch.testing.assert_close(joint.model(images, timesteps, torch.tensor([7] * 12)), expected, rtol=1e-5, atol=1e-5)


def test_what_is_not_there_is_named(place, build, tmp_path):
    model = kind.load(place)
    for call, message in (
        (lambda: model.keep(["cta"]), r"the model has no class 'cta' \(did you mean 'cat'\?\); it has 0, 1, cat, 3, 9"),
        (lambda: model.keep(["3", 3]), "classes 3, 3: each may be named once"),
        (lambda: model.budget(), "give one of parameters, macs and rank; got none"),
        (lambda: model.budget(rank=3, macs=0.5), "give one of parameters, macs and rank; got macs, rank"),
        (lambda: kind.load(tmp_path), "holds no model"),
        (lambda: kind.load(tmp_path / "nothing"), "nothing: no such file"),
        (lambda: kind.KindModel(build(), ("a",) * 5, DIFFUSION).learngenes(), "a dense model has no learngenes"),
    ):
        with pytest.raises(UserError, match=message):
            call()
    model.save_parts(tmp_path / "parts")
    with pytest.raises(UserError, match="tailors alone are no model"):
        kind.load(tmp_path / "parts" / "tailors" / "class_0001.safetensors")
    with pytest.raises(AttributeError, match="module 'kind' has no attribute 'models_'"):
        _ = kind.models_


def test_calls_that_cannot_be_right_are_user_errors(place, build):
    model = kind.load(place)
    two = [model.keep(["3"]), model.keep(["9"])]
    for call, message in (
        (lambda: model.sample(sampler="euler"), "these samples cannot be drawn: sampler: 'euler' is not allowed"),
        (lambda: model.sample(0), "num_samples: must be at least 1, found 0"),
        (lambda: model.sample(guidance_scale=0.5), "guidance_scale: must be at least 1, found 0.5"),
        (lambda: model.sample(2, num_steps=0), "num_steps: must be at least 1, found 0"),
        (lambda: model.sample(2, num_steps=1001), "num_steps: 1001 asked, but the model was trained with 1000"),
        (lambda: model.sample(2, sampler="ddim", timestep_spacing="linspace"), "timestep_spacing: linspace is wrong"),
        (
            lambda: model.sample(2, precision="float16"),
            "no precision 'float16'; there are auto, float32, tf32, bfloat16",
        ),
        (lambda: model.budget(parameters="50%"), "budget of parameters: '50%' given, where a number is needed"),
        (lambda: model.budget(macs=True), "budget of MACs: True given, where a number is needed"),
        (lambda: kind.combine(), "there is nothing to combine"),
        (lambda: kind.combine(*two, null_row_of=2), "null_row_of 2: there are 2 models, counted from 0"),
        (lambda: kind.combine(*two, null_row_of=-1), "null_row_of -1: there are 2 models, counted from 0"),
        (lambda: kind.KindModel(build(), ("a",) * 5, DIFFUSION).canonical(), "a dense model has no components"),
    ):
        with pytest.raises(kind.UserError, match=message):
            call()


@torch.no_grad()
def test_ddim_begins_at_pure_noise_and_takes_another_spacing(place):
    model = kind.load(place)
    plain = model.sample(2, sampler="ddim", num_steps=4)
    assert np.array_equal(plain, model.sample(2, sampler="ddim", num_steps=4, timestep_spacing="trailing"))
    assert not np.array_equal(plain, model.sample(2, sampler="ddim", num_steps=4, timestep_spacing="leading"))


def test_what_a_cut_leaves_of_tailors_is_recorded(place):
    from kind.budget import summarise

    small = kind.load(place).keep(["3", "9"]).budget(rank=4)
    for one in small.kept:
        layer = small.model.get_submodule(one.layer)
        assert one.tailors == layer.num_active(one.label) - layer.num_learngenes
        assert one.tailors_before == (0 if one.label is None else 2)
    rows = summarise(small.kept)
    for row in rows:
        own = [one for one in small.kept if one.label == row.label]
        assert row.learngenes + row.tailors == sum(one.after for one in own) <= 48
        assert row.tailors == sum(one.tailors for one in own)
    assert rows[2].tailors == rows[2].tailors_before == 0


def test_parts_are_not_mixed_with_older_ones(place, tmp_path):
    model = kind.load(place)
    model.save_parts(tmp_path / "parts")
    with pytest.raises(UserError, match="parts: holds parts already[^$]*--overwrite"):
        model.keep(["9"]).save_parts(tmp_path / "parts")
    assert same(kind.load(tmp_path / "parts"), model)
    model.keep(["9"]).save_parts(tmp_path / "parts", overwrite=True)
    assert same(kind.load(tmp_path / "parts"), model.keep(["9"]))


@pytest.mark.parametrize("name, options", [("diffscaler", {"rank": 2, "scale": 1.0}), ("gated-lora", {"rank": 2})])
def test_models_without_a_plain_form_are_sampled_and_counted_only(build, tmp_path, name, options):
    dense = tmp_path / "dense" / "model.safetensors"
    checkpoints.save_backbone(dense, build(), CLASSES, DIFFUSION)
    train(tmp_path / "adapted", name, dense, **options)
    model = kind.load(tmp_path / "adapted", start=dense.parent)
    assert model.sample(2, num_steps=2).shape == (2, 8, 8, 3) and model.labels(3).tolist() == [0, 1, 0]
    assert model.cost["deployed"] > kind.load(dense).cost["deployed"]
    before = sorted(tmp_path.rglob("*"))
    for call in (
        lambda: model.save(tmp_path / "x"), lambda: model.export(tmp_path / "x"), lambda: model.canonical(),
        lambda: model.save_parts(tmp_path / "x"), lambda: model.keep(["owl"]), lambda: model.learngenes(),
        lambda: model.budget(rank=2), lambda: kind.combine(model),
        lambda: checkpoints.save_backbone(tmp_path / "x", model.model, ["owl", "fox"], DIFFUSION),
    ):  # fmt: skip
        with pytest.raises(UserError, match="the model cannot be .*: it holds layers that no plain matrix computes"):
            call()
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_are_adapted_models_and_starts(place, build, tmp_path):
    """The last step of a run; the start by the folder of its backbone or of its learngenes."""
    kind.load(place).save_parts(tmp_path / "parts")
    checkpoints.save_backbone(tmp_path / "dense" / "model.safetensors", build(), CLASSES, DIFFUSION)
    for name, start, options in (("kind", "parts", {"num_tailors": 3}), ("bitfit", "dense", {})):
        run = tmp_path / "adapters" / name / "seed_0"
        for shift, step in ((1, "step_000100"), (2, "step_002000"), (3, "raw")):
            train(run / f"{step}.safetensors", name, tmp_path / start, shift, **options)
        model = kind.load(run, start=tmp_path / start)
        assert same(model, kind.load(run / "step_002000.safetensors", start=tmp_path / start))
        assert not same(model, kind.load(run / "step_000100.safetensors", start=tmp_path / start))
        with pytest.raises(UserError, match=f"holds only what {name} trained"):
            kind.load(run)
    with pytest.raises(UserError, match="learngenes.safetensors: no such file[^$]*the folder of learngenes"):
        kind.load(tmp_path / "adapters" / "kind" / "seed_0", start=place)
    with pytest.raises(UserError, match="backbone: is whole, and needs no start"):
        kind.load(place, start=tmp_path / "parts")
