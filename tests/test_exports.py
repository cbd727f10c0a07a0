"""Exports through stock diffusers and peft: the same outputs, and the way back without loss."""

from __future__ import annotations

import copy
import json
import os

import pytest
import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel
from peft import PeftModel

from kind.artifacts import read_json, sha256
from kind.budget import Budget, cut
from kind.diffusion import Diffusion, make_sampler
from kind.errors import UserError
from kind.exports import adapter_names, write_export
from kind.exports_reader import read_export
from kind.models.factorized import LayerRanks, factorized_layers
from kind.models.recombine import keep

CLASSES = ["cat", "dog", "a b/c", "owl", "A_b.c"]
DIFFUSION = Diffusion(schedule="cosine", prediction="v")


@pytest.fixture(params=["plain", "cut"])
def model(request, build):
    """Latents of four channels, as a VAE has."""
    whole = build(learngenes=8, tailors=3, channels=4)
    return whole if request.param == "plain" else cut(whole, Budget("parameters", 0.8)).model


@pytest.fixture
def inputs(model_inputs):
    def inputs(model):
        images, timesteps, labels = model_inputs(model)
        return images, timesteps, labels, torch.where(labels == model.config.num_classes, 1000, labels)

    return inputs


def with_adapters(folder, content):
    """Base and all adapters, loaded as anyone would who never heard of this project."""
    base = DiTTransformer2DModel.from_pretrained(folder)
    found = {name: place for name, place in content["adapters"].items() if place is not None}
    model = None
    for place in found.values():
        name = place.removeprefix("adapters/")
        if model is None:
            model = PeftModel.from_pretrained(base, folder / place, adapter_name=name)
        else:
            model.load_adapter(folder / place, adapter_name=name)
    names = {content["label_rows"][name]: place.removeprefix("adapters/") for name, place in found.items()}
    return model.eval(), names


# --- outputs --------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_one_class_with_its_tailors_in_both_halves_is_a_dense_folder(build, inputs, tmp_path):
    model = keep(build(learngenes=8, tailors=3, null_gate="true_class"), [3])
    content = write_export(tmp_path / "x", model, ["owl"], DIFFUSION)
    stock = DiTTransformer2DModel.from_pretrained(tmp_path / "x")
    images, timesteps, labels, rows = inputs(model)
    expected = model(images, timesteps, labels, torch.zeros_like(labels))
    found = stock(images, timestep=timesteps, class_labels=rows).sample
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (content["form"], content["guidance"], content["merged_class"]) == ("dense", "both", "owl")
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == [
        "README.md", "components.safetensors", "config.json", "diffusion_pytorch_model.safetensors", "kind.json",
        "scheduler_config.json",
    ]  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("policy", ["learngenes", "true_class"])
def test_learngenes_alone_are_a_dense_folder(build, inputs, tmp_path, policy):
    model = keep(build(learngenes=8, tailors=3, null_gate=policy), [])
    content = write_export(tmp_path / "x", model, [], DIFFUSION)
    stock = DiTTransformer2DModel.from_pretrained(tmp_path / "x")
    images, timesteps, labels, rows = inputs(model)
    assert (rows == 1000).all()
    found = stock(images, timestep=timesteps, class_labels=rows).sample
    torch.testing.assert_close(found, model(images, timesteps, labels), rtol=1e-5, atol=1e-5)
    assert (content["form"], content["guidance"], content["adapters"]) == ("dense", "both", {})


@torch.no_grad()
def test_many_classes_are_a_base_and_an_adapter_each(model, inputs, tmp_path):
    """Each adapter alone, all of them in one batch, and the base as the null label."""
    content = write_export(tmp_path / "x", model, CLASSES, DIFFUSION)
    assert (content["form"], content["guidance"]) == ("adapters", "conditional")
    stock, names = with_adapters(tmp_path / "x", content)
    images, timesteps, labels, rows = inputs(model)
    expected = model(images, timesteps, labels)
    mixed = stock(
        images, timestep=timesteps, class_labels=rows,
        adapter_names=[names.get(label, "__base__") for label in rows.tolist()],
    ).sample  # fmt: skip
    torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-5)
    for label, name in names.items():
        stock.set_adapter(name)
        alone = stock(images, timestep=timesteps, class_labels=rows).sample
        own = labels == label
        torch.testing.assert_close(alone[own], expected[own], rtol=1e-5, atol=1e-5)
        assert (alone[~own] - expected[~own]).abs().max() > 1e-3
    with stock.disable_adapter():
        null = stock(images, timestep=timesteps, class_labels=rows).sample
    torch.testing.assert_close(null[rows == 1000], expected[rows == 1000], rtol=1e-5, atol=1e-5)


