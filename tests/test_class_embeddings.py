"""Vectors of classes: mean images, or rows of a file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from kind.class_embeddings import file_vectors, mean_images, nearest_seen
from kind.data.prepared import LabelledImages
from kind.errors import UserError


def test_mean_images_are_averaged_down_for_each_channel():
    images = np.random.default_rng(0).integers(0, 256, (9, 12, 12, 2), dtype=np.uint8)
    labels = np.array([0, 1, 1, 0, 2, 2, 2, 0, 1])
    found = mean_images(LabelledImages(images, labels, ("a", "b", "c")), 4)
    for label in range(3):
        mean = images[labels == label].astype(np.float64).mean(axis=0) / 127.5 - 1
        pooled = mean.reshape(4, 3, 4, 3, 2).mean(axis=(1, 3)).transpose(2, 0, 1)
        np.testing.assert_allclose(found[label], pooled.ravel(), rtol=1e-5, atol=1e-6)


def test_small_images_are_taken_as_they_are():
    images = np.arange(2 * 16, dtype=np.uint8).reshape(2, 4, 4, 1)
    found = mean_images(LabelledImages(images, np.array([0, 1]), ("a", "b")), 8)
    np.testing.assert_allclose(found, images.reshape(2, 16) / 127.5 - 1, rtol=1e-6, atol=1e-6)


def test_means_are_the_same_bits_in_any_pieces(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (23, 4, 4, 1), dtype=np.uint8)
    data = LabelledImages(images, np.arange(23) % 2, ("a", "b"))
    whole = mean_images(data, 4)
    expected = np.stack([images[label::2].mean(0, dtype=np.float64).ravel() for label in range(2)]) / 127.5 - 1
    assert whole.equal(torch.from_numpy(expected).float())
    read = []

    class Watched:
        shape = images.shape

        def __getitem__(self, chosen):
            read.append(len(chosen))
            return images[chosen]

    monkeypatch.setattr("kind.class_embeddings.ROWS", 5)
    assert mean_images(LabelledImages(Watched(), data.labels, data.class_names), 4).equal(whole)
    assert read == [5, 5, 2, 5, 5, 1]


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_vectors_of_a_file_by_class_and_by_data_set(tmp_path, suffix):
    path = tmp_path / f"vectors.{suffix}"
    vectors = {"7": np.array([1, 2], np.float32), "8": np.array([3, 4], np.float32)}
    vectors["other/8"] = np.array([5, 6], np.float32)
    save_file(vectors, path) if suffix == "safetensors" else np.savez(path, **vectors)
    assert file_vectors(path, "digits", ["8", "7"]).tolist() == [[3, 4], [1, 2]]
    assert file_vectors(path, "other", ["8", "7"]).tolist() == [[5, 6], [1, 2]]


def test_files_that_do_not_serve_are_refused(tmp_path):
    path = tmp_path / "vectors.npz"
    np.savez(path, a=np.zeros(3), b=np.zeros(2), c=np.zeros((2, 2)), d=np.array([np.nan]), e=np.array(["x"]))
    with pytest.raises(UserError, match=r"has no vector of class 'x', 'y' of digits; it has a, b, c.*\n.*digits/CLASS"):
        file_vectors(path, "digits", ["a", "x", "y"])
    for classes, found in (
        (["a", "b"], r"a float64 \[3\], b float64 \[2\]"),
        (["a", "c"], r"c float64 \[2, 2\]"),
        (["d"], r"d float64 \[1\]"),
        (["e"], r"e <U1 \[1\]"),
    ):
        with pytest.raises(UserError, match=rf"one row of one length a class; found {found}\n"):
            file_vectors(path, "digits", classes)
    (tmp_path / "vectors.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        file_vectors(tmp_path / "vectors.safetensors", "digits", ["a"])


def test_the_nearest_class_is_that_of_standardised_embeddings():
    seen = torch.tensor([[0.0, 0.0], [10.0, 1.0], [5.0, 0.0]])
    own = torch.tensor([[3.0, 0.9], [4.5, 0.1], [0.0, 0.0]])  # as they come, the third would be nearest to the first
    rows = seen.double().numpy()
    variance = rows.var(axis=0)
    spread = np.sqrt(np.maximum(variance, 0.01 * variance.mean()))
    distances = np.linalg.norm((own.double().numpy()[:, None] - rows[None]) / spread, axis=2)
    assert nearest_seen(own, seen) == distances.argmin(axis=1).tolist() == [1, 2, 0]
