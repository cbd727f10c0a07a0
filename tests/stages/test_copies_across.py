"""A picture that is pre-trained on and that a task of another data set holds: refused by whichever job finds both."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_experiment import TINY

from kind.__main__ import main
from kind.artifacts import load_arrays, read_json, sha256
from kind.data.prepared import load_split

DATA = "{{source: folder, options: {{path: {0}, size: 8}}, split: {{train: 0.5, validation: 0.1, test: 0.4}}}}"
SEEN, NOVEL = DATA.format("seen"), DATA.format("novel")
PARAMS = TINY
for old, new in (
    ("digits: {source: digits, split: {train: 0.5, validation: 0.1, test: 0.4}}", f"seen: {SEEN}\n  novel: {NOVEL}"),
    ("data: digits, classes: [0, 1, 2]", "data: seen, classes: [0, 1, 2]"),
    ("{data: digits, classes: [7, 8], images_per_class: 20}", "{data: novel, classes: [7, 8]}"),
    ("num_reference: 30", "num_reference: 8"),
):
    assert PARAMS.count(old) == 1, old
    PARAMS = PARAMS.replace(old, new)
HINT = (
    "  -> leave one of each pair out; or take both from one data set, with its classes named in `pretrain` and in "
    "`tasks`: it counts copies, and puts them into one split\n"
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Two data sets of ten different pictures a class, not prepared."""
    monkeypatch.chdir(tmp_path)
    for library in ("OMP", "OPENBLAS", "MKL"):  # which a stage sets
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")
    draws = np.random.default_rng(0)
    for data, classes in (("seen", "0123"), ("novel", "789")):
        for name in classes:
            for number in range(10):
                path = tmp_path / data / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    (tmp_path / "tiny.yaml").write_text(PARAMS)
    return tmp_path


@pytest.fixture
def run(folder, capsys) -> Callable[..., tuple[int, str]]:
    """Exit code and last message of a stage."""

    def stage(name: str, *chosen: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main([name, "--experiment", "tiny.yaml", *chosen])
        return code, capsys.readouterr().err.rpartition("error: ")[2]

    return stage


def prepare(run, *names: str) -> None:
    for name in names:
        assert run("prepare", "--data", name, "--workers", "1")[0] == 0


def file_in(folder: Path, data: str, name: str, split: str) -> Path:
    """The first file of a class that is in this split, of a data set as it is prepared."""
    pictures = {image.tobytes() for image in load_split(folder / f"results/tiny/data/{data}", split, [name]).images}
    files = sorted((folder / data / name).iterdir())
    return next(path for path in files if np.asarray(Image.open(path)).tobytes() in pictures)


def copy(folder: Path, run, one: Path, other: Path) -> None:
    """The novel data set holds a picture of the seen one, in the place of one of its own, and is prepared so."""
    shutil.copy(one, other)
    shutil.rmtree(folder / "results/tiny/data/novel")
    prepare(run, "novel")


@pytest.mark.parametrize("split", ["train", "test"])
def test_pretraining_refuses_it_by_name(folder, run, split):
    prepare(run, "seen", "novel")
    one, other = file_in(folder, "seen", "1", "train"), file_in(folder, "novel", "8", split)
    copy(folder, run, one, other)
    code, said = run("pretrain", "--backbone", "dense")
    assert code == 2
    assert said == (
        "tiny.yaml: data.seen and data.novel hold the same picture 1 times: pre-training trains on it, and a task's "
        f"classes must be new to the backbone\n  seen: 1/{one.name} (class '1', train), novel: 8/{other.name} "
        f"(class '8', {split})\n{HINT}"
    )
    assert not (folder / "results/tiny/backbones/dense/model.safetensors").exists()


def test_the_reference_refuses_it_where_pretraining_began_before_the_task_was_there(folder, run):
    prepare(run, "seen", "novel")
    one, other = file_in(folder, "seen", "1", "train"), file_in(folder, "novel", "8", "test")
    shutil.copy(one, other)
    shutil.rmtree(folder / "results/tiny/data/novel")
    assert run("pretrain", "--backbone", "dense")[0] == 0
    prepare(run, "novel")
    assert run("extractor")[0] == 0
    code, said = run("reference", "--task", "novel")
    assert code == 2 and f"seen: 1/{one.name} (class '1', train), novel: 8/{other.name} (class '8', test)" in said
    assert not (folder / "results/tiny/reference/novel.npz").exists()


def test_without_its_files_a_picture_is_named_by_its_row(folder, run):
    prepare(run, "seen", "novel")
    one, other = file_in(folder, "seen", "1", "train"), file_in(folder, "novel", "8", "test")
    copy(folder, run, one, other)
    shutil.move(folder / "novel", folder / "away")
    code, said = run("pretrain", "--backbone", "dense")
    row = 10 + int(other.stem)
    assert code == 2 and f"seen: 1/{one.name} (class '1', train), novel: image {row} (class '8', test)" in said


@pytest.mark.parametrize("seen, split, novel", [("1", "test", "8"), ("3", "train", "8"), ("1", "train", "9")], ids=str)
def test_what_is_not_trained_on_or_in_no_task_is_no_matter(folder, run, seen, split, novel):
    """A class of neither, or a picture that pre-training holds out."""
    prepare(run, "seen", "novel")
    copy(folder, run, file_in(folder, "seen", seen, split), file_in(folder, "novel", novel, "test"))
    assert run("pretrain", "--backbone", "dense")[0] == 0


def test_what_comes_out_knows_nothing_of_the_other_data_set(folder, run):
    """So that no result is made again for it."""
    model, record = (folder / "results/tiny/backbones/dense" / name for name in ("model.safetensors", "pretrain.json"))
    prepare(run, "seen")
    assert run("pretrain", "--backbone", "dense")[0] == 0
    alone = sha256(model), read_json(record)["inputs"], read_json(record)["recipe_digest"]
    record.unlink()
    prepare(run, "novel")
    assert run("pretrain", "--backbone", "dense")[0] == 0
    assert (sha256(model), read_json(record)["inputs"], read_json(record)["recipe_digest"]) == alone
    assert set(load_arrays(folder / "results/tiny/data/novel/index.npz")) == {"labels", "splits"}
