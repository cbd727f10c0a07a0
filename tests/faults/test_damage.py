"""Files cut at many places and with flipped bytes: found out, named, never used; or made again, where work goes on."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from place import COMMANDS, FULL, KIND, Place

from kind import checksums
from kind.__main__ import main
from kind.artifacts import load_arrays, read_json, save_arrays, write_bytes, write_sealed_json
from kind.errors import UserError
from kind.evaluation.image_npz import from_npz
from kind.kept import as_line, is_kept, keep, of_line

CUTS, FLIPS = 8, 8


def damages(content: bytes, cuts: int = CUTS, flips: int = FLIPS) -> Iterator[tuple[str, bytes]]:
    """The content cut at 0, 1, a grid and before its last byte, and with bytes changed at seeded positions."""
    size, draws = len(content), random.Random(len(content))
    for length in sorted({0, 1, size - 1, *(size * k // cuts for k in range(1, cuts))}):
        yield f"cut at {length}", content[:length]
    places = {0, size - 1, *(draws.randrange(size) for _ in range(flips))} if flips < size else range(size)
    for position in sorted(places):
        changed = bytearray(content)
        changed[position] ^= draws.choice((0xFF, 1 << draws.randrange(8)))
        yield f"byte {position} changed", bytes(changed)


def read_or_refuse(read: Callable[[Path], Any], path: Path) -> Any:
    """What is read; None where a message that names the file refuses it."""
    try:
        return read(path)
    except UserError as error:
        if not str(error).startswith(f"{path}: "):
            raise
        return None


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


# --- formats that hold a checksum -----------------------------------------------------------------------------------


def test_any_byte_of_an_npz_file_is_found_out_or_does_no_harm(tmp_path):
    """Whatever is flipped: a damaged header may even make an array smaller, so that zip compares no checksum."""
    path, draws = tmp_path / "a.npz", np.random.default_rng(0)
    save_arrays(path, arr_0=draws.integers(0, 256, (10, 2, 2, 3), dtype=np.uint8), arr_1=np.arange(10))
    whole, content = load_arrays(path), path.read_bytes()
    refused = 0
    for what, damaged in damages(content, cuts=40, flips=len(content)):
        path.write_bytes(damaged)
        for read in (load_arrays, _as_arrays):
            found = read_or_refuse(read, path)
            assert found is None or same(found, whole), what
            refused += found is None
    assert refused > len(content)


def test_a_header_that_makes_an_array_smaller_is_found_out(tmp_path):
    path = tmp_path / "a.npz"
    save_arrays(path, pooled=np.ones((30, 4), np.float32))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(30, 4)", b"(10, 4)"))
    with pytest.raises(UserError, match="not a whole npz file"):
        load_arrays(path)


def _as_arrays(path: Path) -> dict[str, np.ndarray]:
    images = from_npz([path])
    return {"arr_0": images.read_all(), "arr_1": images.labels}


def test_any_byte_of_sealed_json_is_found_out_or_does_no_harm(tmp_path):
    path, whole = tmp_path / "cost.json", {"train_seconds": 1.5, "device": "cpu", "of": {"steps": 3, "x": [1, None]}}
    write_sealed_json(path, whole)
    assert read_json(path) == whole
    for what, damaged in damages(path.read_bytes(), flips=10**6):
        path.write_bytes(damaged)
        assert read_or_refuse(read_json, path) in (None, whole), what


def test_any_byte_of_a_kept_file_or_its_checksum_makes_it_again(tmp_path, capsys):
    path, content = tmp_path / "shard.npz", bytes(range(50))
    write_bytes(path, content)
    assert not is_kept(path)  # a kill before the checksum was noted
    write_bytes(path, content)
    keep(path)
    assert is_kept(path)
    noted = path.with_name("shard.npz.sha256")
    note = noted.read_bytes()
    for _, damaged in damages(content, flips=100):
        write_bytes(path, damaged)
        assert not is_kept(path) and not path.exists()
        assert f"{path}: cut off or changed" in capsys.readouterr().err
    for _, damaged in damages(note, flips=100):
        write_bytes(path, content)
        write_bytes(noted, damaged)
        assert not is_kept(path)


def test_any_byte_of_a_line_of_a_log_is_found_out_or_does_no_harm():
    entry = {"block": 3, "digests": ["ab", "cd"], "bad": {}}
    line = as_line(entry)
    for what, damaged in damages(line.encode()[:-1], flips=1000):
        assert of_line(damaged.decode(errors="replace")) in (None, entry), what
    assert of_line(line) == entry


def test_a_damaged_note_of_a_checksum_does_not_blame_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checksums, "LARGE", 1)
    monkeypatch.setattr(checksums, "REST", 0.0)
    path = tmp_path / "large"
    path.write_bytes(b"x" * 100)
    right = checksums.sha256(path)
    (note,) = (tmp_path / "cache/kind/checksums").iterdir()
    assert json.loads(note.read_text())["sha256"] == right
    for what, damaged in damages(note.read_bytes(), flips=10**6):
        note.write_bytes(damaged)
        assert checksums.sha256(path) == right, what


# --- what jobs read: their records know -----------------------------------------------------------------------------

READ = {  # file -> the command that reads it
    "data/digits/images.npy": ("pretrain", "--backbone", "dense"),
    "data/digits/index.npz": ("pretrain", "--backbone", "dense"),
    "data/digits/manifest.json": ("finetune", *FULL),
    "extractor/extractor.safetensors": ("reference", "--task", "novel"),
    "reference/novel.npz": ("evaluate", *FULL),
    "reference/novel.judge.npz": ("evaluate", *FULL),
    "reference/novel.json": ("evaluate", *FULL),
    "backbones/dense/model.safetensors": ("finetune", *FULL),
    "backbones/kind/model.safetensors": ("extract", "--backbone", "kind"),
    "backbones/dense/train.csv": ("report",),
    "backbones/dense/preview.npz": ("report",),
    "backbones/dense/cost.json": ("report",),
    "backbones/dense/pretrain.json": ("report",),
    "learngenes/kind/learngenes.safetensors": ("finetune", *KIND),
    "adapters/novel/full/seed_0/step_000003.safetensors": ("sample", *FULL),
    "samples/novel/full/seed_0/step_000003/shard_001.npz": ("evaluate", *FULL),
    "runs/novel/full/seed_0/finetune.json": ("evaluate", *FULL),
    "runs/novel/full/seed_0/sample.json": ("evaluate", *FULL),
    "runs/novel/full/seed_0/metrics.json": ("report",),
    "runs/novel/full/seed_0/train.csv": ("report",),
    "runs/novel/full/seed_0/cost.json": ("report",),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_is_named_and_nothing_is_made_of_it(place, capsys, name):
    path, (stage, *chosen) = place.results / name, READ[name]
    done = next(record for record, command in RECORDS.items() if command == (stage, *chosen))
    (place.results / done).unlink()  # so that there is work
    before, content = place.contents(), path.read_bytes()
    for what, damaged in damages(content, cuts=2, flips=3):
        if path.suffix == ".json" and means_the_same(damaged, content):
            continue
        path.write_bytes(damaged)
        code = main([stage, "--experiment", "tiny.yaml", *chosen])
        said = capsys.readouterr().err
        assert code == 2 and path.name in said and "Traceback" not in said, (what, said)
        path.write_bytes(content)
        changed = {key for key, value in place.contents().items() if before.get(key) != value}
        assert all("/state/" in key and key.endswith(("job.json", "lock")) for key in changed), (what, changed)


def means_the_same(damaged: bytes, content: bytes) -> bool:
    """JSON with another space, or without its last line end."""
    try:
        return json.loads(damaged) == json.loads(content)
    except ValueError:
        return False


RECORDS = {
    "report/report.json": ("report",),
    "data/digits/prepare.json": COMMANDS[0],
    "extractor/extractor.json": COMMANDS[1],
    "reference/novel.json": COMMANDS[2],
    "backbones/dense/pretrain.json": COMMANDS[3],
    "backbones/kind/pretrain.json": COMMANDS[4],
    "learngenes/kind/extract.json": COMMANDS[5],
    **{f"runs/novel/full/seed_0/{stage}.json": (stage, *FULL) for stage in ("finetune", "sample", "evaluate")},
    **{f"runs/novel/kind/seed_0/{stage}.json": (stage, *KIND) for stage in ("finetune", "sample", "evaluate")},
}


@pytest.mark.slow
def test_a_damaged_record_of_its_own_makes_a_job_do_its_work_again(place, capsys):
    record = place.results / "learngenes/kind/extract.json"
    content = record.read_bytes()
    for what, damaged in damages(content, cuts=3, flips=8):
        if means_the_same(damaged, content):
            continue
        record.write_bytes(damaged)
        assert main(["extract", "--experiment", "tiny.yaml", "--backbone", "kind"]) == 0, what
        assert record.read_bytes() == content, what


@pytest.mark.slow
def test_a_model_in_python_and_on_the_command_line_is_held_against_its_record(place, capsys):
    import kind

    for name, start in (
        ("backbones/kind/model.safetensors", None),
        ("learngenes/kind/tailors/class_0001.safetensors", None),
        ("adapters/novel/full/seed_0/step_000003.safetensors", "backbones/dense"),
    ):
        path = place.results / name
        folder = path.parents[1] if "tailors" in name else path.parent
        content = path.read_bytes()
        for what, damaged in damages(content, cuts=2, flips=6):
            path.write_bytes(damaged)
            with pytest.raises(UserError, match=path.name):
                kind.load(folder, None if start is None else place.results / start)
            path.write_bytes(content)
            assert what
        kind.load(folder, None if start is None else place.results / start)


# --- what a killed job left: checked, or made again -------------------------------------------------------------------


def broken_off(place: Place, command: tuple[str, ...], blocked: str) -> None:
    """Let a job do its work and fail when it puts the first thing in its place, where something else stands."""
    target = place.results / blocked
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    target.mkdir() if target.suffix else target.write_text("in the way")
    assert main([command[0], "--experiment", "tiny.yaml", *command[1:]]) == 2
    target.rmdir() if target.is_dir() else target.unlink()


@pytest.mark.slow
def test_damaged_shards_that_wait_are_drawn_again(place, capsys):
    before, command = place.contents(), ("sample", *FULL)
    broken_off(place, command, "samples/novel/full")
    state = place.results / "state/sample/novel/full/0"
    shutil.copytree(state, place.folder / "kept")
    waiting = sorted(path.relative_to(state) for path in state.rglob("*.npz"))
    assert len(waiting) > 1
    content = (state / waiting[1]).read_bytes()
    for what, damaged in damages(content, cuts=3, flips=5):
        shutil.rmtree(state, ignore_errors=True)
        shutil.copytree(place.folder / "kept", state)
        (state / waiting[1]).write_bytes(damaged)
        (place.results / "runs/novel/full/seed_0/sample.json").unlink(missing_ok=True)
        shutil.rmtree(place.results / "samples/novel/full", ignore_errors=True)
        assert main(["sample", "--experiment", "tiny.yaml", *FULL]) == 0
        shards = {key: value for key, value in place.contents().items() if "/samples/" in key}
        assert shards == {key: value for key, value in before.items() if "/samples/" in key}, what


KINDS: dict[str, Callable[[bytes], bytes]] = {  # of damage to a block of features
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "without its last byte": lambda content: content[:-1],
    "a value": lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    "a width": lambda content: content.replace(b", 4)", b", 1)"),
    "a number type": lambda content: content.replace(b"<f4", b"<f2"),
    "a name": lambda content: content.replace(b"pooled.npy", b"poolen.npy"),
    "another file": lambda content: b"not features",
}


@pytest.mark.slow
def test_damaged_features_are_extracted_again(place):
    metrics = place.results / "runs/novel/full/seed_0/metrics.json"
    whole = metrics.read_bytes()
    blocks = {path: path.read_bytes() for path in sorted((place.results / "features").rglob("*.npz"))}
    assert blocks
    for what, damage in KINDS.items():
        for path, content in blocks.items():
            path.write_bytes(damage(content))
        metrics.unlink()
        assert main(["evaluate", "--experiment", "tiny.yaml", *FULL]) == 0
        assert metrics.read_bytes() == whole, what
