from __future__ import annotations

import numpy as np
import pytest

from kind.errors import UserError
from kind.evaluation.reader import read_samples


def shard(path, count=3, seed=0, **changes):
    generator = np.random.default_rng(seed)
    arrays = {
        "arr_0": generator.integers(0, 256, size=(count, 8, 8, 1), dtype=np.uint8),
        "arr_1": generator.integers(0, 3, size=count).astype(np.int32),
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return arrays


def test_shards_are_joined_in_order(tmp_path):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    parts = [shard(path, count, count) for path, count in zip(paths, (3, 2), strict=True)]
    images, labels = read_samples(paths)
    np.testing.assert_array_equal(images, np.concatenate([part["arr_0"] for part in parts]))
    np.testing.assert_array_equal(labels, np.concatenate([part["arr_1"] for part in parts]))
    assert labels.dtype == np.int64
    assert len(read_samples(paths[0])[0]) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arr_1": None}, r"x\.npz: has no array arr_1; it holds arr_0"),
        ({"arr_0": None, "mu": np.zeros(2)}, "it holds arr_1, mu"),
        ({"arr_0": np.zeros((3, 8, 8, 1))}, "arr_0 float64"),
        ({"arr_0": np.zeros((3, 1, 8, 8), np.uint8)}, r"\[3, 1, 8, 8\]"),
        ({"arr_1": np.zeros(2, int)}, "3 integer labels"),
        ({"arr_1": np.zeros(3)}, "arr_1 float64"),
    ],
)
def test_a_wrong_file_is_named_with_what_it_holds(tmp_path, changes, message):
    shard(tmp_path / "x.npz", **changes)
    with pytest.raises(UserError, match=message) as caught:
        read_samples([tmp_path / "x.npz"])
    assert "x.npz" in str(caught.value)


def test_shards_that_disagree_and_missing_files(tmp_path):
    shard(tmp_path / "a.npz")
    shard(tmp_path / "b.npz", arr_0=np.zeros((3, 9, 9, 1), np.uint8))
    with pytest.raises(UserError, match=r"b\.npz.*\(9, 9, 1\)"):
        read_samples([tmp_path / "a.npz", tmp_path / "b.npz"])
    with pytest.raises(UserError, match="no such file"):
        read_samples([tmp_path / "c.npz"])
    with pytest.raises(UserError, match="no sample files"):
        read_samples([])
