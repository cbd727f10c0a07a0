"""Files that hold models describe themselves, come back whole, and refuse to be taken for something else."""

from __future__ import annotations

import pytest
import torch

from kind.artifacts import load_tensors, provenance, save_tensors, sha256
from kind.checkpoints import load_adapted, load_backbone, load_learngenes, recombine, save_backbone, save_parts
from kind.diffusion import Diffusion
from kind.errors import UserError

CLASSES, DIFFUSION = ["3", "1", "cat", "0", "9"], Diffusion("cosine", "v", num_train_timesteps=500)
FORMS = pytest.mark.parametrize(
    "sizes", [{}, {"learngenes": 8, "tailors": 2, "null_gate": "true_class"}], ids=["dense", "kind"]
)


@pytest.fixture
def parts(build, tmp_path):
    """model, path of the learngenes, paths of the tailors by class."""
    model = build(learngenes=8, tailors=2)
    save_backbone(tmp_path / "backbone", model, CLASSES, DIFFUSION)
    tailors = [tmp_path / f"tailors_{name}" for name in CLASSES]
    save_parts(tmp_path / "learngenes", tailors, tmp_path / "backbone")
    return model, tmp_path / "learngenes", dict(zip(CLASSES, tailors, strict=True))


@FORMS
def test_a_backbone_comes_back_whole(build, model_inputs, tmp_path, sizes):
    model = build(**sizes)
    save_backbone(tmp_path / "backbone", model, CLASSES, DIFFUSION)
    loaded = load_backbone(tmp_path / "backbone")
    assert (loaded.classes, loaded.diffusion, loaded.model.config) == (CLASSES, DIFFUSION, model.config)
    inputs = model_inputs(model)
    with torch.no_grad():
        assert torch.equal(loaded.model.eval()(*inputs), model(*inputs))
    if sizes:
        assert loaded.model.factorization == model.factorization
        assert loaded.model.factorization.null_gate == "true_class"
    else:
        assert loaded.model.gate is None


@FORMS
def test_the_header_says_what_the_file_is(build, tmp_path, sizes):
    save_backbone(tmp_path / "backbone", build(**sizes), CLASSES, DIFFUSION)
    _, header = load_tensors(tmp_path / "backbone")
    factorization = {
        "num_learngenes": 8,
        "num_tailors": 2,
        "null_gate": "true_class",
        "matrices": ["q", "k", "v", "o", "in", "out"],
        "groups": [],
        "ranks": None,
        "overcomplete": False,
    }
    assert header == {
        "format": "backbone/2",
        "config": {
            "depth": 2,
            "width": 32,
            "num_heads": 2,
            "patch_size": 2,
            "image_size": 8,
            "channels": 3,
            "num_classes": 5,
            "learned_variance": False,
        },
        "factorization": factorization if sizes else None,
        "classes": CLASSES,
        "diffusion": {"schedule": "cosine", "prediction": "v", "learned_variance": False, "num_train_timesteps": 500},
        "versions": provenance()["versions"],
    }


def test_files_do_not_depend_on_when_they_are_written(build, tmp_path):
    for name in ("first", "again"):
        save_backbone(tmp_path / name, build(learngenes=8, tailors=2), CLASSES, DIFFUSION)
        save_parts(tmp_path / f"{name}_g", [tmp_path / f"{name}_{i}" for i in range(5)], tmp_path / name)
    for suffix in ("", "_g", "_0", "_4"):
        assert sha256(tmp_path / f"first{suffix}") == sha256(tmp_path / f"again{suffix}")


def test_parts_name_their_class_and_their_learngenes(parts):
    _, learngenes, tailors = parts
    for name, path in tailors.items():
        _, header = load_tensors(path)
        assert (header["format"], header["class"], header["learngenes"]) == ("tailors/2", name, sha256(learngenes))
        assert header["classes"] == CLASSES


@torch.no_grad()
def test_learngenes_alone_know_only_the_null_label(parts, model_inputs):
    model, learngenes, _ = parts
    loaded = load_learngenes(learngenes)
    images, timesteps, _ = model_inputs(model)
    expected = model(images, timesteps, torch.full((12,), 5))
    alone = loaded.model.eval()(images, timesteps, torch.zeros(12, dtype=torch.long))
    torch.testing.assert_close(alone, expected, rtol=1e-5, atol=1e-5)
    assert (loaded.classes, loaded.diffusion) == (CLASSES, DIFFUSION)


