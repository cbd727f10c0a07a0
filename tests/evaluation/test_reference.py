"""The file of a reference: ADM's statistics, with more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kind.errors import UserError
from kind.evaluation.feature_sets import measure_images
from kind.evaluation.frechet import frechet_distance
from kind.evaluation.image_sets import from_arrays
from kind.evaluation.reference import load_reference, reference_images, save_reference

TASK = ("9", "7", "8")  # of the fixture `task`


def test_reference_file_is_adms_with_more(task, reference, extractor, tmp_path):
    path = tmp_path / "reference.npz"
    save_reference(path, reference, {"set": "test", "resize": None})
    plain = extractor.extract(task[0][0], 64)
    with np.load(path) as arrays:
        assert set(arrays.files) == {
            "mu", "sigma", "mu_s", "sigma_s", "pooled", "logits", "labels", "arr_0", "arr_1", "protocol",
        }  # fmt: skip
        assert {arrays[name].dtype for name in ("mu", "sigma", "mu_s", "sigma_s")} == {np.dtype(np.float64)}
        for statistics, features in (("sigma", plain.pooled), ("sigma_s", plain.spatial)):
            np.testing.assert_allclose(arrays[statistics], np.cov(features.astype(np.float64).T), rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(arrays["arr_0"], task[0][0])
    loaded, protocol = load_reference(path)
    assert protocol == {"set": "test", "resize": None}
    assert (loaded.class_names, loaded.count, loaded.origin) == (TASK, reference.count, reference.origin)
    assert frechet_distance(loaded.pooled_statistics, reference.pooled_statistics) < 1e-9
    for name in ("pooled", "logits", "labels"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(reference, name))
    for found, expected in zip(reference_images(path), task[0], strict=True):
        np.testing.assert_array_equal(found, expected)
    first_bytes = path.read_bytes()
    save_reference(path, replace(loaded, images=reference.images, image_labels=reference.image_labels), protocol)
    assert path.read_bytes() == first_bytes


def test_a_large_reference_keeps_some_images(task, extractor, reference, tmp_path):
    fewer = measure_images(from_arrays(*task[0], TASK), extractor, 64, num_images=12, num_vectors=20)
    save_reference(tmp_path / "x.npz", fewer, {})
    images, labels = reference_images(tmp_path / "x.npz")
    assert len(images) == len(labels) == 12
    loaded, _ = load_reference(tmp_path / "x.npz")
    assert (loaded.count, loaded.num_vectors) == (reference.count, 20)
    np.testing.assert_array_equal(loaded.pooled_statistics.sigma, reference.pooled_statistics.sigma)


def test_files_of_others_hold_statistics_alone(reference, tmp_path):
    pooled, spatial = reference.pooled_statistics, reference.spatial_statistics
    np.savez(tmp_path / "adm.npz", mu=pooled.mu, sigma=pooled.sigma, mu_s=spatial.mu, sigma_s=spatial.sigma)
    found, protocol = load_reference(tmp_path / "adm.npz")
    assert (found.count, found.pooled, found.origin, protocol) == (None, None, None, {})
    np.testing.assert_array_equal(found.spatial_statistics.sigma, spatial.sigma)
    np.savez(tmp_path / "pytorch_fid.npz", mu=pooled.mu, sigma=pooled.sigma)
    assert load_reference(tmp_path / "pytorch_fid.npz")[0].spatial_statistics is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(2)}, "has no array sigma; it holds mu"),
        ({"mu": np.zeros(2), "sigma": np.eye(3)}, r"sigma is float64 \[3, 3\], expected floats \[2, 2\]"),
        ({"mu": np.zeros(2), "sigma": np.eye(2), "mu_s": np.zeros(2)}, "has no array sigma_s"),
        ({"mu": np.zeros(2, int), "sigma": np.eye(2)}, "mu is int64"),
        ({"mu": np.zeros(2), "sigma": np.eye(2), "protocol": np.array("[]")}, "its protocol is not one of"),
    ],
)
def test_a_wrong_reference_file_says_what_it_holds(tmp_path, arrays, message):
    np.savez(tmp_path / "fid.npz", **arrays)
    with pytest.raises(UserError, match=message) as caught:
        load_reference(tmp_path / "fid.npz")
    assert "fid.npz" in str(caught.value)
