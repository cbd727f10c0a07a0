"""What models see of rows: drawn anew at each step, by the seed and the step alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kind.spaces import Latents, Pixels


def rows_of(deviation: float, flips: int = 2, count: int = 6) -> torch.Tensor:
    means = torch.arange(count * flips * 8.0).reshape(count, flips, 1, 2, 2, 2)
    return torch.cat([means, torch.full_like(means, deviation)], dim=2).half()


def test_without_deviation_a_draw_is_the_scaled_mean_of_one_flip():
    rows, space, chosen = rows_of(0.0), Latents("", 0.25), []
    for step in range(200):
        found = space.seen(rows, 3, step)
        of_flip = [(found[row] == 0.25 * rows[row, 1, 0].float()).all().item() for row in range(6)]
        assert all((found[row] == 0.25 * rows[row, int(flip), 0].float()).all() for row, flip in enumerate(of_flip))
        chosen.append(of_flip)
    share = np.mean(chosen, axis=0)
    assert share == pytest.approx(0.5, abs=0.15), "half of the steps, for each image"
    assert not np.array_equal(chosen[0], chosen[1])
    assert torch.equal(space.seen(rows_of(0.0, flips=1), 3, 0), 0.25 * rows_of(0.0, flips=1)[:, 0, 0].float())


def test_draws_have_the_posteriors_mean_and_deviation():
    rows, space = rows_of(2.0, flips=1, count=1), Latents("", 0.25)
    drawn = torch.stack([space.seen(rows, 0, step) for step in range(4000)]).double()
    expected = 0.25 * rows[:, 0, 0].double()
    assert (drawn.mean(0) - expected).abs().max() < 5 * 0.5 / 4000**0.5
    assert (drawn.std(0) / 0.5 - 1).abs().max() < 0.06
    first, second = drawn[:-1].flatten(1) - expected.flatten(), drawn[1:].flatten(1) - expected.flatten()
    assert ((first * second).mean(0) / 0.25).abs().max() < 0.08, "steps are independent"


def test_held_out_draws_are_the_same_twice_and_not_of_mirrored_images():
    rows, space = rows_of(1.0), Latents("", 1.0)
    other = rows.clone()
    other[:, 1] += 100
    assert torch.equal(space.held_out(rows), space.held_out(other))
    assert (space.held_out(rows) - rows[:, 0, 0]).std() == pytest.approx(1, abs=0.3)


def test_draws_depend_on_seed_and_step_alone():
    rows, space = rows_of(1.0), Latents("", 1.0)
    first = space.seen(rows, 5, 7)
    torch.rand(3)
    assert torch.equal(space.seen(rows, 5, 7), first)
    assert not torch.equal(space.seen(rows, 6, 7), first) and not torch.equal(space.seen(rows, 5, 8), first)


def test_pixels_are_mirrored_only_where_they_may_be():
    images = torch.randint(256, (8, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = images.double() / 127.5 - 1
    torch.testing.assert_close(Pixels().seen(images, 0, 0).double(), plain, atol=1e-6, rtol=0)
    shares = []
    for step in range(100):
        found = Pixels(flips=True).seen(images, 0, step).double()
        mirrored = [torch.allclose(one, other.flip(-1), atol=1e-5) for one, other in zip(found, plain, strict=True)]
        kept = [torch.allclose(one, other, atol=1e-5) for one, other in zip(found, plain, strict=True)]
        assert all(one != other for one, other in zip(mirrored, kept, strict=True))
        shares.append(mirrored)
    assert np.mean(shares, axis=0) == pytest.approx(0.5, abs=0.2)