@torch.no_grad()
def test_recombined_classes_compute_what_the_backbone_does(parts, model_inputs):
    model, learngenes, tailors = parts
    loaded = recombine(learngenes, [tailors["9"], tailors["1"]])
    assert (loaded.classes, loaded.diffusion) == (["9", "1"], DIFFUSION)
    images, timesteps, _ = model_inputs(model)
    own = torch.arange(12) % 3
    expected = model(images, timesteps, torch.tensor([4, 1, 5])[own])
    torch.testing.assert_close(loaded.model.eval()(images, timesteps, own), expected, rtol=1e-5, atol=1e-5)


def test_tailors_of_other_learngenes_are_refused(parts, build, tmp_path):
    _, learngenes, tailors = parts
    other = tmp_path / "other"
    save_backbone(other / "backbone", build(learngenes=8, tailors=2, seed=9), CLASSES, DIFFUSION)
    save_parts(other / "learngenes", [other / name for name in CLASSES], other / "backbone")
    with pytest.raises(UserError, match="tailors of class 'cat' belong to other learngenes than"):
        recombine(learngenes, [tailors["3"], other / "cat"])


def test_a_file_of_another_format_is_refused(parts, tmp_path):
    _, learngenes, tailors = parts
    backbone = tmp_path / "backbone"
    for call, message in [
        (
            lambda: load_backbone(learngenes),
            "learngenes: a file of format 'learngenes/2', where 'backbone/2' is needed",
        ),
        (lambda: load_learngenes(backbone), "backbone: a file of format 'backbone/2', where 'learngenes/2' is needed"),
        (lambda: recombine(tailors["3"], []), "format 'tailors/2', where 'learngenes/2' is needed"),
        (lambda: recombine(learngenes, [learngenes]), "format 'learngenes/2', where 'tailors/2' is needed"),
        (lambda: load_adapted(backbone, None), "format 'backbone/2', where 'adapted/2' is needed"),
    ]:
        with pytest.raises(UserError, match=message):
            call()


def test_foreign_missing_and_damaged_files_are_named(parts, tmp_path):
    _, learngenes, _ = parts
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(UserError, match="foreign: a safetensors file, but none of this project's"):
        load_backbone(tmp_path / "foreign")
    with pytest.raises(UserError, match="absent: no such file"):
        load_backbone(tmp_path / "absent")
    learngenes.write_bytes(learngenes.read_bytes()[:-1])
    with pytest.raises(UserError, match="learngenes: not a whole safetensors file"):
        load_learngenes(learngenes)
    (tmp_path / "text").write_text("not tensors at all")
    with pytest.raises(UserError, match="text: not a whole safetensors file"):
        load_backbone(tmp_path / "text")


def test_tensors_that_do_not_fit_their_header_are_refused(parts, tmp_path):
    _, learngenes, tailors = parts
    backbone = tmp_path / "backbone"
    for path, call in [
        (backbone, lambda: load_backbone(backbone)),
        (learngenes, lambda: load_learngenes(learngenes)),
    ]:
        tensors, header = load_tensors(path)
        name = "transformer_blocks.0.attn1.to_q.learngene_u"
        save_tensors(path, {**tensors, name: tensors[name][:3]}, header)
        with pytest.raises(UserError, match=rf"{path.name}: does not fit[^$]*{name}"):
            call()
        save_tensors(path, {key: value for key, value in tensors.items() if key != name}, header)
        with pytest.raises(UserError, match=rf"{path.name}: does not fit[^$]*{name}"):
            call()
        save_tensors(path, tensors, header)
    tensors, header = load_tensors(tailors["1"])
    name = "transformer_blocks.1.ff.net.2.tailor_s"
    save_tensors(tailors["1"], {**tensors, name: tensors[name][:1]}, header)
    with pytest.raises(UserError, match=rf"tailors_1[^$]*does not fit[^$]*{name}"):
        recombine(learngenes, [tailors["3"], tailors["1"]])


def test_a_dense_backbone_has_no_parts(build, tmp_path):
    save_backbone(tmp_path / "dense", build(), CLASSES, DIFFUSION)
    with pytest.raises(UserError, match="a dense backbone has no learngenes"):
        save_parts(tmp_path / "learngenes", [tmp_path / name for name in CLASSES], tmp_path / "dense")
    assert not (tmp_path / "learngenes").exists()