def test_an_adapter_is_a_lora_of_rank_num_tailors(build, tmp_path):
    model = build(learngenes=8, tailors=3)
    write_export(tmp_path / "x", model, CLASSES, DIFFUSION)
    settings = json.loads((tmp_path / "x" / "adapters" / "owl" / "adapter_config.json").read_text())
    assert (settings["peft_type"], settings["r"], settings["lora_alpha"], settings["bias"]) == ("LORA", 3, 3, "none")
    assert settings["rank_pattern"] == settings["alpha_pattern"] == {}
    assert sorted(settings["target_modules"]) == sorted(name for name, _ in factorized_layers(model))
    stock, _ = with_adapters(tmp_path / "x", json.loads((tmp_path / "x" / "kind.json").read_text()))
    lora = sum(p.numel() for name, p in stock.named_parameters() if ".owl." in name)
    assert lora == 3 * 2 * (4 * 64 + 2 * 160)  # the energies s are folded in


@torch.no_grad()
def test_one_class_with_a_null_half_of_its_own_needs_an_adapter(build, inputs, tmp_path):
    """Under the learngenes-only null policy; asked for dense weights, they say that they know no null half."""
    model = keep(build(learngenes=8, tailors=3), [3])
    assert write_export(tmp_path / "auto", model, ["owl"], DIFFUSION)["guidance"] == "conditional"
    content = write_export(tmp_path / "dense", model, ["owl"], DIFFUSION, form="dense")
    assert (content["form"], content["guidance"], content["merged_class"]) == ("dense", "none", "owl")
    assert "guidance scale of 1" in content["guidance_means"]
    stock = DiTTransformer2DModel.from_pretrained(tmp_path / "dense")
    images, timesteps, labels, rows = inputs(model)
    found, expected = stock(images, timestep=timesteps, class_labels=rows).sample, model(images, timesteps, labels)
    torch.testing.assert_close(found[labels == 0], expected[labels == 0], rtol=1e-5, atol=1e-5)
    assert (found[labels == 1] - expected[labels == 1]).abs().max() > 1e-3


@torch.no_grad()
def test_classes_whose_tailors_were_all_cut_differ_in_their_labels_only(build, inputs, tmp_path):
    model = cut(build(learngenes=8, tailors=3), Budget("rank", 1)).model
    with torch.no_grad():
        for _, layer in factorized_layers(model):
            layer.renew_tailors(LayerRanks(layer.num_learngenes, (0,) * 5))
    content = write_export(tmp_path / "x", model, CLASSES, DIFFUSION)
    assert (content["form"], content["guidance"], content["merged_class"]) == ("dense", "both", None)
    stock = DiTTransformer2DModel.from_pretrained(tmp_path / "x")
    images, timesteps, labels, rows = inputs(model)
    found = stock(images, timestep=timesteps, class_labels=rows).sample
    torch.testing.assert_close(found, model(images, timesteps, labels), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_dense_backbone_exports_too(build, inputs, tmp_path):
    model = build()
    content = write_export(tmp_path / "x", model, CLASSES, DIFFUSION)
    stock = DiTTransformer2DModel.from_pretrained(tmp_path / "x")
    images, timesteps, labels, rows = inputs(model)
    found = stock(images, timestep=timesteps, class_labels=rows).sample
    torch.testing.assert_close(found, model(images, timesteps, labels), rtol=1e-5, atol=1e-5)
    assert content["null_gate"] is None and not (tmp_path / "x" / "components.safetensors").exists()


def test_what_stock_diffusers_reads_of_the_folder(model, tmp_path):
    write_export(tmp_path / "x", model, CLASSES, DIFFUSION)
    stock = DiTTransformer2DModel.from_pretrained(tmp_path / "x")
    config = stock.config
    assert (config.num_embeds_ada_norm, config.norm_eps, config.in_channels) == (1000, 1e-6, 4)
    tables = [block.norm1.emb.class_embedder.embedding_table.weight for block in stock.transformer_blocks]
    assert all(torch.equal(table, tables[0]) and table.shape == (1001, 32) for table in tables)
    assert len({table.data_ptr() for table in tables}) == len(tables)
    assert torch.equal(tables[0][5:1000], tables[0][1000:].expand(995, -1)), "rows of no class are the null row"
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "x")
    ours = make_sampler("ddim", DIFFUSION, 7, "trailing", False)
    assert torch.equal(scheduler.alphas_cumprod, ours.alphas_cumprod)
    assert scheduler.config.timestep_spacing == "trailing", "linspace is wrong for DDIM"
    assert (scheduler.config.prediction_type, scheduler.config.clip_sample) == ("v_prediction", False)


