"""Noise schedule, training objective and samplers, over diffusers' schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from kind.diffusers_parts import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

BETA_SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}


@dataclass(frozen=True)
class Diffusion:
    """A discrete-time Gaussian diffusion: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps.

    schedule: `linear` (DDPM's betas) or `cosine`.  prediction: `epsilon` or `v` = sqrt(abar) eps - sqrt(1 - abar) x_0.
    learned_variance: the model has C more channels that interpolate the log variance (Nichol & Dhariwal 2021, eq. 15).
    """

    schedule: str = "linear"
    prediction: str = "epsilon"
    learned_variance: bool = False
    num_train_timesteps: int = 1000

    def to_dict(self) -> dict:
        return asdict(self)

    def scheduler_arguments(self) -> dict:
        return {
            "num_train_timesteps": self.num_train_timesteps,
            "beta_schedule": BETA_SCHEDULES[self.schedule],
            "prediction_type": PREDICTIONS[self.prediction],
        }


class Objective:
    """The training loss of a diffusion: L_simple, plus L_vlb / 1000 where the variance is learned."""

    def __init__(self, diffusion: Diffusion, device: torch.device | str = "cpu"):
        self.diffusion = diffusion
        self.scheduler = DDPMScheduler(**diffusion.scheduler_arguments())
        self.scheduler.alphas_cumprod = self.scheduler.alphas_cumprod.to(device)
        self.bound = VariationalBound(diffusion, device) if diffusion.learned_variance else None

    def loss(
        self, predict: Callable[[Tensor, Tensor], Tensor], images: Tensor, timesteps: Tensor, noise: Tensor
    ) -> Tensor:
        """Loss of each sample.  predict(x_t, t) -> model output; images, noise [B, C, H, W]; timesteps [B] -> [B].

        L_simple = mean (target - prediction)^2, target eps or v (Ho et al. 2020, eq. 14; Salimans & Ho 2022).
        """
        noisy = self.scheduler.add_noise(images, noise, timesteps)
        output = predict(noisy, timesteps)
        output = output if output.dtype == torch.float64 else output.float()
        target = noise
        if self.diffusion.prediction == "v":
            target = self.scheduler.get_velocity(images, noise, timesteps)
        if self.bound is None:
            return (output - target).square().flatten(1).mean(1)
        prediction, variance = output.chunk(2, dim=1)
        simple = (prediction - target).square().flatten(1).mean(1)
        terms = self.bound(prediction.detach(), variance, images, noisy, timesteps)
        # L_vlb is a sum over timesteps, estimated as T times the term drawn (Nichol & Dhariwal 2021, eq. 16).
        return simple + terms * self.diffusion.num_train_timesteps / 1000


class VariationalBound:
    """One term of L_vlb in bits per dimension, as DiT and ADM compute it.

    t > 0:  KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t));   t = 0:  -log2 of p's mass in x_0's 8-bit bin.
    """

    def __init__(self, diffusion: Diffusion, device: torch.device | str):
        betas = DDPMScheduler(**diffusion.scheduler_arguments()).betas.double()
        product = torch.cumprod(1 - betas, 0)
        previous = torch.cat([torch.ones(1, dtype=torch.float64), product[:-1]])
        variance = betas * (1 - previous) / (1 - product)
        variance[0] = variance[1]  # the true value at t = 0 is zero and has no logarithm

        def table(values: Tensor) -> Tensor:
            return values.to(device)

        self.prediction = diffusion.prediction
        self.signal, self.noise = table(product.sqrt()), table((1 - product).sqrt())
        self.from_start = table(betas * previous.sqrt() / (1 - product))
        self.from_noisy = table((1 - previous) * (1 - betas).sqrt() / (1 - product))
        self.log_smallest, self.log_largest = table(variance.log()), table(betas.log())

    def __call__(
        self, prediction: Tensor, variance: Tensor, images: Tensor, noisy: Tensor, timesteps: Tensor
    ) -> Tensor:
        """prediction (detached), variance (the extra channels), images, noisy: [B, C, H, W] -> [B]."""

        def at(table: Tensor) -> Tensor:
            return table[timesteps].float()[:, None, None, None]

        if self.prediction == "v":
            start = at(self.signal) * noisy - at(self.noise) * prediction
        else:
            start = (noisy - at(self.noise) * prediction) / at(self.signal)
        mean = at(self.from_start) * start + at(self.from_noisy) * noisy
        share = (variance + 1) / 2
        log_variance = share * at(self.log_largest) + (1 - share) * at(self.log_smallest)
        true_mean = at(self.from_start) * images + at(self.from_noisy) * noisy
        divergence = gaussian_divergence(true_mean, at(self.log_smallest).expand_as(mean), mean, log_variance)
        likelihood = -discretised_log_likelihood(images, mean, log_variance)
        terms = torch.where(timesteps[:, None, None, None] == 0, likelihood, divergence)
        return terms.flatten(1).mean(1) / math.log(2)


def gaussian_divergence(mean_a: Tensor, log_variance_a: Tensor, mean_b: Tensor, log_variance_b: Tensor) -> Tensor:
    """KL(N(a) || N(b)) in nats, elementwise."""
    ratio = torch.exp(log_variance_a - log_variance_b)
    return 0.5 * (log_variance_b - log_variance_a + ratio + (mean_a - mean_b) ** 2 * torch.exp(-log_variance_b) - 1)


def discretised_log_likelihood(images: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log of a Gaussian's mass in the 8-bit bin around each pixel of images in [-1, 1] (Ho et al. 2020, eq. 13).

    ADM approximates the normal distribution function by a tanh; this is the exact one.
    """
    inverse_std = torch.exp(-0.5 * log_variance)
    upper = torch.special.ndtr((images - mean + 1 / 255) * inverse_std)
    lower = torch.special.ndtr((images - mean - 1 / 255) * inverse_std)
    mass = torch.where(images < -0.999, upper, torch.where(images > 0.999, 1 - lower, upper - lower))
    return mass.clamp(min=1e-12).log()


