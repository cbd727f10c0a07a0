from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import Image

from kind.data.prepared import StoredImages
from kind.errors import UserError
from kind.evaluation.image_folders import from_folder
from kind.evaluation.image_npz import from_npz
from kind.evaluation.image_sets import from_arrays, open_images


def pictures(count=3, shape=(8, 8, 1), seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=(count, *shape), dtype=np.uint8)


def shard(path, count=3, seed=0, **changes):
    labels = np.random.default_rng(seed).integers(0, 3, size=count).astype(np.int32)
    arrays = {"arr_0": pictures(count, seed=seed), "arr_1": labels} | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return arrays


def png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path)


# --- npz --------------------------------------------------------------------------------------------------------


def test_shards_are_joined_in_order(tmp_path):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    parts = [shard(path, count, count) for path, count in zip(paths, (3, 2), strict=True)]
    found = from_npz(paths)
    np.testing.assert_array_equal(found.read_all(), np.concatenate([part["arr_0"] for part in parts]))
    np.testing.assert_array_equal(found.labels, np.concatenate([part["arr_1"] for part in parts]))
    assert (found.count, found.shape, found.labels.dtype) == (5, (8, 8, 1), np.int64)
    assert from_npz(paths[:1]).count == 3


def test_blocks_do_not_depend_on_files(tmp_path):
    """Whatever lies in one file or in three, blocks have the same pixels."""
    images = pictures(11)
    pieces = [shard(tmp_path / f"{i}.npz", arr_0=part, arr_1=None) for i, part in enumerate(np.split(images, [1, 6]))]
    found = from_npz([tmp_path / f"{i}.npz" for i in range(len(pieces))])
    for size in (1, 4, 11, 100):
        blocks = list(found.blocks(size))
        assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
        np.testing.assert_array_equal(np.concatenate(blocks), images)
    np.testing.assert_array_equal(found.first(7).read_all(), images[:7])
    assert found.labels is None


def test_stored_rows_are_read_as_they_are_needed(monkeypatch):
    monkeypatch.setattr("kind.evaluation.image_sets.ROWS", 4)
    read = []

    class Watched(StoredImages):
        def __getitem__(self, chosen):
            read.append(len(found := super().__getitem__(chosen)))
            return found

    images, rows = pictures(20), np.array([19, 3, 4, 5, 0, 7, 11, 2, 12, 13, 18])
    found = from_arrays(Watched(images, rows))
    assert (found.count, found.shape, read) == (11, (8, 8, 1), [])
    first = next(blocks := found.blocks(3))
    assert read == [4]
    np.testing.assert_array_equal(np.concatenate([first, *blocks]), images[rows])
    assert read == [4, 4, 3]


def test_large_and_compressed_files_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("kind.evaluation.image_npz.BLOCK_BYTES", 200)
    images = pictures(10)
    np.savez_compressed(tmp_path / "x.npz", arr_0=images)
    blocks = list(from_npz([tmp_path / "x.npz"]).parts[0]())
    assert [len(block) for block in blocks] == [3, 3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arr_0": None, "mu": np.zeros(2)}, "has no array arr_0; it holds arr_1 .*, mu"),
        ({"arr_0": np.zeros((3, 8, 8, 1))}, "arr_0 float64"),
        ({"arr_0": np.zeros((3, 1, 8, 8), np.uint8)}, r"\[3, 1, 8, 8\]"),
        ({"arr_1": np.zeros(2, int)}, "3 integer labels"),
        ({"arr_1": np.zeros(3)}, "arr_1 float64"),
    ],
)
def test_a_wrong_file_is_named_with_what_it_holds(tmp_path, changes, message):
    shard(tmp_path / "x.npz", **changes)
    with pytest.raises(UserError, match=message) as caught:
        from_npz([tmp_path / "x.npz"])
    assert "x.npz" in str(caught.value)


def test_shards_that_disagree_and_missing_files(tmp_path):
    shard(tmp_path / "a.npz")
    shard(tmp_path / "b.npz", arr_0=np.zeros((3, 9, 9, 1), np.uint8))
    shard(tmp_path / "d.npz", arr_1=None)
    with pytest.raises(UserError, match=r"b\.npz.*\(9, 9, 1\)"):
        from_npz([tmp_path / "a.npz", tmp_path / "b.npz"])
    with pytest.raises(UserError, match=r"d\.npz: has no labels"):
        from_npz([tmp_path / "a.npz", tmp_path / "d.npz"])
    with pytest.raises(UserError, match="no such file"):
        from_npz([tmp_path / "c.npz"], hint="draw them")
    with pytest.raises(UserError, match="no sample files"):
        from_npz([])


