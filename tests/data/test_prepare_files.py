"""Image files become prepared data: the same bytes whatever the workers and the kills, bad files listed or counted."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from image_tree import jpeg, make_tree, picture, tar_of, tars_of_classes, write
from PIL import Image

from kind import checksums
from kind.artifacts import sha256
from kind.data import decoding
from kind.data.prepared import load_split, read_manifest
from kind.data.preparing import prepare
from kind.errors import UserError
from kind.images import decode_image
from kind.layout import SPLITS

ROOT = Path(__file__).parents[2]
SPLIT = SimpleNamespace(train=0.5, validation=0.25, test=0.25, seed=0)
COUNTS = {"b": 8, "a": 12}


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree", COUNTS)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK", 3)


def prepared(folder, path, source="folder", **options):
    how = {key: options.pop(key) for key in ("state", "workers") if key in options}
    return prepare(source, {"path": str(path), "size": 8, **options}, SPLIT, folder, **how)


def refused(folder, path, **options):
    with pytest.raises(UserError) as error:
        prepared(folder, path, **options)
    assert not (folder / "manifest.json").exists() and not (folder / "images.npy").exists()
    return str(error.value)


def rows_by_name(folder):
    splits = [load_split(folder, split) for split in SPLITS]
    return [(split.class_names[label], image.tobytes()) for split in splits for image, label in zip(split.images, split.labels, strict=True)]  # fmt: skip  # noqa: E501


def test_every_file_is_a_row_with_its_class(tree, tmp_path):
    prepared(tmp_path / "out", tree)
    expected = [
        (file.parent.name, decode_image(file.read_bytes(), channels=3, size=8, name="").tobytes())
        for file in tree.rglob("*.JPEG")
    ]
    assert sorted(rows_by_name(tmp_path / "out")) == sorted(expected)
    manifest = read_manifest(tmp_path / "out")
    assert manifest["classes"] == ["a", "b"] and manifest["counts"]["train"] == {"a": 6, "b": 4}
    assert manifest["image_shape"] == [8, 8, 3] and manifest["options"]["path"] == str(tree)
    assert manifest["notes"]["num_files"] == 20 and {"files_sha256", "pillow", "libjpeg-turbo"} < set(manifest["notes"])
    assert (manifest["num_bad"], manifest["num_upscaled"], manifest["num_copies"]) == (0, 0, 0)
    assert manifest["sha256"] == {name: sha256(tmp_path / "out" / name) for name in ("images.npy", "index.npz")}


def test_archives_and_any_number_of_workers_give_the_same_bytes(tree, tmp_path, small_blocks):
    tar = tar_of(tars_of_classes(tree, tmp_path / "tars"), tmp_path / "a.tar")
    sums = [prepared(tmp_path / "one", tree)["sha256"], prepared(tmp_path / "two", tar, workers=2)["sha256"]]
    assert sums[0] == sums[1]


def test_grey_images_and_a_cap(tree, tmp_path):
    manifest = prepared(tmp_path / "out", tree, channels=1, images_per_class=4, seed=1)
    assert manifest["image_shape"] == [8, 8, 1] and manifest["notes"]["num_left_out"] == 12
    assert sum(sum(counts.values()) for counts in manifest["counts"].values()) == 8


def test_a_large_array_is_hashed_once_for_all_who_read_it(tree, tmp_path, monkeypatch):
    computed, plain = [], checksums._computed
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checksums, "LARGE", 3000)  # the array has 3,968 bytes, the index 700
    monkeypatch.setattr(checksums, "REST", 0.05)
    monkeypatch.setattr(checksums, "_computed", lambda path: computed.append(path.name) or plain(path))
    prepared(tmp_path / "out", tree)
    for split in SPLITS:
        load_split(tmp_path / "out", split)
    assert [name for name in computed if "images" in name] == [".images.npy"]
    with open(tmp_path / "out" / "images.npy", "r+b") as handle:
        handle.seek(-1, os.SEEK_END)
        handle.write(b"x")
    with pytest.raises(UserError, match="sha256 differs"):
        load_split(tmp_path / "out", "train")


# --- bad files ------------------------------------------------------------------------------------------------


def add_odd_files(tree):
    """Every kind of file that must be decoded rightly, or listed.  Returns the names of the bad ones."""
    whole = jpeg(70)
    write(tree / "a" / "truncated.jpg", whole[: len(whole) // 2])
    write(tree / "a" / "empty.png", b"")
    write(tree / "b" / "page.jpeg", b"<html>not found</html>")
    damaged = io.BytesIO()
    picture(71).save(damaged, "PNG")
    write(tree / "b" / "damaged.png", damaged.getvalue()[:60] + b"\0\0" + damaged.getvalue()[62:])
    for name, image in {
        "grey.png": picture(72).convert("L"), "cmyk.jpg": picture(73).convert("CMYK"),
        "palette.gif": picture(74).convert("P"), "tiny.png": picture(76, (5, 4)),
        "sixteen.png": Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 160),
    }.items():  # fmt: skip
        image.save(tree / "a" / name)
    clear = picture(75).convert("RGBA")
    clear.putalpha(100)
    clear.save(tree / "a" / "alpha.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(77).save(tree / "a" / "turned.jpg", exif=turned)
    return ["a/empty.png", "a/truncated.jpg", "b/damaged.png", "b/page.jpeg"]


def test_all_bad_files_are_listed_and_mending_them_is_enough(tree, tmp_path, small_blocks, capsys):
    bad = add_odd_files(tree)
    out, state = tmp_path / "out", tmp_path / "state"
    message = refused(out, tree, state=state)
    assert message.startswith(
        f"4 of 31 image files cannot be decoded (all of them: {state}/bad_images.csv):\n  a/empty"
    )
    assert "  -> mend or remove them and run the same command again" in message
    assert "`bad_images: skip` in the options of this data set" in message
    assert all(f"  {name}: " in message for name in bad)
    with open(state / "bad_images.csv", newline="") as handle:
        assert [row["file"] for row in csv.DictReader(handle)] == bad
    for number, name in enumerate(bad):
        write(tree / name, jpeg(80 + number))
    capsys.readouterr()
    mended = prepared(out, tree, state=state)
    assert "going on after 21 of 31 images" in capsys.readouterr().out  # without the blocks that had bad files
    assert mended["num_bad"] == 0 and mended["sha256"] == prepared(tmp_path / "anew", tree)["sha256"]
    assert list(state.iterdir()) == []


def test_a_bad_file_is_tried_again_though_nothing_of_it_seems_to_have_changed(tree, tmp_path):
    """What was in the way may not show in size and time: a right to read, a network."""
    path = tree / "a" / "a_3.JPEG"
    whole, times = path.read_bytes(), path.stat()
    path.write_bytes(b"x" * len(whole))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    refused(tmp_path / "out", tree, state=tmp_path / "state")
    path.write_bytes(whole)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert prepared(tmp_path / "out", tree, state=tmp_path / "state")["num_bad"] == 0


def test_bad_files_are_left_out_and_counted(tree, tmp_path):
    bad = add_odd_files(tree)
    manifest = prepared(tmp_path / "out", tree, bad_images="skip")
    assert manifest["num_bad"] == 4 and list(manifest["bad"]) == bad and manifest["num_upscaled"] == 1
    for name in bad:
        (tree / name).unlink()
    assert rows_by_name(tmp_path / "out") == rows_by_name_of(tmp_path / "without", tree)


def rows_by_name_of(folder, tree):
    prepared(folder, tree)
    return rows_by_name(folder)


def test_a_class_without_a_good_file_is_refused(tree, tmp_path):
    for file in (tree / "b").iterdir():
        file.write_bytes(b"")
    assert "class 'b' has too few images: 0" in refused(tmp_path / "out", tree, bad_images="skip")


def test_a_disk_that_is_too_small_is_refused_at_the_start(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "0.0 GB are needed" in refused(tmp_path / "out", tree, size=32)


# --- splits and copies ----------------------------------------------------------------------------------------


def with_splits(tree, tmp_path, split_of=lambda key, number: SPLITS[number % 3]):
    keys = sorted(file.relative_to(tree).as_posix() for file in tree.rglob("*.JPEG"))
    rows = [f"{key},{key[0]},{split_of(key, number)}\n" for number, key in enumerate(keys)]
    (tmp_path / "a.csv").write_text("".join(["file,label,split\n", *rows]))
    return {"labels": "csv", "csv": str(tmp_path / "a.csv"), "split_column": "split"}


def test_a_source_may_fix_the_splits(tree, tmp_path):
    manifest = prepared(tmp_path / "out", tree, **with_splits(tree, tmp_path))
    assert manifest["split"] == "fixed by the source"
    assert manifest["counts"] == {"train": {"a": 4, "b": 3}, "validation": {"a": 4, "b": 3}, "test": {"a": 4, "b": 2}}


def test_copies_across_fixed_splits_are_refused_by_name(tree, tmp_path):
    write(tree / "b" / "b_7.JPEG", (tree / "a" / "a_0.JPEG").read_bytes())
    write(tree / "a" / "a_3.JPEG", (tree / "a" / "a_2.JPEG").read_bytes())
    in_order = {"a/a_2.JPEG": "train", "a/a_3.JPEG": "train", "a/a_0.JPEG": "train", "b/b_7.JPEG": "test"}
    options = with_splits(tree, tmp_path, lambda key, number: in_order.get(key, SPLITS[number % 3]))
    assert refused(tmp_path / "out", tree, **options) == (
        "the same picture is in two splits, 1 times:\n  a/a_0.JPEG (train) and b/b_7.JPEG (test)\n"
        "  -> leave one of each pair out, or put both into one split"
    )
    in_order["b/b_7.JPEG"] = "train"
    options = with_splits(tree, tmp_path, lambda key, number: in_order.get(key, SPLITS[number % 3]))
    assert prepared(tmp_path / "out", tree, **options)["num_copies"] == 2


def test_a_class_that_a_fixed_split_lacks_is_refused(tree, tmp_path):
    options = with_splits(tree, tmp_path, lambda key, number: "train" if key[0] == "b" else SPLITS[number % 3])
    assert "the split validation has no images of class 'b'\n  -> " in refused(tmp_path / "out", tree, **options)


def test_copies_of_files_go_with_the_first(tree, tmp_path):
    for number in range(6):
        write(tree / "a" / f"copy_{number}.jpg", (tree / "a" / f"a_{number}.JPEG").read_bytes())
    assert prepared(tmp_path / "out", tree)["num_copies"] == 6
    splits = [{image.tobytes() for image in load_split(tmp_path / "out", split).images} for split in SPLITS]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 20


# --- after a kill ---------------------------------------------------------------------------------------------


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(tmp_path, monkeypatch, capsys):
    tree = make_tree(tmp_path / "tree", {"a": 10, "b": 10}, size=(800, 800))
    state, log = tmp_path / "state", tmp_path / "state" / ".images.npy.log"
    script = (
        "import sys\nfrom types import SimpleNamespace\nfrom kind.data import decoding\n"
        "from kind.data.preparing import prepare\n"
        "if __name__ == '__main__':\n"
        "    decoding.BLOCK = 1\n    split = SimpleNamespace(train=0.5, validation=0.25, test=0.25, seed=0)\n"
        "    options = {'path': sys.argv[1], 'size': 8}\n"
        "    prepare('folder', options, split, sys.argv[2], state=sys.argv[3], workers=2)\n"
    )
    (tmp_path / "run.py").write_text(script)
    command = [sys.executable, tmp_path / "run.py", tree, tmp_path / "out", state]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        while process.poll() is None and not (log.is_file() and log.stat().st_size):
            time.sleep(0.002)
        task = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        children = task.read_text().split() if task.exists() else []
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "out").exists()
    known = log.read_text().splitlines()
    assert 0 < len(known) < 20
    log.write_text("\n".join(known) + '\n{"block": 5, "sta')  # as if cut off in a line
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [child for child in children if Path(f"/proc/{child}").exists()], "workers outlive the killed stage"

    monkeypatch.setattr(decoding, "BLOCK", 1)
    resumed = prepared(tmp_path / "out", tree, state=state)
    assert f"going on after {len(known)} of 20 images" in capsys.readouterr().out
    assert resumed["sha256"] == prepared(tmp_path / "undisturbed", tree)["sha256"]


def test_a_worker_that_is_ended_from_outside_is_one_message(tree, tmp_path, monkeypatch, small_blocks):
    """As by the kernel, where memory runs out."""

    class Broken:
        def __init__(self, *_, **__):
            pass

        def submit(self, *_):
            raise decoding.BrokenProcessPool

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(decoding, "ProcessPoolExecutor", Broken)
    assert "was ended from outside" in refused(tmp_path / "out", tree, workers=2)
    monkeypatch.undo()
    assert prepared(tmp_path / "out", tree)["num_bad"] == 0


@pytest.mark.parametrize("change", ["a file", "the size", "the list of files", "the array is gone"])
def test_what_was_decoded_from_something_else_is_decoded_again(tree, tmp_path, small_blocks, change):
    state, options = tmp_path / "state", {}
    write(tree / "b" / "bad.png", b"")
    refused(tmp_path / "out", tree, state=state)
    write(tree / "b" / "bad.png", jpeg(60))
    if change == "a file":
        write(tree / "a" / "a_0.JPEG", jpeg(61))
    elif change == "the size":
        options = {"size": 6}
    elif change == "the list of files":
        (tree / "a" / "a_1.JPEG").unlink()
    else:
        (state / ".images.npy").unlink()
    found = prepared(tmp_path / "out", tree, state=state, **options)
    assert found["sha256"] == prepared(tmp_path / "anew", tree, **options)["sha256"]


def test_rows_that_a_shorter_list_cut_off_are_not_believed(tree, tmp_path, small_blocks):
    """Decoded, cut off by a run over fewer files that was broken off too, then wanted again."""
    state = tmp_path / "state"
    write(tree / "a" / "a_0.JPEG", b"")
    for classes in (["a", "b"], ["a"]):
        refused(tmp_path / "out", tree, state=state, classes=classes)
    write(tree / "a" / "a_0.JPEG", jpeg(60))
    found = prepared(tmp_path / "out", tree, state=state, classes=["a", "b"])
    assert found["sha256"] == prepared(tmp_path / "anew", tree, classes=["a", "b"])["sha256"]


def test_damaged_rows_and_lines_of_a_killed_run_are_decoded_again(tree, tmp_path, small_blocks):
    """One byte of the rows or of the log, anywhere: it is found out, though nothing of the image files has changed."""
    bad, state = tree / "b" / "bad.png", tmp_path / "state"
    write(bad, b"")
    refused(tmp_path / "out", tree, state=state)
    write(bad, jpeg(60))
    left = {name: (state / name).read_bytes() for name in (".images.npy", ".images.npy.log")}
    wanted = prepared(tmp_path / "anew", tree)
    keys = ("sha256", "counts", "num_upscaled", "num_copies", "num_bad")
    places = [(".images.npy", -1 - 200 * k) for k in range(8)] + [(".images.npy.log", 37 * k) for k in range(12)]
    for name, position in places:
        for other, content in left.items():
            (state / other).write_bytes(content)
        damaged = bytearray(left[name])
        damaged[position] ^= 1
        (state / name).write_bytes(damaged)
        found = prepared(tmp_path / "out", tree, state=state)
        assert {key: found[key] for key in keys} == {key: wanted[key] for key in keys}, (name, position)


def test_the_log_says_what_each_block_holds(tree, tmp_path, small_blocks):
    write(tree / "a" / "a_0.JPEG", b"")
    refused(tmp_path / "out", tree, state=tmp_path / "state")
    lines = [json.loads(line) for line in (tmp_path / "state" / ".images.npy.log").read_text().splitlines()]
    assert [line["block"] for line in lines] == list(range(7)) and lines[0]["bad"] == {"0": "is empty"}
