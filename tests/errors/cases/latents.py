"""Data sets in latents: a VAE that is not there, and a stage that has nothing to do."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

from collections.abc import Callable

from place import Place

from cases.parts import PRETRAIN, SAMPLE, Case

ENCODE = ("encode", "--data", "digits")
WAYS = "name a folder with config.json, diffusion_pytorch_model.safetensors in the params as data.NAME.latents.vae, or name it in the variable KIND_VAE, or run `python -m kind fetch vae` where there is a network"


def in_latents(vae: str) -> Callable[[Place], object]:
    """The data set is one of colours, with latents."""
    source = f"{{source: folder, options: {{path: pictures, size: 16}}, latents: {{{vae}}},"
    return lambda place: place.edit(("{source: digits,", source))


CASES = [
    Case(
        "no latents to encode",
        lambda p: None,
        ENCODE,
        "tiny.yaml: data.digits has no latents: its images are trained on as pixels\n"
        "  -> to encode them by a VAE, write data.digits.latents: {}",
    ),
    Case(
        "no VAE",
        in_latents(""),
        ENCODE,
        f"tiny.yaml: vae weights, which are neither named nor fetched: weights/vae does not exist\n  -> {WAYS}",
    ),
    Case(
        "a VAE that is elsewhere",
        in_latents("vae: sd-vae"),
        PRETRAIN,
        f"tiny.yaml: data.digits.latents.vae: sd-vae does not exist\n  -> {WAYS}",
    ),
    Case(
        "a VAE without weights",
        lambda p: (in_latents("vae: sd-vae")(p), (p.folder / "sd-vae").mkdir()),
        SAMPLE,
        f"tiny.yaml: data.digits.latents.vae: sd-vae has no config.json, diffusion_pytorch_model.safetensors\n  -> {WAYS}",
    ),
]
