"""Latents beside the images of a prepared folder:

`latents.npy`    fp16 [N, F, 2, C, h, w], row for row as images.npy: see `kind.spaces.Latents`
`latents.json`   written last: the VAE's checksums, scale, flips, class map, counts, and which images these are
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kind.artifacts import read_json
from kind.data.prepared import IMAGES, LabelledImages, check_sum, open_rows, read_manifest, split_of
from kind.errors import UserError
from kind.spaces import Latents

FORMAT = "kind-latents-1"
LATENTS, MANIFEST = "latents.npy", "latents.json"
AXES = "latents fp16 [N, F, 2, C, h, w]"
REMAKE = "run the encode stage of this data set again, or snakemake"
NEEDED = ("vae", "settings", "images", "sha256")


def load_latents(
    folder: str | Path, split: str, classes: Sequence[str] | None, settings: Mapping[str, Any]
) -> LabelledImages:
    """`kind.data.prepared.load_split` of the latents.

    settings: what the params say of them, and of flips.  Raises UserError for latents that were made otherwise, or of
    other images than are in the folder now.
    """
    folder = Path(folder)
    prepared, own = read_manifest(folder), read_latents_manifest(folder)
    different = [key for key, value in settings.items() if own["settings"].get(key) != value]
    if different:
        listed = ", ".join(f"{key} {own['settings'].get(key)} (params: {settings[key]})" for key in different)
        raise UserError(f"{folder / MANIFEST}: latents of other settings: {listed}", hint=REMAKE)
    if own["images"] != prepared["sha256"][IMAGES]:
        raise UserError(f"{folder / LATENTS}: latents of other images than {folder / IMAGES} holds now", hint=REMAKE)
    check_sum(folder / LATENTS, own, MANIFEST, REMAKE)
    stored = open_rows(folder / LATENTS, "float16", 6, AXES, REMAKE)
    space = Latents(own["vae"]["sha256"], own["settings"]["scale"])
    return replace(split_of(folder, prepared, stored, split, classes), space=space)


def read_latents_manifest(folder: Path) -> dict[str, Any]:
    """Raises UserError for another format, or one that is not whole."""
    path = folder / MANIFEST
    manifest = read_json(path)
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT or any(key not in manifest for key in NEEDED):
        raise UserError(f"{path}: not the description of latents of format {FORMAT!r}", hint=REMAKE)
    return manifest