# --- back in --------------------------------------------------------------------------------------------------


def same(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("labels", [[], [3], [4, 0, 2]], ids=str)
@pytest.mark.parametrize("policy", ["learngenes", "true_class"])
def test_an_export_comes_back_bit_for_bit(build, tmp_path, labels, policy):
    model = keep(build(learngenes=8, tailors=3, null_gate=policy), labels)
    classes = [CLASSES[label] for label in labels]
    write_export(tmp_path / "x", model, classes, DIFFUSION)
    back = read_export(tmp_path / "x")
    assert same(back.model, model) and (back.classes, back.diffusion) == (classes, DIFFUSION)
    assert back.model.factorization == model.factorization and back.model.config == model.config


def test_a_cut_and_a_dense_model_come_back_too(model, build, tmp_path):
    write_export(tmp_path / "x", model, CLASSES, DIFFUSION)
    assert same(read_export(tmp_path / "x").model, model)
    write_export(tmp_path / "dense", build(), CLASSES, DIFFUSION)
    assert same(read_export(tmp_path / "dense").model, build())


def test_an_export_describes_itself(build, tmp_path):
    model = build(learngenes=8, tailors=3)
    content = write_export(tmp_path / "x", model, CLASSES, DIFFUSION)
    assert content == read_json(tmp_path / "x" / "kind.json")
    assert (content["num_learngenes"], content["num_tailors"], content["null_gate"]) == (8, 3, "learngenes")
    assert content["label_rows"] == {name: label for label, name in enumerate(CLASSES)}
    assert (content["null_row"], content["space"]) == (1000, "pixels")
    assert content["versions"].keys() >= {"torch", "diffusers", "peft"}
    assert all(sha256(tmp_path / "x" / name) == digest for name, digest in content["files"].items())
    assert "cat" in (tmp_path / "x" / "README.md").read_text()


def test_a_class_may_be_called_null(build, tmp_path):
    content = write_export(tmp_path / "x", build(learngenes=8, tailors=3, num_classes=2), ["null", "cat"], DIFFUSION)
    assert content["label_rows"] == {"null": 0, "cat": 1} and content["null_row"] == 1000
    assert read_export(tmp_path / "x").classes == ["null", "cat"]


def test_files_do_not_depend_on_the_order_of_a_set(build, tmp_path, monkeypatch):
    """peft keeps names of modules as a set and writes them as it finds them."""
    from peft import LoraConfig

    model, whole = build(learngenes=8, tailors=3), LoraConfig.to_dict
    for name, backwards in (("x", False), ("y", True)):
        monkeypatch.setattr(
            LoraConfig,
            "to_dict",
            lambda self, backwards=backwards: {
                **whole(self), "target_modules": sorted(self.target_modules, reverse=backwards)
            },
        )  # fmt: skip
        write_export(tmp_path / name, model, CLASSES, DIFFUSION)
    files = {path.relative_to(tmp_path / "x") for path in (tmp_path / "x").rglob("*") if path.is_file()}
    assert len(files) == 16
    assert all((tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes() for name in files)


def test_the_callers_model_stays_where_it_is(build, tmp_path, monkeypatch):
    model = build(learngenes=8, tailors=3)
    monkeypatch.setattr(model, "to", lambda *where: pytest.fail("the caller's own model was moved"))
    write_export(tmp_path / "x", model, CLASSES, DIFFUSION)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_on_a_gpu_is_exported_and_stays_there(build, tmp_path):
    model = copy.deepcopy(build(learngenes=8, tailors=3)).to("cuda")
    write_export(tmp_path / "x", model, CLASSES, DIFFUSION)
    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}
    assert same(read_export(tmp_path / "x").model, copy.deepcopy(model).to("cpu"))


@pytest.mark.parametrize(
    "file, tensor, message",
    [
        ("adapters/owl/adapter_model.safetensors", "base_model.model.transformer_blocks.0.attn1.to_q.lora_A.weight",
         "lora_A.weight .* is not the product of the components beside it"),
        ("diffusion_pytorch_model.safetensors", "transformer_blocks.1.ff.net.2.weight",
         "ff.net.2.weight .* is not the product of the components beside it"),
        ("diffusion_pytorch_model.safetensors", "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.weight",
         "was changed after the export: transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.weight differ from"),
        ("diffusion_pytorch_model.safetensors", "transformer_blocks.0.attn1.to_q.bias",
         "diffusion_pytorch_model.safetensors: was changed after the export: some of its tensors differ"),
        ("diffusion_pytorch_model.safetensors", "proj_out_2.weight", "was changed after the export"),
        ("components.safetensors", "transformer_blocks.0.attn1.to_q.learngene_u", "is not the product|was changed"),
    ],
)  # fmt: skip
def test_weights_that_were_trained_on_are_refused(build, tmp_path, file, tensor, message):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    write_export(tmp_path / "x", build(learngenes=8, tailors=3), CLASSES, DIFFUSION)
    tensors = load_file(tmp_path / "x" / file)
    tensors[tensor].view(-1)[0] += 1e-2
    with safe_open(tmp_path / "x" / file, "pt") as opened:
        metadata = opened.metadata()
    save_file(tensors, tmp_path / "x" / file, metadata=metadata)
    with pytest.raises(UserError, match=message):
        read_export(tmp_path / "x")


def test_folders_that_are_not_whole_are_refused(build, tmp_path):
    folder = tmp_path / "x"
    for name in ("components.safetensors", "diffusion_pytorch_model.safetensors", "kind.json",
                 "adapters/cat/adapter_model.safetensors"):  # fmt: skip
        write_export(folder, build(learngenes=8, tailors=3), CLASSES, DIFFUSION, overwrite=folder.exists())
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        with pytest.raises(UserError, match=f"{name}: no such file"):
            read_export(folder)
        (folder / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match=f"{name}: not (a whole safetensors file|valid JSON)"):
            read_export(folder)
        (folder / name).write_bytes(content)
    write_export(folder, build(learngenes=8, tailors=3), CLASSES, DIFFUSION, overwrite=True)
    content = read_json(folder / "kind.json")
    content["config"]["colour"] = "blue"
    (folder / "kind.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="describes no model that this version knows .*colour"):
        read_export(folder)
    (folder / "kind.json").write_text('{"format": "kind-export/9"}')
    with pytest.raises(UserError, match="not the description of an export of format 'kind-export/1'"):
        read_export(folder)


# --- refusals -------------------------------------------------------------------------------------------------


def test_forms_that_cannot_hold_the_model_are_refused(build, tmp_path):
    model = build(learngenes=8, tailors=3)
    for small, form, message in (
        (model, "dense", "one set of dense weights cannot hold the tailors of 5 classes"),
        (keep(model, []), "adapters", "a model without tailors has nothing to make adapters of"),
        (build(), "adapters", "a model without tailors"),
        (model, "onnx", "no form 'onnx' of an export; there are auto, dense, adapters"),
        (build(num_classes=1001), "auto", "DiTPipeline has the null label at 1000"),
    ):
        with pytest.raises(UserError, match=message):
            write_export(tmp_path / "x", small, CLASSES, DIFFUSION, form=form)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(build, tmp_path):
    model, folder = build(), tmp_path / "x"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds something else than an export already"):
            write_export(folder, model, CLASSES, DIFFUSION, overwrite=overwrite)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    write_export(tmp_path / "y", model, CLASSES, DIFFUSION)
    with pytest.raises(UserError, match="holds an export already"):
        write_export(tmp_path / "y", model, CLASSES, DIFFUSION)
    write_export(tmp_path / "y", build(learngenes=8, tailors=3), CLASSES, DIFFUSION, overwrite=True)
    assert read_export(tmp_path / "y").model.gate is not None


def test_what_an_export_did_not_write_is_not_deleted(build, tmp_path, monkeypatch):
    model, folder = build(learngenes=8, tailors=3), tmp_path / "x"
    write_export(folder, model, CLASSES, DIFFUSION)
    (folder / "adapters" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="x: holds adapters/thesis.txt too, which the export"):
        write_export(folder, build(), CLASSES, DIFFUSION, overwrite=True)
    (folder / "adapters" / "thesis.txt").unlink()
    replace = os.replace

    def fail(source, target):
        if str(source).endswith(".tmp") and target == folder:
            raise OSError(28, "no space", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_export(folder, build(), CLASSES, DIFFUSION, overwrite=True)
    assert same(read_export(folder).model, model) and [path.name for path in tmp_path.iterdir()] == ["x"]
    monkeypatch.undo()
    write_export(folder, build(), CLASSES, DIFFUSION, overwrite=True)
    assert same(read_export(folder).model, build()) and [path.name for path in tmp_path.iterdir()] == ["x"]


def test_names_of_adapters_are_plain_and_different():
    assert adapter_names(["cat", "a b", "a_b", "A_B", "lora_x", "", "ä.ö"]) == [
        "cat", "a_b", "a_b_2", "A_B_3", "class_lora_x", "class_", "___",
    ]  # fmt: skip
