from __future__ import annotations

import numpy as np
import pytest

from kind.errors import UserError
from kind.evaluation import pairwise
from kind.evaluation.memorisation import memorisation_report, nearest_distances


def images(count, seed, shape=(4, 5, 3)):
    return np.random.default_rng(seed).integers(0, 256, size=(count, *shape), dtype=np.uint8)


@pytest.mark.parametrize("block_elements", [2**23, 130])
def test_distances_are_the_definition(monkeypatch, block_elements):
    monkeypatch.setattr(pairwise, "BLOCK_ELEMENTS", block_elements)
    x, train = images(7, 0), images(11, 1)
    expected = [min(np.sqrt(np.mean((a / 255.0 - b / 255.0) ** 2)) for b in train) for a in x]
    np.testing.assert_allclose(nearest_distances(x, train), expected, rtol=1e-12)


def test_black_against_white_is_one_and_a_copy_is_zero_exactly():
    train = np.concatenate([np.zeros((1, 8, 8, 1), np.uint8), images(3, 2, (8, 8, 1))])
    assert nearest_distances(np.full((1, 8, 8, 1), 255, np.uint8), train[:1]) == [1.0]
    np.testing.assert_array_equal(nearest_distances(train[::-1], train), np.zeros(4))


def test_report_tells_copies_from_new_images(digits, with_noise):
    train, test = digits.train.images, digits.test.images
    half = len(test) // 2

    def report(samples, unseen):
        return memorisation_report(nearest_distances(samples, train), nearest_distances(unseen, train), len(train))

    new = report(test[:half], test[half:])
    assert new["share_below_test_p5"] < 0.12
    assert new["share_copies"] == 0.0
    assert new["sample_median"] == pytest.approx(new["test_median"], rel=0.1)
    copied = report(with_noise(train[:100], 3), test)
    assert copied["share_below_test_p5"] == 1.0
    assert copied["sample_median"] < copied["test_p5"] < copied["test_median"]
    assert report(train[:8], test)["share_copies"] == 1.0
    assert (new["num_samples"], new["num_test"], new["num_train"]) == (half, len(test) - half, len(train))


def test_refuses_other_images():
    with pytest.raises(UserError, match="uint8"):
        nearest_distances(images(2, 0) / 255.0, images(2, 1))
    with pytest.raises(UserError, match=r"\(4, 5, 3\)"):
        nearest_distances(images(2, 0), images(2, 1, (4, 4, 3)))
    with pytest.raises(UserError, match="N >= 1"):
        nearest_distances(images(2, 0), images(0, 1))
