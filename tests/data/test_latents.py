"""Latents: what is stored is diffusers' posterior, what is drawn depends on seed and step, decoding is the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from kind.artifacts import load_tensors, read_json, sha256
from kind.batches import Batches
from kind.data.latents import load_latents
from kind.data.prepared import StoredImages, load_split
from kind.errors import UserError
from kind.images import to_uint8
from kind.params.data import Latents as LatentParams
from kind.params.file import load_experiment
from kind.random_streams import batch_indices
from kind.read_ahead import ReadAhead
from kind.spaces import Latents
from kind.vae import Vae, load_vae, load_vae_of
from kind.weights import WEIGHTS

CPU = torch.device("cpu")
DATA = "results/lat/data/pictures"
WEIGHTS_FILE = WEIGHTS["vae"].files[1].name


@pytest.fixture(scope="session")
def stored(in_latents) -> np.ndarray:
    return np.load(in_latents / DATA / "latents.npy", mmap_mode="r")


@pytest.fixture(scope="session")
def pixels(in_latents) -> np.ndarray:
    return np.load(in_latents / DATA / "images.npy")


@pytest.fixture(scope="session")
def theirs(in_latents) -> AutoencoderKL:
    """diffusers' own loading."""
    return AutoencoderKL.from_pretrained(in_latents / "vae", local_files_only=True).eval()


@pytest.fixture
def ours(in_latents) -> Vae:
    params = LatentParams(scale=0.3, downsampling=2, batch_size=7)
    return load_vae(WEIGHTS["vae"].place(str(in_latents / "vae")), params, CPU)


def as_models_see(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)


# --- what is stored -------------------------------------------------------------------------------------------


@torch.no_grad()
def test_stored_latents_are_diffusers_posteriors_of_both_flips(stored, pixels, theirs):
    assert stored.shape == (60, 2, 2, 4, 8, 8) and stored.dtype == np.float16
    for flip, images in enumerate((pixels, pixels[:, :, ::-1])):
        found = theirs.encode(as_models_see(images.copy())).latent_dist
        for part, expected in enumerate((found.mean, found.std)):
            ours = torch.from_numpy(stored[:, flip, part].astype(np.float32))
            torch.testing.assert_close(ours, expected, rtol=2**-10, atol=1e-5)  # a half has 11 bits
    assert np.abs(stored[:, 1].astype(np.float32) - stored[:, 0]).max() > 0.1, "the flips are two"


def test_the_manifest_says_what_the_latents_are(in_latents):
    manifest, prepared = (read_json(in_latents / DATA / name) for name in ("latents.json", "manifest.json"))
    weights = in_latents / "vae" / WEIGHTS_FILE
    assert manifest["vae"] == {"sha256": sha256(weights), "scaling_factor": 0.18215}
    assert manifest["settings"] == {
        "flips": True, "scale": 0.5, "downsampling": 2, "channels": 4, "batch_size": 5, "precision": "float32"
    }  # fmt: skip
    assert manifest["shape"] == [60, 2, 2, 4, 8, 8] and len(manifest["axes"]) == 6
    assert manifest["images"] == prepared["sha256"]["images.npy"]
    assert (manifest["classes"], manifest["counts"]) == (prepared["classes"], prepared["counts"])


def test_rows_are_those_of_the_images(in_latents, stored, pixels):
    settings = load_experiment(in_latents / "lat.yaml").data["pictures"].latent_settings()
    for split in ("train", "all"):
        latents = load_latents(in_latents / DATA, split, ["e", "b"], settings)
        images = load_split(in_latents / DATA, split, ["e", "b"])
        np.testing.assert_array_equal(latents.rows.rows, images.rows.rows)
        np.testing.assert_array_equal(latents.labels, images.labels)
        assert latents.shape == (8, 8, 4) and images.shape == (16, 16, 3)
        np.testing.assert_array_equal(latents.images, stored[images.rows.rows])
    assert latents.space == Latents(sha256(in_latents / "vae" / WEIGHTS_FILE), 0.5)


# --- decoding -------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("count", [3, 7, 12])
def test_decoding_what_was_encoded_gives_what_diffusers_gives(ours, theirs, pixels, count):
    """Rounded to the same pixels, whatever batches the VAE works in."""
    posterior = ours.posterior(torch.from_numpy(pixels[:count]).permute(0, 3, 1, 2))
    found = ours.decode(posterior[:, 0] * 0.3)
    expected = theirs.decode(theirs.encode(as_models_see(pixels[:count])).latent_dist.mode()).sample
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    theirs_rounded = ((expected.double().permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255)
    assert np.mean(to_uint8(found) == theirs_rounded.numpy()) > 0.999
    assert to_uint8(found).std() > 5, "or nothing is compared"


def test_images_that_are_not_finite_are_refused(ours):
    with pytest.raises(UserError, match="decoded images are not finite(.|\n)*  -> train longer"):
        ours.decode(torch.full((1, 4, 8, 8), torch.nan))


def test_files_that_name_the_attention_as_before_2023_are_read(latents_copy, ours, pixels):
    """stabilityai/sd-vae-ft-ema is one; diffusers reads it too."""
    from safetensors.torch import load_file, save_file

    path = latents_copy / "vae" / WEIGHTS_FILE
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(path)
    renamed = {}
    for name, tensor in tensors.items():
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.")
        renamed[name] = tensor
    assert renamed.keys() != tensors.keys()
    save_file(renamed, path)
    again = load_vae(WEIGHTS["vae"].place(str(path.parent)), ours.settings, CPU)
    images = torch.from_numpy(pixels[:2]).permute(0, 3, 1, 2)
    assert torch.equal(again.posterior(images), ours.posterior(images))


# --- models ---------------------------------------------------------------------------------------------------


def test_batches_of_stored_latents_are_those_of_latents_in_memory(stored):
    rows, space = np.array([9, 3, 17, 4, 5, 0]), Latents("", 0.5)
    how = {"size": 4, "seed": 3, "num_classes": 5, "num_timesteps": 10, "label_dropout": 0.1, "keep_gates": False}
    labels = torch.arange(6) % 5
    read = Batches(ReadAhead(StoredImages(stored, rows), CPU, space), labels, space=space, **how)
    held = Batches(torch.from_numpy(stored[rows]), labels, space=space, **how)
    for step in (0, 1, 2, 7, 8):  # as after a kill
        one, other = read.at(step), held.at(step)
        chosen = batch_indices(6, 4, step, 3)
        assert torch.equal(one.images, space.seen(torch.from_numpy(stored[rows[chosen]]), 3, step))
        assert one.images.shape == one.noise.shape == (4, 4, 8, 8) and one.images.dtype == torch.float32
        assert all(torch.equal(a, b) for a, b in zip(one[:5], other[:5], strict=True))


def test_models_remember_whose_latents_they_see(in_latents):
    for name in ("backbones/kind/model", "learngenes/kind/learngenes", "adapters/novel/lora/seed_0/raw"):
        _, header = load_tensors(in_latents / "results/lat" / f"{name}.safetensors")
        assert header["config"]["latents"] == {
            "vae": sha256(in_latents / "vae" / WEIGHTS_FILE), "scale": 0.5
        }  # fmt: skip


def test_a_vae_is_found_for_a_model_alone(in_latents, monkeypatch):
    own = Latents(sha256(in_latents / "vae" / WEIGHTS_FILE), 0.5)
    monkeypatch.setenv("KIND_VAE", str(in_latents / "vae"))
    assert load_vae_of(own, None, CPU).settings.scale == 0.5