def test_a_damaged_file_is_refused_wherever_the_damage_is(tmp_path):
    """Cut at every 97th byte, and one byte of the pixels turned round: never used, always named."""
    path = tmp_path / "x.npz"
    shard(path, 20)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        pixels = archive.infolist()[0].header_offset + 500
    turned = bytearray(whole)
    turned[pixels] ^= 255
    for content in (*(whole[:end] for end in range(0, len(whole), 97)), bytes(turned)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.npz: not a whole npz file"):
            from_npz([path]).read_all()


# --- folders ----------------------------------------------------------------------------------------------------


def test_a_folder_of_images_is_what_its_files_show(tmp_path):
    images = pictures(12, (6, 5, 3))
    for index, image in enumerate(images):
        png(tmp_path / f"{index}.png", image)
    found = from_folder(tmp_path)
    np.testing.assert_array_equal(found.read_all(), images, "0, 1, 2, ..., 10, 11")
    assert (found.labels, found.class_names, found.shape) == (None, None, (6, 5, 3))


def test_folders_in_it_are_classes_that_take_turns(tmp_path):
    """Numbered as torchvision's ImageFolder does: whoever wrote labels by it means the same classes."""
    from torchvision.datasets import ImageFolder

    images = pictures(5)
    for name, image in zip(("10/a", "2/10", "2/9", "1/a", "2/11"), images, strict=True):
        png(tmp_path / f"{name}.png", image)
    found = open_images(tmp_path)
    assert list(found.class_names) == ImageFolder(tmp_path).classes == ["1", "10", "2"]
    assert found.labels.tolist() == [0, 1, 2, 2, 2]
    np.testing.assert_array_equal(found.read_all(), images[[3, 0, 2, 1, 4]])


def test_one_grey_file_does_not_make_a_folder_grey(tmp_path):
    png(tmp_path / "0.png", pictures(1)[0])
    colour = pictures(1, (8, 8, 3))[0]
    png(tmp_path / "1.png", colour)
    found = from_folder(tmp_path)
    assert found.shape == (8, 8, 3)
    np.testing.assert_array_equal(found.read_all()[1], colour)


def test_images_of_several_sizes_need_a_size(tmp_path):
    for index, shape in enumerate(((8, 8, 3), (16, 12, 3), (9, 20, 3))):
        png(tmp_path / f"{index}.png", pictures(1, shape, index)[0])
    with pytest.raises(UserError, match=r"(?s)1\.png: 16 x 12, but 0\.png is 8 x 8.*2\.png.*--size"):
        from_folder(tmp_path).read_all()
    found = from_folder(tmp_path, 8)
    assert found.read_all().shape == (3, 8, 8, 3)
    assert "resize to 8 x 8" in found.decoding


def test_all_bad_images_are_named_at_once(tmp_path):
    for index in range(4):
        png(tmp_path / f"{index}.png", pictures(1)[0])
    for index in (1, 3):
        (tmp_path / f"{index}.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"(?s)1\.png.*3\.png"):
        from_folder(tmp_path).read_all()


def test_folders_that_say_nothing_clear_are_refused(tmp_path):
    with pytest.raises(UserError, match="no images in it"):
        open_images(tmp_path)
    png(tmp_path / "a" / "0.png", pictures(1)[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="classes without an image: empty"):
        open_images(tmp_path)
    png(tmp_path / "0.png", pictures(1)[0])
    with pytest.raises(UserError, match="holds images and folders"):
        open_images(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        open_images(tmp_path / "nowhere")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(UserError, match="not an npz file"):
        open_images(tmp_path / "x.txt")


def test_of_a_runs_steps_the_last_is_taken(tmp_path):
    shard(tmp_path / "step_000050" / "shard_000.npz", 2)
    last = [shard(tmp_path / "step_000100" / f"shard_00{i}.npz", 2, i) for i in range(2)]
    np.testing.assert_array_equal(open_images(tmp_path).read_all(), np.concatenate([part["arr_0"] for part in last]))
    with pytest.raises(UserError, match="a size of 16 is asked"):
        open_images(tmp_path, 16)


# --- arrays -----------------------------------------------------------------------------------------------------


def test_arrays_must_be_images():
    with pytest.raises(UserError, match="float64"):
        from_arrays(pictures() / 255)
    with pytest.raises(UserError, match="3 images need 3 integer labels"):
        from_arrays(pictures(), np.zeros(2, int))
    with pytest.raises(UserError, match="5 images asked, it holds 3"):
        from_arrays(pictures()).first(5)
