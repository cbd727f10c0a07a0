"""diffusers' AutoencoderKL from a local folder: images into posteriors, latents into images.  Never from a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kind import spaces
from kind.artifacts import sha256
from kind.devices import autocast
from kind.diffusers_parts import autoencoder
from kind.errors import UserError, first_difference
from kind.images import to_model_range
from kind.params.data import Latents
from kind.weights import WEIGHTS, Place

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


class Vae:
    """network: in evaluation mode, on its device.  sha256: of its weights file.  settings: of the params."""

    def __init__(self, network: AutoencoderKL, sha256: str, settings: Latents):
        self.network, self.sha256, self.settings = network, sha256, settings
        self.device = next(network.parameters()).device

    @torch.inference_mode()
    def posterior(self, images: Tensor) -> Tensor:
        """One batch, uint8 [B, 3, H, W] -> mean and standard deviation, float32 [B, 2, C, h, w], on the CPU."""
        with autocast(self.settings.precision, self.device):
            found = self.network.encode(to_model_range(images.to(self.device))).latent_dist
        return torch.stack([found.mean.float(), found.std.float()], dim=1).cpu()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """As a model sees them, [N, C, h, w] -> images in [-1, 1], float32 [N, 3, H, W], in batches from the first on.

        Raises UserError for images that are not finite.
        """
        decoded = []
        for batch in latents.to(self.device).split(self.settings.batch_size):
            with autocast(self.settings.precision, self.device):
                decoded.append(self.network.decode(batch.float() / self.settings.scale).sample.float())
        images = torch.cat(decoded)
        if not images.isfinite().all():
            raise UserError(
                "decoded images are not finite: the latents are far from any image, or the precision is too low",
                hint="train longer, or write `precision: float32` in the data set's latents",
            )
        return images

    def check_model(self, latents: spaces.Latents, place: Place) -> None:
        """Raises UserError unless a model of these latents is decoded by this VAE with this scale."""
        if latents.vae != self.sha256:
            raise UserError(
                f"{place.files[-1]}: the model was trained on latents of another VAE (sha256 {latents.vae[:12]}, found "
                f"{self.sha256[:12]})",
                hint="put that VAE there, or " + place.weights.ways,
            )
        if latents.scale != self.settings.scale:
            raise UserError(
                f"the model was trained on latents times {latents.scale}, and {self.settings.scale} is asked for",
                hint=f"write `scale: {latents.scale}` in the data set's latents",
            )


def load_vae(place: Place, settings: Latents, device: torch.device) -> Vae:
    """Raises UserError for a folder that is not there, holds another kind of network, or one of other sizes."""
    found = _read(place, settings, device)
    config, wanted = found.network.config, (settings.downsampling, settings.channels)
    sizes = 2 ** (len(config.block_out_channels) - 1), config.latent_channels
    if sizes != wanted:
        raise UserError(
            f"{place.path}: a VAE of downsampling {sizes[0]} and {sizes[1]} channels, but the params say {wanted[0]} "
            f"and {wanted[1]}",
            hint="mend downsampling and channels in the data set's latents, or name another VAE",
        )
    return found


def load_vae_of(latents: spaces.Latents, folder: str | Path | None, device: torch.device) -> Vae:
    """The VAE of a model's latents, without an experiment.  folder: None for where the variable or `fetch` has it.

    Raises UserError as `load_vae` does, and for another VAE than the model's.
    """
    place = WEIGHTS["vae"].place(None if folder is None else str(folder))
    place = replace(place, said_by="vae" if folder is not None else place.said_by)
    if problem := place.problem():
        raise UserError(
            f"the model makes latents, which a VAE turns into images: {problem}",
            hint="ask for the latents themselves by latents=True, or give the folder of the VAE as vae, or "
            + replace(place.weights, key=None).ways,
        )
    found = _read(place, Latents(scale=latents.scale), device)
    found.check_model(latents, place)
    return found


def _read(place: Place, settings: Latents, device: torch.device) -> Vae:
    if problem := place.problem():
        raise UserError(problem, hint=place.weights.ways)
    network = _network(place).eval().requires_grad_(False).to(device)
    return Vae(network, sha256(place.files[-1]), settings)


def _network(place: Place) -> AutoencoderKL:
    """Every weight comes from the file: what diffusers' own loading lacks it draws at random, with a warning."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config, weights = place.files
    known = autoencoder()
    try:
        found = known.load_config(place.path, local_files_only=True)
        if found.get("_class_name") != known.__name__:
            raise ValueError(f"it describes {found.get('_class_name')!r}")
        network = known.from_config(found)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{config}: not the description of an AutoencoderKL ({error})", hint=place.weights.ways)
    try:
        tensors = load_file(weights)
        network._fix_state_dict_keys_on_load(tensors)  # files of before 2023 name the attention otherwise
        network.load_state_dict(tensors)
    except SafetensorError as error:
        raise UserError(f"{weights}: not a whole safetensors file ({error})", hint=place.weights.ways)
    except RuntimeError as error:
        raise UserError(
            f"{weights}: does not fit the AutoencoderKL of config.json beside it: {first_difference(error)}",
            hint=place.weights.ways,
        )
    return network