def make_sampler(
    name: str, diffusion: Diffusion, num_steps: int, timestep_spacing: str, clip_sample: bool
) -> DDPMScheduler | DDIMScheduler | DPMSolverMultistepScheduler:
    """A diffusers scheduler with its timesteps set.

    name: `ddpm` (ancestral), `ddim` (eta 0) or `dpm` (DPM-Solver++ 2M).  clip_sample bounds predicted x_0 to [-1, 1],
    right for pixels and wrong for latents; DPM-Solver++ has no such option.
    """
    arguments = diffusion.scheduler_arguments() | {"timestep_spacing": timestep_spacing}
    if name == "ddpm":
        variance_type = "learned_range" if diffusion.learned_variance else "fixed_small"
        sampler = AncestralSampler(**arguments, variance_type=variance_type, clip_sample=clip_sample)
    elif name == "ddim":
        sampler = DDIMScheduler(**arguments, clip_sample=clip_sample)
    elif name == "dpm":
        sampler = DPMSolverMultistepScheduler(**arguments)
    else:
        raise ValueError(f"no sampler {name!r}; there are ddpm, ddim and dpm")
    sampler.set_timesteps(num_steps)
    return sampler


class AncestralSampler(DDPMScheduler):
    """diffusers' DDPM, with no noise in the last step (Ho et al. 2020, algorithm 2) wherever that step begins.

    diffusers leaves it out at t = 0 only; `trailing` timesteps end above 0, where a learned variance would add noise.
    """

    def _get_variance(
        self, t: Tensor, predicted_variance: Tensor | None = None, variance_type: str | None = None
    ) -> Tensor:
        variance = super()._get_variance(t, predicted_variance, variance_type)
        if predicted_variance is not None and self.previous_timestep(t) < 0:
            return torch.full_like(variance, -torch.inf)  # a learned variance is handled as its logarithm
        return variance
