"""Guided sampling: the same images whatever the shards, one fixed batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from kind.devices import autocast
from kind.diffusion import Diffusion, make_sampler
from kind.errors import UserError
from kind.images import to_uint8
from kind.models.denoiser import Denoiser
from kind.models.dit import DiT
from kind.params import Sampling
from kind.progress import Progress
from kind.random_streams import stream

Decode = Callable[[Tensor], Tensor]  # latents [N, C, h, w] -> images in [-1, 1], [N, 3, H, W]


def balanced_labels(num_samples: int, num_classes: int) -> Tensor:
    """Label of sample i is i modulo the number of classes.  [num_samples]."""
    return torch.arange(num_samples) % num_classes


@torch.inference_mode()
def sample_images(
    model: DiT,
    diffusion: Diffusion,
    protocol: Sampling,
    labels: Tensor,
    seed: int,
    *,
    first: int = 0,
    guidance_scale: float | None = None,
    null_gate: str = "learngenes",
    precision: str = "float32",
    label: str = "sample",
    progress: Progress | None = None,
    decode: Decode | None = None,
) -> np.ndarray:
    """Images for `labels` [N], uint8 [N, H, W, C].  decode: what makes images in [-1, 1] of a model's latents.
    progress: what counts them, where they are some of many; else they have one of their own, named `label`.

    Sample number first + i has its own random stream, so that shards join to what one long job would have made;
    `first` must be a multiple of the protocol's batch size, since the last bits of a product depend on its batch.
    Raises UserError where an image is not finite.
    """
    assert decode is not None or model.config.latents is None, "latents are no images"
    own = progress or Progress(label, len(labels))
    drawn = _drawn(model, diffusion, protocol, labels, seed, first, guidance_scale, null_gate, precision, own)
    images = np.concatenate([to_uint8(batch if decode is None else decode(batch.float())) for batch in drawn])
    if progress is None:
        own.close()
    return images


@torch.inference_mode()
def sample_latents(
    model: DiT,
    diffusion: Diffusion,
    protocol: Sampling,
    labels: Tensor,
    seed: int,
    *,
    null_gate: str = "learngenes",
    precision: str = "float32",
    label: str = "sample",
) -> np.ndarray:
    """The same as the sampler leaves them, float32 [N, h, w, C]."""
    progress = Progress(label, len(labels))
    drawn = _drawn(model, diffusion, protocol, labels, seed, 0, None, null_gate, precision, progress)
    latents = torch.cat([batch.float().permute(0, 2, 3, 1).cpu() for batch in drawn]).contiguous().numpy()
    progress.close()
    return latents


def _drawn(
    model: DiT,
    diffusion: Diffusion,
    protocol: Sampling,
    labels: Tensor,
    seed: int,
    first: int,
    guidance_scale: float | None,
    null_gate: str,
    precision: str,
    progress: Progress,
) -> Iterator[Tensor]:
    """Batches as the sampler leaves them, [B, C, H, W]."""
    assert first % protocol.batch_size == 0, "shards start at multiples of the batch size"
    device = next(model.parameters()).device
    scale = protocol.guidance_scale if guidance_scale is None else guidance_scale
    model = model.eval()
    for start, chosen in _batches(labels, protocol.batch_size):
        generators = [stream(seed, "sample", first + start + i) for i in range(len(chosen))]
        with autocast(precision, device):
            images = sample_batch(model, diffusion, protocol, chosen.to(device), generators, scale, null_gate)
        yield images
        progress.update(len(chosen))


def _batches(labels: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    return ((start, labels[start : start + size]) for start in range(0, len(labels), size))


@torch.inference_mode()
def sample_batch(
    model: DiT,
    diffusion: Diffusion,
    protocol: Sampling,
    labels: Tensor,
    generators: list[torch.Generator],
    scale: float,
    null_gate: str = "learngenes",
) -> Tensor:
    """One batch of images (latents) as the sampler leaves them, [B, C, H, W]; sample i draws from generators[i]."""
    config, device = model.config, labels.device
    shape = (config.channels, config.image_size, config.image_size)
    images = torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(device)
    sampler = make_sampler(
        protocol.sampler, diffusion, protocol.num_inference_steps, protocol.timestep_spacing, protocol.clip_sample
    )
    noise = {} if protocol.sampler == "dpm" else {"generator": generators}
    null = torch.full_like(labels, config.num_classes)
    both_labels, both_gates = (
        torch.cat([labels, null]),
        torch.cat([labels, labels if null_gate == "true_class" else null]),
    )
    if scale == 1:
        predict = predictor(model, sampler.timesteps.to(device), labels, None)
    else:
        predict = predictor(model, sampler.timesteps.to(device), both_labels, both_gates)
    for step, time in enumerate(sampler.timesteps):
        output = predict(images, step).float()
        if scale != 1:
            output = guide(output, scale, config.channels, protocol.guided_channels)
        if diffusion.learned_variance and protocol.sampler != "ddpm":
            output = output[:, : config.channels]
        images = sampler.step(output, time, images, **noise).prev_sample
    if not images.isfinite().all():
        raise UserError("sampled images are not finite: the model has diverged or its precision is too low")
    return images


def predictor(
    model: nn.Module, timesteps: Tensor, labels: Tensor, gate_labels: Tensor | None
) -> Callable[[Tensor, int], Tensor]:
    """(images [B, ...], step) -> the model's output for rows of one or two halves, labels [B] or [2 B]."""
    if Denoiser.fits(model):
        return Denoiser(model, timesteps, labels, gate_labels)

    def predict(images: Tensor, step: int) -> Tensor:
        rows = images.repeat(len(labels) // len(images), 1, 1, 1)
        arguments = (rows, timesteps[step].expand(len(labels)), labels)
        return model(*arguments) if gate_labels is None else model(*arguments, gate_labels)

    return predict


def guide(output: Tensor, scale: float, channels: int, guided_channels: str) -> Tensor:
    """Classifier-free guidance, null + scale (conditional - null), on the guided channels; the rest is conditional.

    output: conditional half, then null half, [2 B, C or 2 C, H, W] -> [B, C or 2 C, H, W].
    guided_channels: `all` guides the C image channels (as DiTPipeline does), `first_three` three (as DiT's code does).
    """
    conditional, null = output.chunk(2)
    guided = channels if guided_channels == "all" else min(3, channels)
    mixed = null[:, :guided] + scale * (conditional[:, :guided] - null[:, :guided])
    return torch.cat([mixed, conditional[:, guided:]], dim=1)
