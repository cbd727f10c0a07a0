"""Objective and samplers against closed forms that the tests compute on their own, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from kind.diffusion import Diffusion, Objective, make_sampler

SCHEDULES, PREDICTIONS = ["linear", "cosine"], ["epsilon", "v"]


def betas_of(schedule, steps=1000):
    """DDPM's betas (Ho et al. 2020, section 4) and the cosine schedule (Nichol & Dhariwal 2021, eq. 17), float64."""
    if schedule == "linear":
        return torch.linspace(1e-4, 0.02, steps, dtype=torch.float64)
    share = torch.arange(steps + 1, dtype=torch.float64) / steps
    curve = torch.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - curve[1:] / curve[:-1]).clamp(max=0.999)


def column(values):
    return values[:, None, None, None]


def batch(timesteps, seed=0):
    """images with the two ends of the range among them, noise."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(len(timesteps), 2, 4, 4, generator=generator) * 2 - 1
    images[:, 0, 0], images[:, 1, 1] = -1, 1
    return images, torch.randn(images.shape, generator=generator)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_simple_loss_and_noising_follow_the_closed_forms(schedule, prediction):
    timesteps = torch.tensor([0, 1, 250, 500, 998])
    images, noise = batch(timesteps)
    product = column(torch.cumprod(1 - betas_of(schedule), 0)[timesteps])
    signal, spread = product.sqrt(), (1 - product).sqrt()
    target = noise.double() if prediction == "epsilon" else signal * noise - spread * images
    guess, seen = torch.randn(images.shape, generator=torch.Generator().manual_seed(9)), {}

    def predict(noisy, times):
        seen.update(noisy=noisy, times=times)
        return guess

    loss = Objective(Diffusion(schedule, prediction)).loss(predict, images, timesteps, noise)
    assert torch.equal(seen["times"], timesteps)
    torch.testing.assert_close(seen["noisy"].double(), signal * images + spread * noise, rtol=0, atol=2e-5)
    torch.testing.assert_close(loss.double(), (target - guess).square().mean((1, 2, 3)), rtol=1e-4, atol=1e-5)
    exact = Objective(Diffusion(schedule, prediction)).loss(lambda *_: target.float(), images, timesteps, noise)
    assert exact.max() < 1e-8


# --- learned variance -----------------------------------------------------------------------------------------


def bound_term(schedule, prediction, steps, output, images, noise, timesteps):
    """One term of L_vlb in bits per dimension, float64: torch's own KL, and the 8-bit bin's mass by the normal cdf."""
    betas = betas_of(schedule, steps)
    product = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), product[:-1]])
    smallest = betas * (1 - before) / (1 - product)
    smallest[0] = smallest[1]
    beta, product, before, smallest = (column(values[timesteps]) for values in (betas, product, before, smallest))
    images, guess, fraction = images.double(), *output.double().chunk(2, dim=1)
    noisy = product.sqrt() * images + (1 - product).sqrt() * noise.double()
    if prediction == "epsilon":
        start = (noisy - (1 - product).sqrt() * guess) / product.sqrt()
    else:
        start = product.sqrt() * noisy - (1 - product).sqrt() * guess

    def posterior_mean(x_0):
        """Ho et al. 2020, eq. 7."""
        return (before.sqrt() * beta * x_0 + (1 - beta).sqrt() * (1 - before) * noisy) / (1 - product)

    fraction = (fraction + 1) / 2
    model = Normal(posterior_mean(start), (fraction * beta.log() + (1 - fraction) * smallest.log()).exp().sqrt())
    truth = Normal(posterior_mean(images), smallest.sqrt().expand_as(images))
    upper = torch.where(images == 1, 1.0, model.cdf(images + 1 / 255))
    lower = torch.where(images == -1, 0.0, model.cdf(images - 1 / 255))
    nats = torch.where(column(timesteps) == 0, -(upper - lower).clamp(min=1e-30).log(), kl_divergence(truth, model))
    return nats.mean((1, 2, 3)) / math.log(2)


@pytest.mark.parametrize("steps", [1000, 250])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_learned_variance_adds_a_thousandth_of_the_bound_and_leaves_the_mean_alone(schedule, prediction, steps):
    timesteps = torch.tensor([0, 0, 1, 2, steps // 3, steps - 2])
    images, noise = batch(timesteps)
    product = column(torch.cumprod(1 - betas_of(schedule, steps), 0)[timesteps])
    target = noise if prediction == "epsilon" else (product.sqrt() * noise - (1 - product).sqrt() * images).float()
    generator = torch.Generator().manual_seed(4)
    guess = target + 0.1 * torch.randn(target.shape, generator=generator)
    output = torch.cat([guess, 2 * torch.rand(target.shape, generator=generator) - 1], dim=1).requires_grad_()
    loss = Objective(Diffusion(schedule, prediction, True, steps)).loss(lambda *_: output, images, timesteps, noise)
    loss.sum().backward()

    exact = output.detach().double().requires_grad_()
    simple = (exact[:, :2] - target).square().mean((1, 2, 3))
    # L_vlb, a sum of `steps` terms, is estimated by `steps` times the term drawn
    bound = bound_term(schedule, prediction, steps, exact, images, noise, timesteps) * steps / 1000
    torch.testing.assert_close(loss.detach().double(), (simple + bound).detach(), rtol=2e-3, atol=1e-4)
    of_simple = torch.autograd.grad(simple.sum(), exact)[0]
    of_bound = torch.autograd.grad(bound.sum(), exact)[0]
    assert of_bound[:, :2].abs().max() > 1e-3  # the bound alone would move the mean
    torch.testing.assert_close(output.grad[:, :2].double(), of_simple[:, :2], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(output.grad[:, 2:].double(), of_bound[:, 2:], rtol=5e-3, atol=1e-4)


# --- samplers -------------------------------------------------------------------------------------------------

MEAN, VARIANCE = 0.4, 0.25


def exact_prediction(diffusion, noisy, time):
    """E[eps | x_t] or E[v | x_t] where the data are N(MEAN, VARIANCE)."""
    product = torch.cumprod(1 - betas_of(diffusion.schedule), 0)[time]
    signal, spread = product.sqrt(), (1 - product).sqrt()
    surplus = (noisy - signal * MEAN) / (product * VARIANCE + 1 - product)
    noise, start = spread * surplus, MEAN + signal * VARIANCE * surplus
    return noise if diffusion.prediction == "epsilon" else signal * noise - spread * start


def draw(diffusion, name, steps, spacing="leading", output=exact_prediction, count=40_000, clip=False):
    generator = torch.Generator().manual_seed(0)
    sampler = make_sampler(name, diffusion, steps, spacing, clip_sample=clip)
    images = torch.randn(count, 1, 1, 1, generator=generator, dtype=torch.float64)
    noise = {} if name == "dpm" else {"generator": generator}
    assert len(sampler.timesteps) == steps
    for time in sampler.timesteps:
        images = sampler.step(output(diffusion, images, time), time, images, **noise).prev_sample
    return images


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "name, steps, tolerance", [("ddpm", 500, 0.02), ("ddim", 200, 0.02), ("dpm", 25, 0.02)], ids=["ddpm", "ddim", "dpm"]
)
def test_the_exact_score_of_a_gaussian_gives_back_its_mean_and_spread(name, steps, tolerance, schedule, prediction):
    spacing = "linspace" if name == "dpm" else "leading"
    images = draw(Diffusion(schedule, prediction), name, steps, spacing)
    assert abs(images.mean().item() - MEAN) < tolerance
    assert abs(images.std().item() / math.sqrt(VARIANCE) - 1) < tolerance


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("steps", [1000, 25, 8])
def test_ddpm_takes_its_learned_variance_between_the_bounds_of_the_steps_it_makes(steps, spacing):
    """With the exact variance of x_s given x_t, ancestral sampling is exact in however few steps it is made.

    The model's channel places the log variance between those of the posterior and of beta, both of the step from t to
    s that the sampler makes (Nichol & Dhariwal 2021, eq. 15, with betas respaced as in their section 4).
    """
    diffusion = Diffusion("linear", "epsilon", learned_variance=True)
    product = torch.cumprod(1 - betas_of("linear"), 0)
    times = make_sampler("ddpm", diffusion, steps, spacing, clip_sample=False).timesteps.tolist()
    next_time = dict(zip(times, [*times[1:], None], strict=True))

    def output(diffusion, noisy, time):
        now, later = product[time], next_time[time.item()]
        before = 1.0 if later is None else product[later]
        beta = 1 - now / before
        smallest = beta * (1 - before) / (1 - now)
        of_start = VARIANCE * (1 - now) / (now * VARIANCE + 1 - now)  # variance of x_0 given x_t
        exact = smallest + (math.sqrt(before) * beta / (1 - now)) ** 2 * of_start
        fraction = 1.0 if later is None else (exact.log() - smallest.log()) / (beta.log() - smallest.log())
        variance = torch.full_like(noisy, 2 * fraction - 1)
        return torch.cat([exact_prediction(diffusion, noisy, time), variance], dim=1)

    images = draw(diffusion, "ddpm", steps, spacing, output)
    # the last step adds no noise: what it leaves out is the spread of x_0 given the last x_t
    last = product[times[-1]]
    left = VARIANCE - VARIANCE * (1 - last) / (last * VARIANCE + 1 - last)
    start = product[times[0]]  # sampling begins with N(0, 1) where x_t is not quite that
    off = 0.02 + 2 * start.sqrt().item()
    assert abs(images.mean().item() - MEAN) < off
    assert abs(images.std().item() / math.sqrt(left) - 1) < off


def test_clipping_bounds_the_predicted_start():
    diffusion = Diffusion()

    def far(diffusion, noisy, time):
        product = torch.cumprod(1 - betas_of("linear"), 0)[time]
        return (noisy - product.sqrt() * 7) / (1 - product).sqrt()  # x_0 = 7

    for name in ("ddpm", "ddim"):
        torch.testing.assert_close(draw(diffusion, name, 10, output=far, count=9).mean().item(), 7.0, rtol=1e-3, atol=0)
        clipped = draw(diffusion, name, 10, output=far, count=9, clip=True)
        torch.testing.assert_close(clipped.mean().item(), 1.0, rtol=1e-3, atol=0)


def test_an_unknown_sampler_is_refused():
    with pytest.raises(ValueError, match="no sampler 'euler'; there are ddpm, ddim and dpm"):
        make_sampler("euler", Diffusion(), 10, "leading", clip_sample=False)
