"""The stage encode: the same bytes whatever the kills, chunks and workers; mistakes in VAEs and latents."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from argparse import Namespace

import pytest
from latent_stages import run_stage

from kind.artifacts import sha256
from kind.data import encoding
from kind.stages.encode import THREADS
from kind.stages.prepare import chosen_workers
from kind.vae import Vae
from kind.weights import WEIGHTS

ENCODE = ("encode", "--data", "pictures")
DATA = "results/lat/data/pictures"
WEIGHTS_FILE = WEIGHTS["vae"].files[1].name


@pytest.mark.parametrize(
    ("cores", "option", "param", "expected"), [(64, None, None, 4), (2, None, None, 2), (64, None, 9, 9), (64, 7, 9, 7)]
)
def test_many_cores_do_not_fill_the_memory_unless_asked(monkeypatch, cores, option, param, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(cores))
    context = Namespace(experiment=Namespace(compute=Namespace(workers=param)))
    assert chosen_workers(Namespace(workers=option), context, most=THREADS) == expected


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


def test_damaged_chunks_and_lines_of_a_killed_run_are_encoded_again(undone, in_latents, monkeypatch, capsys):
    """The latents wait to be moved; a byte of them or of the log is changed then."""

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(encoding.checksums, "move", killed)
        assert run_stage(*ENCODE) == 130
    (place,) = (undone / "results/lat/state/encode/pictures").glob("*/*")
    for name, position in (("latents.npy", -1), ("latents.npy", -5000), ("done", 3), ("done", 90)):
        damaged = bytearray((place / name).read_bytes())
        damaged[position] ^= 1
        (place / name).write_bytes(damaged)
    assert run_stage(*ENCODE) == 0
    assert "going on after" in capsys.readouterr().out
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
    more = "more: {source: folder, options: {path: pictures, size: 16}, latents: {vae: vae, downsampling: 2}}\nmodel:"
    (latents_copy / "lat.yaml").write_text(text.replace("model:", f"  {more}", 1))
    assert refused("check") == f"missing on this machine:\n  - {gone}; {WAYS}\n", "one VAE is told once"
    (latents_copy / "lat.yaml").write_text(text.replace("vae: vae, ", ""))
    neither = "vae weights, which are neither named nor fetched: weights/vae does not exist"
    assert refused(*ENCODE) == f"lat.yaml: {neither}\n  -> {WAYS}\n"
    monkeypatch.setenv("KIND_VAE", "elsewhere")
    assert run_stage(*ENCODE) == 0


def test_what_is_no_vae_is_refused(latents_copy, refused):
    config, weights = (latents_copy / "vae" / file.name for file in WEIGHTS["vae"].files)
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
    path = latents_copy / "vae" / WEIGHTS_FILE
    shutil.rmtree(latents_copy / "results/lat/samples")
    from safetensors.torch import load_file, save_file

    save_file({name: tensor + 0.01 for name, tensor in load_file(path).items()}, path)
    said = refused("sample", "--task", "novel", "--method", "full", "--seed", "0")
    assert said.startswith(f"vae/{path.name}: the model was trained on latents of another VAE (sha256 ")
