"""What makes pixels of the samples of a model of latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kind.stages.context import Context

if TYPE_CHECKING:
    import torch

    from kind.models.dit import DiTConfig
    from kind.sampling import Decode


def decoder_of(context: Context, data: str, config: DiTConfig, device: torch.device) -> Decode | None:
    """The VAE of a data set, for a model of its latents; None for pixels.

    Raises UserError for a VAE that is not there, and for another one than the model's.
    """
    settings = context.experiment.data[data].latents
    if settings is None:
        return None
    from kind.vae import load_vae

    place = settings.place(data)
    vae = load_vae(place, settings, device)
    vae.check_model(config.latents, place)
    return vae.decode
