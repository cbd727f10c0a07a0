"""The stages of an experiment in latents: what they leave, and models of latents in Python and in exports."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import torch
from latent_stages import RUNS, run_stage

import kind
from kind.artifacts import load_arrays, read_json, sha256
from kind.data.latents import load_latents
from kind.evaluation.held_out_loss import held_out_losses
from kind.params.file import load_experiment

RESULTS = "results/lat"
FULL = ("--task", "novel", "--method", "full", "--seed", "0")


def test_samples_and_previews_are_pixels_and_replayed_images_latents(in_latents):
    results = in_latents / RESULTS
    for method in RUNS:
        for shard in ("shard_000", "shard_001"):
            found = load_arrays(results / f"samples/novel/{method}/seed_0/step_000003/{shard}.npz")["arr_0"]
            assert found.shape == (6, 16, 16, 3) and found.dtype == np.uint8 and found.std() > 1
    assert load_arrays(results / "backbones/kind/preview.npz")["arr_0"].shape == (24, 16, 16, 3)
    replayed = load_arrays(results / "backbones/dense/replay.npz")["arr_0"]
    assert replayed.shape == (6, 8, 8, 4) and replayed.dtype == np.float32


def test_metrics_are_those_of_pixels_without_judge_and_memorisation(in_latents):
    for method in RUNS:
        metrics = read_json(in_latents / RESULTS / f"runs/novel/{method}/seed_0/metrics.json")
        assert metrics["memorisation"] is None and "judge" not in metrics
        assert not [name for name in metrics["values"] if "svc" in name or "nearest" in name]
        assert metrics["values"].keys() == metrics["directions"].keys()
        assert metrics["values"]["fd_pictures_12_vs_6"] > 0
        assert metrics["protocol"]["latents"]["scale"] == 0.5
    assert not (in_latents / RESULTS / "reference/novel.judge.npz").exists()


def test_both_are_there_where_they_are_asked_for(latents_copy):
    with open(latents_copy / "lat.yaml", "a") as params:
        params.write("  judge: true\n  memorisation: true\n")
    assert run_stage("reference", "--task", "novel") == 0 == run_stage("evaluate", *FULL)
    metrics = read_json(latents_copy / RESULTS / "runs/novel/full/seed_0/metrics.json")
    assert 0 <= metrics["judge"]["accuracy_on_real_test"] <= 1 and metrics["values"]["accuracy_svc_12"] is not None
    assert metrics["memorisation"]["num_train"] == 8


def test_samples_do_not_depend_on_their_shards(latents_copy):
    def drawn() -> np.ndarray:
        folder = latents_copy / RESULTS / "samples/novel/full/seed_0/step_000003"
        return np.concatenate([load_arrays(path)["arr_0"] for path in sorted(folder.iterdir())])

    before, params = drawn(), latents_copy / "lat.yaml"
    params.write_text(params.read_text().replace("shard_size: 6", "shard_size: 12"))
    shutil.rmtree(latents_copy / RESULTS / "samples/novel/full")
    assert run_stage("sample", *FULL) == 0
    np.testing.assert_array_equal(drawn(), before)


def test_a_killed_pretraining_goes_on_to_the_same_bytes(latents_copy, in_latents, monkeypatch):
    from kind import training

    params, folder = latents_copy / "lat.yaml", latents_copy / RESULTS / "backbones/dense"
    text = params.read_text().replace("device: cpu,", "device: cpu, checkpoint_seconds: 0.000001,")
    for name in ("lat.yaml",):
        (latents_copy / name).write_text(text.replace("ema_decay: 0.5}\ntasks", "ema_decay: 0.5, log_every: 1}\ntasks"))
    expected = whole_run(latents_copy, folder)
    step, calls = training._Trainer._step, iter(range(3))

    def killed(*given):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return step(*given)

    shutil.rmtree(folder)
    with monkeypatch.context() as patch:
        patch.setattr(training._Trainer, "_step", killed)
        assert run_stage("pretrain", "--backbone", "dense") == 130
    assert whole_run(latents_copy, folder) == expected
    assert read_json(folder / "cost.json")["resumes"] == 1


def whole_run(folder, backbone) -> dict[str, str]:
    assert run_stage("pretrain", "--backbone", "dense") == 0
    return {name: sha256(backbone / name) for name in ("model.safetensors", "raw.safetensors", "preview.npz")}


def test_held_out_losses_are_of_latents_and_the_same_twice(in_latents):
    settings = load_experiment(in_latents / "lat.yaml").data["pictures"].latent_settings()
    found = load_latents(in_latents / RESULTS / "data/pictures", "validation", ["a", "b", "c"], settings)
    model = kind.load(in_latents / RESULTS / "backbones/kind")
    rows, labels = torch.from_numpy(found.images), torch.from_numpy(found.labels)
    first, again = (found.space.held_out(rows) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (9, 4, 8, 8)
    mean, deviation = rows[:, 0].double().unbind(1)
    noise = (first.double() / 0.5 - mean) / deviation
    assert noise.abs().max() < 5 and 0.9 < noise.std() < 1.1, "posteriors of the images as they are, not mirrored"
    losses = held_out_losses(model.model, model.diffusion, first, labels, 2, 0, batch_size=4)
    assert losses.shape == (9,) and losses.isfinite().all()


# --- in Python ------------------------------------------------------------------------------------------------


def test_a_model_of_latents_samples_pixels_by_its_vae_or_latents(in_latents, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model, how = kind.load(in_latents / RESULTS / "backbones/kind"), {"num_steps": 2, "seed": 3}
    images = model.sample(4, vae=in_latents / "vae", **how)
    latents = model.sample(4, latents=True, **how)
    assert (images.shape, images.dtype) == ((4, 16, 16, 3), np.uint8)
    assert (latents.shape, latents.dtype) == ((4, 8, 8, 4), np.float32)
    with pytest.raises(kind.UserError, match="a VAE turns into images: vae weights, which are neither") as error:
        model.sample(4, **how)
    assert "latents=True" in str(error.value) and "KIND_VAE" in str(error.value)
    with pytest.raises(kind.UserError, match="turns into images: vae: nowhere does not exist"):
        model.sample(4, vae="nowhere", **how)
    with pytest.raises(kind.UserError, match="decoded or not"):
        model.sample(4, vae=in_latents / "vae", latents=True, **how)
    monkeypatch.setenv("KIND_VAE", str(in_latents / "vae"))
    np.testing.assert_array_equal(model.sample(4, **how), images)


def test_a_model_of_pixels_takes_no_vae(build):
    from kind.api import KindModel
    from kind.diffusion import Diffusion

    model = KindModel(build(channels=3), tuple("abcde"), Diffusion())
    with pytest.raises(kind.UserError, match="one of pixels"):
        model.sample(1, vae="vae")


def test_the_card_of_an_export_names_the_vae_and_draws_with_its_scale(in_latents, tmp_path):
    """The code in it, with diffusers alone."""
    model = kind.load(in_latents / RESULTS / "backbones/kind").keep(["a"]).learngenes()
    content = model.export(tmp_path / "x")
    assert content["space"] == "latents" and content["config"]["latents"]["scale"] == 0.5
    card = (tmp_path / "x" / "README.md").read_text()
    assert content["config"]["latents"]["vae"] in card and "taken for" not in card
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    code = code.replace('"VAE"', repr(str(in_latents / "vae"))).replace('FOLDER = "."', f'FOLDER = "{tmp_path / "x"}"')
    names = {}
    exec(code.replace("num_inference_steps=50", "num_inference_steps=1"), names)
    assert names["vae"].config.scaling_factor == 0.5 and names["images"][0].size == (16, 16)
    assert kind.load(tmp_path / "x").model.config == model.model.config
