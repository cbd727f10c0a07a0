"""Pictures that two prepared data sets both hold, found among many that are nearly the same."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kind.data.copies import find_copies, read_pictures
from kind.data.prepared import load_split
from kind.data.preparing import prepare

SPLIT = SimpleNamespace(train=0.5, validation=0.25, test=0.25, seed=0)
SIZE = 16  # 768 bytes a picture, more than the strip that is read first


def pictures(seed: int, count: int) -> list[np.ndarray]:
    """Alike but for a frame: their middles tell nothing."""
    found = []
    for number in range(count):
        picture = np.full((SIZE, SIZE, 3), 255, np.uint8)
        picture[:2] = np.random.default_rng([seed, number]).integers(0, 256, (2, SIZE, 3))
        found.append(picture)
    return found


def make(folder, classes: dict[str, list[np.ndarray]], size: int = SIZE):
    """A prepared folder of these pictures, whose files are named by class and number."""
    for name, images in classes.items():
        (folder / "files" / name).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(folder / "files" / name / f"{number}.png")
    prepare("folder", {"path": str(folder / "files"), "size": size}, SPLIT, folder / "out")
    return folder / "out"


def held(folder, split, name):
    """Pixels of a class in a split."""
    return {image.tobytes() for image in load_split(folder, split, [name]).images}


@pytest.fixture
def seen(tmp_path):
    return make(tmp_path / "seen", {"a": pictures(0, 8), "b": pictures(1, 8)})


def test_a_picture_in_both_is_found_once_a_copy_with_class_and_split(seen, tmp_path):
    shared, others = pictures(1, 8)[3:5], pictures(2, 6)
    novel = make(tmp_path / "novel", {"x": pictures(3, 4), "y": [*shared, *others]})
    found = find_copies(read_pictures(seen, ["a", "b"]), read_pictures(novel, ["x", "y"]))
    assert [(copy.one.row, copy.one.label, copy.other.row, copy.other.label) for copy in found] == [
        (8 + 3, "b", 4, "y"),
        (8 + 4, "b", 5, "y"),
    ]
    for copy, image in zip(found, shared, strict=True):
        assert image.tobytes() in held(seen, copy.one.split, "b") & held(novel, copy.other.split, "y")


def test_pictures_are_told_by_their_middles_wherever_they_lie(tmp_path):
    noise = list(np.random.default_rng(4).integers(0, 256, (16, SIZE, SIZE, 3), dtype=np.uint8))
    one, other = make(tmp_path / "one", {"a": noise[:10]}), make(tmp_path / "other", {"x": noise[:5:-1]})
    found = find_copies(read_pictures(one, ["a"]), read_pictures(other, ["x"]))
    assert [(copy.one.row, copy.other.row) for copy in found] == [(9, 6), (8, 7), (7, 8), (6, 9)]


def test_none_where_middles_are_alike_and_frames_differ(seen, tmp_path):
    novel = make(tmp_path / "novel", {"x": pictures(2, 4)})
    assert find_copies(read_pictures(seen, ["a", "b"]), read_pictures(novel, ["x"])) == []


@pytest.mark.parametrize("row", [SIZE // 2, -1], ids=["in the strip", "at the end"])
def test_none_where_one_pixel_differs(seen, tmp_path, row):
    changed = pictures(0, 4)
    for image in changed:
        image[row, SIZE // 2] = 0
    novel = make(tmp_path / "novel", {"x": changed})
    assert find_copies(read_pictures(seen, ["a", "b"]), read_pictures(novel, ["x"])) == []


def test_only_these_classes_and_splits_are_looked_at(seen, tmp_path):
    novel = make(tmp_path / "novel", {"x": pictures(0, 8), "y": pictures(2, 4)})
    assert find_copies(read_pictures(seen, ["b"]), read_pictures(novel, ["x", "y"])) == []
    assert find_copies(read_pictures(seen, ["a"]), read_pictures(novel, ["y"])) == []
    tested = find_copies(read_pictures(seen, ["a"], ["test"]), read_pictures(novel, ["x"]))
    assert len(tested) == 2 and {copy.one.split for copy in tested} == {"test"}


def test_a_copy_in_two_classes_of_the_other_is_told_for_each(seen, tmp_path):
    novel = make(tmp_path / "novel", {"x": pictures(0, 1) + pictures(2, 3), "y": pictures(0, 1) + pictures(3, 3)})
    found = find_copies(read_pictures(seen, ["a"]), read_pictures(novel, ["x", "y"]))
    assert [(copy.one.row, copy.other.label) for copy in found] == [(0, "x"), (0, "y")]


def test_of_copies_in_the_one_the_first_is_told(tmp_path):
    twice = make(tmp_path / "twice", {"a": pictures(0, 4) + pictures(0, 4), "b": pictures(0, 2) + pictures(1, 4)})
    novel = make(tmp_path / "novel", {"x": pictures(0, 2) + pictures(2, 2)})
    found = find_copies(read_pictures(twice, ["a", "b"]), read_pictures(novel, ["x"]))
    assert [(copy.one.row, copy.other.row) for copy in found] == [(0, 0), (1, 1)]


def test_pictures_of_another_size_are_no_copies(seen, tmp_path):
    novel = make(tmp_path / "novel", {"x": pictures(0, 8)}, size=8)
    assert find_copies(read_pictures(seen, ["a"]), read_pictures(novel, ["x"])) == []
