"""Latents: what is stored is diffusers' posterior, what is drawn depends on seed and step, decoding is the way back."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from latent_stages import run_stage

from kind.artifacts import load_tensors, read_json, sha256
from kind.batches import Batches
from kind.data import encoding
from kind.data.latents import load_latents
from kind.data.prepared import StoredImages, load_split
from kind.errors import UserError
from kind.images import to_uint8
from kind.params.data import Latents as LatentParams
from kind.params.file import load_experiment
from kind.read_ahead import ReadAhead
from kind.spaces import Latents, Pixels
from kind.vae import Vae, load_vae, load_vae_of
from kind.weights import WEIGHTS

CPU = torch.device("cpu")
ENCODE = ("encode", "--data", "pictures")
DATA = "results/lat/data/pictures"


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
    weights = in_latents / "vae" / "diffusion_pytorch_model.safetensors"
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
    assert latents.space == Latents(sha256(in_latents / "vae" / "diffusion_pytorch_model.safetensors"), 0.5)


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

    path = latents_copy / "vae" / "diffusion_pytorch_model.safetensors"
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


# --- draws ----------------------------------------------------------------------------------------------------


def rows_of(deviation: float, flips: int = 2, count: int = 6) -> torch.Tensor:
    means = torch.arange(count * flips * 8.0).reshape(count, flips, 1, 2, 2, 2)
    return torch.cat([means, torch.full_like(means, deviation)], dim=2).half()


def test_without_deviation_a_draw_is_the_scaled_mean_of_one_flip():
    rows, space, chosen = rows_of(0.0), Latents("", 0.25), []
    for step in range(200):
        found = space.seen(rows, 3, step)
        of_flip = [(found[row] == 0.25 * rows[row, 1, 0].float()).all().item() for row in range(6)]
        assert all((found[row] == 0.25 * rows[row, int(flip), 0].float()).all() for row, flip in enumerate(of_flip))
        chosen.append(of_flip)
    share = np.mean(chosen, axis=0)
    assert share == pytest.approx(0.5, abs=0.15), "half of the steps, for each image"
    assert not np.array_equal(chosen[0], chosen[1])
    assert torch.equal(space.seen(rows_of(0.0, flips=1), 3, 0), 0.25 * rows_of(0.0, flips=1)[:, 0, 0].float())


def test_draws_have_the_posteriors_mean_and_deviation():
    rows, space = rows_of(2.0, flips=1, count=1), Latents("", 0.25)
    drawn = torch.stack([space.seen(rows, 0, step) for step in range(4000)]).double()
    expected = 0.25 * rows[:, 0, 0].double()
    assert (drawn.mean(0) - expected).abs().max() < 5 * 0.5 / 4000**0.5
    assert (drawn.std(0) / 0.5 - 1).abs().max() < 0.06
    first, second = drawn[:-1].flatten(1) - expected.flatten(), drawn[1:].flatten(1) - expected.flatten()
    assert ((first * second).mean(0) / 0.25).abs().max() < 0.08, "steps are independent"


def test_draws_depend_on_seed_and_step_alone():
    rows, space = rows_of(1.0), Latents("", 1.0)
    first = space.seen(rows, 5, 7)
    torch.rand(3)
    assert torch.equal(space.seen(rows, 5, 7), first)
    assert not torch.equal(space.seen(rows, 6, 7), first) and not torch.equal(space.seen(rows, 5, 8), first)


def test_pixels_are_mirrored_only_where_they_may_be():
    images = torch.randint(256, (8, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = images.double() / 127.5 - 1
    torch.testing.assert_close(Pixels().seen(images, 0, 0).double(), plain, atol=1e-6, rtol=0)
    shares = []
    for step in range(100):
        found = Pixels(flips=True).seen(images, 0, step).double()
        mirrored = [torch.allclose(one, other.flip(-1), atol=1e-5) for one, other in zip(found, plain, strict=True)]
        kept = [torch.allclose(one, other, atol=1e-5) for one, other in zip(found, plain, strict=True)]
        assert all(one != other for one, other in zip(mirrored, kept, strict=True))
        shares.append(mirrored)
    assert np.mean(shares, axis=0) == pytest.approx(0.5, abs=0.2)


def test_batches_of_stored_latents_are_those_of_latents_in_memory(stored):
    rows, space = np.array([9, 3, 17, 4, 5, 0]), Latents("", 0.5)
    how = {"size": 4, "seed": 3, "num_classes": 5, "num_timesteps": 10, "label_dropout": 0.1, "keep_gates": False}
    labels = torch.arange(6) % 5
    read = Batches(ReadAhead(StoredImages(stored, rows), CPU, space), labels, space=space, **how)
    held = Batches(torch.from_numpy(stored[rows]), labels, space=space, **how)
    for step in (0, 1, 2, 7, 8):  # as after a kill
        one, other = read.at(step), held.at(step)
        assert one.images.shape == one.noise.shape == (4, 4, 8, 8) and one.images.dtype == torch.float32
        assert all(torch.equal(a, b) for a, b in zip(one[:5], other[:5], strict=True))


# --- after a kill ---------------------------------------------------------------------------------------------


@pytest.fixture
def undone(latents_copy, monkeypatch):
    """The copy with its images prepared and not encoded, and one batch a chunk."""
    for name in ("latents.npy", "latents.json", "encode.json"):
        (latents_copy / DATA / name).unlink()
    monkeypatch.setattr(encoding, "ROWS", 1)
    return latents_copy


def sums(folder) -> dict[str, str]:
    return {name: sha256(folder / DATA / name) for name in ("latents.npy", "latents.json")}


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(undone, in_latents, monkeypatch, capsys):
    import multiprocessing
    import time

    def slowly() -> None:
        posterior = Vae.posterior
        monkeypatch.setattr(Vae, "posterior", lambda *given: time.sleep(0.05) or posterior(*given))
        run_stage(*ENCODE, "--workers", "2")

    process = multiprocessing.get_context("fork").Process(target=slowly)
    process.start()
    deadline = time.monotonic() + 60
    pattern = "results/lat/state/encode/pictures/*/*/done"
    while not (logs := [path for path in undone.glob(pattern) if path.read_text().strip()]):
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join()
    known = len(logs[0].read_text().split("\n")) - 2
    assert 0 < known < 12 and not (undone / DATA / "latents.npy").exists()
    with open(logs[0], "a") as log:
        log.write("1")  # as if cut off in a line
    assert run_stage(*ENCODE) == 0
    said = capsys.readouterr()
    assert f"encode pictures: going on after {5 * known} of 60 images" in said.out and "60/60 (" in said.err
    assert sums(undone) == sums(in_latents), "of other chunks and other workers, too"
    assert not list((undone / "results/lat").glob("state/encode/pictures"))


def test_a_kill_after_the_latents_were_moved_leaves_nothing_that_is_believed(undone, in_latents, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(encoding, "write_json", killed)
        assert run_stage(*ENCODE) == 130
    assert (undone / DATA / "latents.npy").exists() and not (undone / DATA / "latents.json").exists()
    assert run_stage(*ENCODE) == 0
    assert sums(undone) == sums(in_latents)


def test_a_finished_one_is_done(latents_copy, capsys, monkeypatch):
    monkeypatch.setattr(encoding, "encode", None)
    assert run_stage(*ENCODE) == 0
    assert "already done" in capsys.readouterr().err


# --- mistakes -------------------------------------------------------------------------------------------------

WAYS = (
    "name a folder with config.json, diffusion_pytorch_model.safetensors in the params as data.NAME.latents.vae, or "
    "name it in the variable KIND_VAE, or run `python -m kind fetch vae` where there is a network"
)


def test_a_vae_that_is_not_there_is_told_with_the_three_ways(latents_copy, refused, monkeypatch):
    shutil.move("vae", "elsewhere")
    gone = "data.pictures.latents.vae: vae does not exist"
    for stage in (ENCODE, ("pretrain", "--backbone", "dense")):
        assert refused(*stage) == f"lat.yaml: {gone}\n  -> {WAYS}\n"
    assert refused("check") == f"missing on this machine:\n  - {gone}; {WAYS}\n"
    text = (latents_copy / "lat.yaml").read_text()
    (latents_copy / "lat.yaml").write_text(text.replace("vae: vae, ", ""))
    neither = "vae weights, which are neither named nor fetched: weights/vae does not exist"
    assert refused(*ENCODE) == f"lat.yaml: {neither}\n  -> {WAYS}\n"
    monkeypatch.setenv("KIND_VAE", "elsewhere")
    assert run_stage(*ENCODE) == 0


def test_what_is_no_vae_is_refused(latents_copy, refused):
    config, weights = (latents_copy / "vae" / name for name in WEIGHTS_FILES)
    text, whole = config.read_text(), weights.read_bytes()
    config.write_text(text.replace("AutoencoderKL", "UNet2DModel"))
    assert refused(*ENCODE) == (
        f"vae/config.json: not the description of an AutoencoderKL (it describes 'UNet2DModel')\n  -> {WAYS}\n"
    )
    config.write_text(text)
    weights.write_bytes(whole[: len(whole) // 2])
    assert refused(*ENCODE).startswith(f"vae/{weights.name}: not a whole safetensors file (")
    from safetensors.torch import load, save_file

    tensors = load(whole)
    tensors.pop("quant_conv.bias")
    save_file(tensors, weights)
    assert refused(*ENCODE).startswith(
        f"vae/{weights.name}: does not fit the AutoencoderKL of config.json beside it: "
    ), "nothing is drawn at random"


WEIGHTS_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


def test_a_vae_of_other_sizes_is_refused(latents_copy, refused):
    text = (latents_copy / "lat.yaml").read_text()
    (latents_copy / "lat.yaml").write_text(text.replace("downsampling: 2", "downsampling: 1"))
    assert refused(*ENCODE) == (
        "vae: a VAE of downsampling 2 and 4 channels, but the params say 1 and 4\n"
        "  -> mend downsampling and channels in the data set's latents, or name another VAE\n"
    )


def test_latents_of_other_settings_or_images_are_not_trained_on(latents_copy, refused):
    text = (latents_copy / "lat.yaml").read_text()
    (latents_copy / "lat.yaml").write_text(text.replace("scale: 0.5", "scale: 0.25"))
    again = "\n  -> run the encode stage of this data set again, or snakemake\n"
    pretrain = ("pretrain", "--backbone", "dense")
    assert refused(*pretrain) == f"{DATA}/latents.json: latents of other settings: scale 0.5 (params: 0.25){again}"
    (latents_copy / "lat.yaml").write_text(text.replace("size: 16}", "size: 16, background: 0, seed: 1}"))
    for name in ("prepare.json", "latents.json"):
        path = latents_copy / DATA / name
        path.write_text(path.read_text().replace(sha256(latents_copy / DATA / "images.npy"), "0" * 64))
    (latents_copy / DATA / "encode.json").unlink()
    (latents_copy / DATA / "prepare.json").unlink()
    assert f"{DATA}/latents.npy: latents of other images than {DATA}/images.npy holds now{again}" in refused(*pretrain)


def test_samples_are_decoded_by_the_vae_that_encoded(latents_copy, refused):
    """Another one, of the same sizes."""
    path = latents_copy / "vae" / WEIGHTS_FILES[1]
    shutil.rmtree(latents_copy / "results/lat/samples")
    from safetensors.torch import load_file, save_file

    save_file({name: tensor + 0.01 for name, tensor in load_file(path).items()}, path)
    said = refused("sample", "--task", "novel", "--method", "full", "--seed", "0")
    assert said.startswith(f"vae/{path.name}: the model was trained on latents of another VAE (sha256 ")


def test_models_remember_whose_latents_they_see(in_latents):
    for name in ("backbones/kind/model", "learngenes/kind/learngenes", "adapters/novel/lora/seed_0/raw"):
        _, header = load_tensors(in_latents / "results/lat" / f"{name}.safetensors")
        assert header["config"]["latents"] == {
            "vae": sha256(in_latents / "vae" / WEIGHTS_FILES[1]), "scale": 0.5
        }  # fmt: skip


def test_a_vae_is_found_for_a_model_alone(in_latents, monkeypatch):
    own = Latents(sha256(in_latents / "vae" / WEIGHTS_FILES[1]), 0.5)
    monkeypatch.setenv("KIND_VAE", str(in_latents / "vae"))
    assert load_vae_of(own, None, CPU).settings.scale == 0.5
