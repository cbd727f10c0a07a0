"""Guided sampling: shards join, guidance is its formula, and every sampler takes models with a learned variance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kind.diffusion import Diffusion
from kind.errors import UserError
from kind.params import Sampling
from kind.sampling import balanced_labels, guide, sample_images

SAMPLERS = ["ddpm", "ddim", "dpm"]


def protocol(sampler="ddim", **changes):
    settings = {
        "num_inference_steps": 4,
        "guidance_scale": 2.0,
        "num_samples": 10,
        "batch_size": 4,
        "clip_sample": True,
    }
    return Sampling(sampler=sampler, **{**settings, **changes})


class Recorder(nn.Module):
    """Stands for a model: predicts a tenth of what it is given and keeps what it was asked."""

    def __init__(self, like, learned=False):
        super().__init__()
        self.config, self.learned, self.calls = like.config, learned, []
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, images, timesteps, labels, gate_labels=None):
        self.calls.append((images, timesteps, labels, gate_labels))
        output = 0.1 * images + 0.01 * labels[:, None, None, None]
        return torch.cat([output, torch.full_like(output, 0.3)], dim=1) if self.learned else output


# --- what is drawn --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_shards_join_to_the_unsharded_result_bit_for_bit(build, sampler):
    model, labels = build(learngenes=8, tailors=2), balanced_labels(10, 5)

    def draw(first, last):
        return sample_images(model, Diffusion(), protocol(sampler), labels[first:last], seed=3, first=first)

    whole = draw(0, 10)
    assert whole.dtype == np.uint8
    assert whole.shape == (10, 8, 8, 3)
    assert len(np.unique(whole)) > 20
    assert np.array_equal(np.concatenate([draw(0, 4), draw(4, 8), draw(8, 10)]), whole)
    assert np.array_equal(np.concatenate([draw(0, 8), draw(8, 10)]), whole)


def test_shards_start_at_multiples_of_the_batch(build):
    with pytest.raises(AssertionError, match="multiples of the batch size"):
        sample_images(build(), Diffusion(), protocol(), torch.zeros(2, dtype=torch.long), seed=0, first=3)


def test_every_sample_and_every_seed_has_noise_of_its_own(build):
    model, labels = Recorder(build()), torch.zeros(6, dtype=torch.long)
    drawn = sample_images(model, Diffusion(), protocol(guidance_scale=1.0), labels, seed=0)
    assert len({image.tobytes() for image in drawn}) == 6
    again = sample_images(model, Diffusion(), protocol(guidance_scale=1.0), labels, seed=0)
    other = sample_images(model, Diffusion(), protocol(guidance_scale=1.0), labels, seed=1)
    assert np.array_equal(drawn, again)
    assert not np.array_equal(drawn, other)
    start = torch.cat([call[0] for call in model.calls[::4]])  # the first of four steps of each batch
    assert abs(start.mean()) < 0.1
    assert abs(start.std() - 1) < 0.1


@pytest.mark.parametrize("num_samples, num_classes", [(12, 3), (10, 7), (2, 5)])
def test_labels_are_balanced(num_samples, num_classes):
    counts = torch.bincount(balanced_labels(num_samples, num_classes), minlength=num_classes)
    assert counts.sum() == num_samples
    assert counts.max() - counts.min() <= 1


# --- guidance -------------------------------------------------------------------------------------------------


def test_guidance_follows_its_formula():
    output = torch.randn(4, 8, 2, 2, generator=torch.Generator().manual_seed(0))  # 2 samples, 4 + 4 channels
    conditional, null = output[:2], output[2:]
    extrapolated = null + 3 * (conditional - null)
    everything, three = guide(output, 3.0, 4, "all"), guide(output, 3.0, 4, "first_three")
    torch.testing.assert_close(everything[:, :4], extrapolated[:, :4])
    assert torch.equal(everything[:, 4:], conditional[:, 4:])  # the variance is the conditional half's
    torch.testing.assert_close(three[:, :3], extrapolated[:, :3])
    assert torch.equal(three[:, 3:], conditional[:, 3:])
    one = guide(output[:, :2], 3.0, 1, "first_three")  # one image channel: its variance channel is not guided
    torch.testing.assert_close(one[:, :1], extrapolated[:, :1])
    assert torch.equal(one[:, 1:], conditional[:, 1:2])
    torch.testing.assert_close(guide(output, 1.0, 4, "all"), conditional)
    torch.testing.assert_close(guide(output, 0.0, 4, "all")[:, :4], null[:, :4])


def test_guidance_of_one_asks_for_the_conditional_half_only(build):
    model, labels = Recorder(build()), torch.tensor([0, 3, 4])
    sample_images(model, Diffusion(), protocol(guidance_scale=1.0), labels, seed=0)
    assert len(model.calls) == 4
    assert all(torch.equal(call[2], labels) and call[3] is None for call in model.calls)


def test_a_given_guidance_scale_wins_over_the_protocols(build):
    model, labels = build(), torch.tensor([0, 3, 4])
    given = sample_images(model, Diffusion(), protocol(), labels, seed=0, guidance_scale=1.0)
    assert np.array_equal(given, sample_images(model, Diffusion(), protocol(guidance_scale=1.0), labels, seed=0))
    assert not np.array_equal(given, sample_images(model, Diffusion(), protocol(), labels, seed=0))


@pytest.mark.parametrize("policy, gates", [("learngenes", [0, 3, 5, 5]), ("true_class", [0, 3, 0, 3])])
def test_both_halves_get_their_labels_and_gates(build, policy, gates):
    model = Recorder(build())
    sample_images(model, Diffusion(), protocol(), torch.tensor([0, 3]), seed=0, null_gate=policy)
    for images, timesteps, labels, gate_labels in model.calls:
        assert torch.equal(images[:2], images[2:])
        assert timesteps.unique().numel() == 1
        assert labels.tolist() == [0, 3, 5, 5]
        assert gate_labels.tolist() == gates


# --- learned variance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_take_a_learned_variance(build, sampler, scale):
    model = build(learned_variance=True)
    settings = protocol(sampler, guidance_scale=scale)
    images = sample_images(model, Diffusion(learned_variance=True), settings, balanced_labels(5, 5), seed=0)
    assert images.shape == (5, 8, 8, 3)

    def draw(learned):
        diffusion = Diffusion(learned_variance=learned)
        return sample_images(Recorder(model, learned), diffusion, settings, balanced_labels(5, 5), seed=0)

    # only ancestral sampling uses the variance channels; the others drop them and nothing else
    assert np.array_equal(draw(True), draw(False)) == (sampler != "ddpm")


def test_images_that_are_not_finite_are_refused(build):
    model = build()
    with torch.no_grad():
        model.proj_out_2.bias[0] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        sample_images(model, Diffusion(), protocol(clip_sample=False), torch.tensor([0]), seed=0)
