"""The prepared folder: what is written is what is read, and nothing else is read."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from kind.artifacts import read_json, sha256, write_json
from kind.data.prepared import load_split, read_manifest
from kind.data.preparing import prepare
from kind.data.sources import SOURCES, RawData, Source, SourceOptions
from kind.errors import UserError
from kind.layout import SPLITS

SPLIT = SimpleNamespace(train=0.5, validation=0.25, test=0.25, seed=0)
NAMES = ("10", "2", 'tiger "T" 虎', "n01 great white, shark", "été", "_", "null")  # seven; order is neither sort's


class Options(SourceOptions):
    copies: int = 1


def fake(images_per_class=8, names=NAMES, edit=lambda raw: raw):
    """A source whose images are 3x5 RGB, each with its number in its first two pixels."""

    def load(options):
        count = images_per_class * len(names)
        images = np.zeros((count, 3, 5, 3), dtype=np.uint8)
        images[:, 0, 0, 0], images[:, 0, 1, 0] = np.divmod(np.arange(count), 256)
        labels = np.arange(count, dtype=np.int64) % len(names)
        repeat = np.repeat(np.arange(count), options.copies)
        return edit(RawData(images[repeat], labels[repeat], tuple(names), {"note": "ü"}))

    return Source(name="fake", options=Options, load=load)


@pytest.fixture
def prepared(monkeypatch, tmp_path):
    def run(source=None, options=None, split=SPLIT, name="fake"):
        monkeypatch.setitem(SOURCES, "fake", source or fake())
        prepare(name, options or {}, split, tmp_path)
        return tmp_path

    return run


def numbers(split):
    return split.images[:, 0, 0, 0].astype(int) * 256 + split.images[:, 0, 1, 0]


# --- writing and reading --------------------------------------------------------------------------------------


def test_every_image_comes_back_once_with_its_label(prepared):
    folder = prepared()
    splits = {name: load_split(folder, name) for name in SPLITS}
    assert {name: len(split) for name, split in splits.items()} == {"train": 28, "validation": 14, "test": 14}
    assert sorted(np.concatenate([numbers(split) for split in splits.values()])) == list(range(56))
    for split in splits.values():
        assert split.class_names == NAMES
        assert split.images.shape[1:] == (3, 5, 3) and split.images.dtype == np.uint8 and split.labels.dtype == np.int64
        np.testing.assert_array_equal(split.labels, numbers(split) % len(NAMES))


def test_the_manifest_holds_classes_counts_checksums_and_origin(prepared):
    folder = prepared(options={"copies": 1})
    manifest = read_manifest(folder)
    assert manifest["classes"] == list(NAMES)
    assert manifest["counts"]["train"] == dict.fromkeys(NAMES, 4)
    assert manifest["counts"]["test"] == dict.fromkeys(NAMES, 2)
    assert manifest["sha256"] == {name: sha256(folder / name) for name in ("images.npy", "index.npz")}
    assert manifest["source"] == "fake" and manifest["options"] == {"copies": 1} and manifest["notes"] == {"note": "ü"}
    assert manifest["image_shape"] == [3, 5, 3]
    assert manifest["split"] == {"train": 0.5, "validation": 0.25, "test": 0.25, "seed": 0}
    assert "python" in manifest["provenance"] and manifest["num_copies"] == 0


def test_preparing_again_gives_the_same_bytes_and_another_seed_another_split(prepared):
    folder = prepared()
    first = read_manifest(folder)["sha256"]
    assert read_manifest(prepared())["sha256"] == first
    other = SimpleNamespace(**{**vars(SPLIT), "seed": 1})
    another = read_manifest(prepared(split=other))["sha256"]
    assert another["index.npz"] != first["index.npz"] and another["images.npy"] == first["images.npy"]


def test_digits_end_to_end(prepared, tmp_path):
    from sklearn.datasets import load_digits

    folder = prepared(name="digits", split=SimpleNamespace(train=0.5, validation=0.15, test=0.35, seed=0))
    manifest = read_manifest(folder)
    assert list(manifest["counts"]["train"].values()) == [89, 91, 88, 92, 91, 91, 91, 89, 87, 90]
    assert manifest["num_copies"] == 0, "no two of the digits are the same picture"
    pictures = {
        image.astype(np.uint8).tobytes(): label for image, label in zip(*load_digits(return_X_y=True), strict=True)
    }
    split = load_split(folder, "test", ["9", "7"])
    assert len(split) == 126
    for image, label in zip(split.images, split.labels, strict=True):
        assert pictures[np.rint(image / 255 * 16).astype(np.uint8).tobytes()] == (9, 7)[label]


# --- classes --------------------------------------------------------------------------------------------------


def test_chosen_classes_are_relabelled_to_their_order_in_the_list(prepared):
    chosen = [NAMES[4], NAMES[0], NAMES[2]]
    split = load_split(prepared(), "train", chosen)
    assert split.class_names == tuple(chosen) and len(split) == 12
    np.testing.assert_array_equal(np.array([4, 0, 2])[split.labels], numbers(split) % len(NAMES))


def test_take_keeps_images_labels_and_classes_together(prepared):
    split = load_split(prepared(), "train")
    part = split.take(np.array([5, 2]))
    np.testing.assert_array_equal(part.images, split.images[[5, 2]])
    np.testing.assert_array_equal(part.labels, split.labels[[5, 2]])
    assert part.class_names == NAMES and len(part) == 2


def test_an_unknown_class_names_the_nearest_and_the_allowed(prepared):
    folder = prepared()
    with pytest.raises(UserError) as error:
        load_split(folder, "train", ["2", "n01 great white shark"])
    assert "no class 'n01 great white shark' (did you mean 'n01 great white, shark'?)" in str(error.value)
    assert all(name in str(error.value) for name in NAMES)
    with pytest.raises(UserError, match="class '2' is named twice"):
        load_split(folder, "train", ["2", "10", "2"])
    with pytest.raises(UserError, match="no classes named"):
        load_split(folder, "train", [])


# --- files that are not what they should be -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["images.npy", "index.npz"])
def test_a_changed_file_is_refused(prepared, name):
    folder = prepared()
    content = bytearray((folder / name).read_bytes())
    content[400] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.*sha256 differs"):
        load_split(folder, "train")


def test_a_manifest_of_another_format_is_refused(prepared):
    folder = prepared()
    manifest = read_manifest(folder)
    without_classes = {key: value for key, value in manifest.items() if key != "classes"}
    for content, said in [
        ({**manifest, "format": "kind-prepared-1"}, "format 'kind-prepared-1', but this code reads 'kind-prepared-2'"),
        ({}, "format None"),
        ([], "format None"),
        (without_classes, "has no classes"),
    ]:
        write_json(folder / "manifest.json", content)
        with pytest.raises(UserError, match=f"manifest.json: {said}"):
            load_split(folder, "train")


def test_without_a_manifest_nothing_is_read(prepared):
    folder = prepared()
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json: no such file"):
        load_split(folder, "train")


def test_preparing_that_breaks_off_leaves_no_manifest(prepared, monkeypatch):
    folder = prepared()
    saved = []

    def full_disk(path, **arrays):
        saved.append(path)
        raise OSError("no space left on device")

    monkeypatch.setattr("kind.data.preparing.save_arrays", full_disk)
    with pytest.raises(OSError, match="no space"):
        prepared()
    assert saved and not (folder / "manifest.json").exists()


def test_a_wrong_request_leaves_the_old_folder_as_it_was(prepared):
    folder = prepared()
    with pytest.raises(UserError):
        prepared(split=SimpleNamespace(train=0.5, validation=0.5, test=0.5, seed=0))
    assert len(load_split(folder, "train")) == 28


# --- copies ---------------------------------------------------------------------------------------------------


def test_copies_of_a_picture_stay_in_one_split(prepared):
    folder = prepared(options={"copies": 3})
    assert read_manifest(folder)["num_copies"] == 2 * 56
    pictures = {name: numbers(load_split(folder, name)) for name in SPLITS}
    assert {name: len(found) for name, found in pictures.items()} == {"train": 84, "validation": 42, "test": 42}
    seen = [set(found) for found in pictures.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 56


def test_copies_with_another_label_stay_together_and_are_counted(prepared):
    def confuse(raw):
        images = raw.images.copy()
        images[1], images[9] = images[0], images[2]  # labels 0 and 1; 2 and 2 (9 % 7)
        return RawData(images, raw.labels, raw.class_names)

    folder = prepared(fake(edit=confuse))
    manifest = read_manifest(folder)
    assert manifest["num_copies"] == 2 and manifest["num_copies_with_another_label"] == 1
    holds = [set(numbers(load_split(folder, name))) for name in SPLITS]
    assert sum(map(len, holds)) == 54
    assert sum(manifest["counts"][name][NAMES[1]] for name in SPLITS) == 8


# --- wrong requests -------------------------------------------------------------------------------------------


def test_wrong_requests_say_what_is_wrong(prepared, tmp_path):
    with pytest.raises(UserError, match="no data source 'digit' .did you mean 'digits'.*letters"):
        prepared(name="digit")
    with pytest.raises(UserError, match="copis.*copies"):
        prepared(options={"copis": 1})
    with pytest.raises(UserError, match="'10' has too few images: 2 .*validation"):
        prepared(fake(images_per_class=2))
    assert not list(tmp_path.iterdir())


def test_what_a_source_lacks_is_listed(prepared, tmp_path):
    source = fake()
    lacking = Source(
        "fake", Options, source.load, missing=lambda options: ["/data/a: get it by X", "/data/b: get it by Y"]
    )
    with pytest.raises(UserError, match="(?s)fake lacks.*/data/a: get it by X.*/data/b: get it by Y"):
        prepared(lacking)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"images": np.zeros((56, 3, 5, 3), dtype=np.float32)},
        {"images": np.zeros((56, 3, 5), dtype=np.uint8)},
        {"images": np.zeros((55, 3, 5, 3), dtype=np.uint8)},
        {"labels": np.full(56, 7)},
        {"labels": np.full(56, -1)},
        {"labels": np.zeros(56, dtype=np.int32)},
        {"class_names": ("a",) * 7},
        {"class_names": (0, 1, 2, 3, 4, 5, 6)},
    ],
)
def test_a_source_that_breaks_its_promise_is_named(prepared, change):
    def broken(raw):
        return RawData(**{**vars(raw), **change})

    with pytest.raises(AssertionError, match="fake: "):
        prepared(fake(edit=broken))


def test_the_manifest_is_plain_json_in_utf8(prepared):
    text = (prepared() / "manifest.json").read_text(encoding="utf-8")
    assert '"été"' in text and json.loads(text) == read_json(prepared() / "manifest.json")
