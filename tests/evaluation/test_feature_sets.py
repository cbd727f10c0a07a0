"""One pass over images, in blocks that are kept."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from kind.errors import UserError
from kind.evaluation import feature_sets
from kind.evaluation.feature_sets import blocks_of, drawn, keep_features, measure_images
from kind.evaluation.image_sets import ImageSet, from_arrays
from kind.parts import Part


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(feature_sets, "BLOCK_IMAGES", 64)


@pytest.fixture
def images(digits):
    return from_arrays(digits.test.images, digits.test.labels, tuple("0123456789"))


def in_pieces(images: ImageSet, *ends: int) -> ImageSet:
    """The same images as if they lay in several files."""
    pieces = np.split(images.read_all(), ends)
    return replace(images, parts=tuple((lambda piece=piece: iter([piece])) for piece in pieces))


class Counting:
    """An extractor that remembers how many images it saw."""

    def __init__(self, extractor, stop_after=None):
        self.extractor, self.stop_after, self.seen = extractor, stop_after, 0

    def __getattr__(self, name):
        return getattr(self.extractor, name)

    def extract(self, images, batch_size, progress=None):
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        return self.extractor.extract(images, batch_size, progress)


def test_one_pass_gives_what_extracting_and_fitting_gives(images, extractor, digits):
    found = measure_images(images, extractor, 32)
    plain = extractor.extract(digits.test.images, 32)
    np.testing.assert_array_equal(found.pooled, plain.pooled)
    np.testing.assert_array_equal(found.logits, plain.logits)
    for kind in ("pooled", "spatial"):
        statistics, features = getattr(found, f"{kind}_statistics"), getattr(plain, kind).astype(np.float64)
        np.testing.assert_allclose(statistics.mu, features.mean(axis=0), rtol=1e-10)
        np.testing.assert_allclose(statistics.sigma, np.cov(features.T), rtol=1e-9, atol=1e-12)
    assert found.origin == (extractor.name, extractor.identity, 32)
    assert (found.count, found.class_names) == (len(digits.test.images), tuple("0123456789"))


def test_numbers_do_not_depend_on_how_images_lie_in_files(images, extractor, small_blocks):
    whole, cut = measure_images(images, extractor, 32), measure_images(in_pieces(images, 1, 100, 333), extractor, 32)
    np.testing.assert_array_equal(whole.pooled, cut.pooled)
    np.testing.assert_array_equal(whole.spatial_statistics.sigma, cut.spatial_statistics.sigma)


def test_a_killed_pass_goes_on_where_it_was(images, extractor, small_blocks, tmp_path):
    stopped = Counting(extractor, stop_after=128)
    with pytest.raises(KeyboardInterrupt):
        measure_images(images, stopped, 32, cache=tmp_path)
    again = Counting(extractor)
    found = measure_images(images, again, 32, cache=tmp_path)
    assert again.seen == images.count - 128
    fresh = measure_images(images, extractor, 32)
    np.testing.assert_array_equal(found.pooled, fresh.pooled)
    np.testing.assert_array_equal(found.spatial_statistics.sigma, fresh.spatial_statistics.sigma)


def test_features_are_kept_by_what_can_move_them(images, extractor, tmp_path):
    def seen(images, extractor, batch_size=32):
        counting = Counting(extractor)
        measure_images(images, counting, batch_size, cache=tmp_path)
        return counting.seen

    assert seen(images, extractor) == images.count
    assert seen(images, extractor) == 0
    assert seen(replace(images, name="elsewhere", labels=None), extractor) == 0, "where they lie does not matter"
    assert seen(images, replace(extractor, identity="0" * 64)) == images.count
    assert seen(images, extractor, 16) == images.count
    other = images.read_all().copy()
    other[7, 3, 3, 0] ^= 1
    assert seen(from_arrays(other), extractor) == images.count


def test_a_damaged_kept_block_is_made_again(images, extractor, tmp_path):
    first = measure_images(images, extractor, 32, cache=tmp_path)
    (kept,) = tmp_path.rglob("*.npz")
    for content in (kept.read_bytes()[:-100], b"", b"no npz"):
        kept.write_bytes(content)
        np.testing.assert_array_equal(measure_images(images, extractor, 32, cache=tmp_path).pooled, first.pooled)


def test_fewer_vectors_and_images_are_a_draw(images, extractor, small_blocks):
    whole, fewer = measure_images(images, extractor, 32), measure_images(images, extractor, 32, num_vectors=100)
    kept = drawn(images.count, 100)
    assert (len(set(kept.tolist())), fewer.num_vectors, fewer.count) == (100, 100, images.count)
    np.testing.assert_array_equal(fewer.pooled, whole.pooled[kept])
    np.testing.assert_array_equal(fewer.labels, whole.labels[kept])
    np.testing.assert_array_equal(fewer.pooled_statistics.sigma, whole.pooled_statistics.sigma, "of all images")


def test_kept_images_are_taken_in_the_same_pass(images, extractor, small_blocks):
    found = measure_images(images, extractor, 32, num_images=70)
    kept = drawn(images.count, 70)
    np.testing.assert_array_equal(found.images, images.read_all()[kept])
    np.testing.assert_array_equal(found.image_labels, images.labels[kept])
    assert len(measure_images(images, extractor, 32).images) == 0


@pytest.mark.parametrize("period", [2, 10, 97])
def test_a_draw_has_all_classes_whatever_their_order(period):
    going_round = np.arange(20_000) % period
    for labels in (going_round, np.sort(going_round)):
        counts = np.bincount(labels[drawn(20_000, 5_000)], minlength=period)
        assert counts.min() > 0.6 * 5_000 / period


def test_pixels_are_not_all_held_at_once(extractor, small_blocks):
    """82 MB of images that are made as they are asked for."""

    def blocks():
        for index in range(320):
            yield np.full((1000, 16, 16, 1), index % 256, np.uint8)

    images = ImageSet("lazy", 320_000, (16, 16, 1), (blocks,))
    network = replace(extractor, network=_Constant(extractor.network), image_shape=None)
    tracemalloc.start()
    try:
        measure_images(images, network, 64, num_vectors=100)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


class _Constant:
    """Features that cost nothing."""

    def __init__(self, network):
        self.network = network

    def __call__(self, images):
        return tuple(images.new_zeros(len(images), size, dtype=torch.float32) for size in (4, 4, 4))


def test_one_image_makes_no_set(extractor, digits):
    with pytest.raises(UserError, match="1 images; a distance needs at least 2"):
        measure_images(from_arrays(digits.test.images[:1]), extractor, 32)


def test_parts_extract_every_block_once_for_the_pass_that_follows(images, extractor, small_blocks, tmp_path):
    """The end of the curve, of fewer images, needs one block more: the others are the same."""
    blocks = [*blocks_of(images, 32), *blocks_of(images, 32, first=100)]
    seen = 0
    for number in (1, 2, 3):
        one = Counting(extractor)
        told = keep_features(Part(number, 3).take(blocks), one, 32, tmp_path, "features")
        assert 0 < one.seen == told
        seen += told
    assert seen == images.count + 36
    nothing = Counting(extractor)
    found = measure_images(images, nothing, 32, cache=tmp_path)
    fewer = measure_images(images.first(100), nothing, 32, cache=tmp_path)
    assert nothing.seen == 0
    fresh = measure_images(images, extractor, 32)
    np.testing.assert_array_equal(found.pooled, fresh.pooled)
    np.testing.assert_array_equal(fewer.pooled, measure_images(images.first(100), extractor, 32).pooled)
    assert not blocks_of(images, 32, first=128) and not blocks_of(images, 32, first=images.count), "nothing new"


def test_a_part_that_cannot_keep_features_fails(images, extractor, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        keep_features(blocks_of(images, 32), extractor, 32, tmp_path / "file", "features")
