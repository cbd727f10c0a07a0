"""The training objective on images that were not trained on, on noise that is the same for every model."""

from __future__ import annotations

import torch
from torch import Tensor

from kind.diffusion import Diffusion, Objective
from kind.images import to_model_range
from kind.models.dit import DiT
from kind.random_streams import stream


@torch.no_grad()
def held_out_losses(
    model: DiT, diffusion: Diffusion, images: Tensor, labels: Tensor, num_draws: int, seed: int, batch_size: int
) -> Tensor:
    """The loss of each image given its label, mean over draws of noise and timestep.  [N], float64.

    images: uint8 [N, C, H, W], or latents as models see them; labels: [N], among the model's.  What is drawn depends on
    seed, draw and image alone, so that models are compared on the same noise.  float32 whatever the experiment's
    precision.
    """
    device = next(model.parameters()).device
    model.eval()
    objective = Objective(diffusion, device)
    totals = torch.zeros(len(labels), dtype=torch.float64)
    for draw in range(num_draws):
        generator = stream(seed, "held out", draw)
        noise = torch.randn(images.shape, generator=generator)
        times = torch.randint(diffusion.num_train_timesteps, labels.shape, generator=generator)
        for first in range(0, len(labels), batch_size):
            part = slice(first, first + batch_size)
            given = labels[part]

            def predict(noisy: Tensor, timesteps: Tensor, given: Tensor = given) -> Tensor:
                return model(noisy, timesteps, given.to(device), given)

            own = to_model_range(images[part]).to(device)
            losses = objective.loss(predict, own, times[part].to(device), noise[part].to(device))
            totals[part] += losses.double().cpu()
    return totals / num_draws
