"""A picture that is pre-trained on and that a task of another data set holds: refused, or counted, by whichever job
finds both."""

from __future__ import annotations

import shutil
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_experiment import TINY, within

from kind.__main__ import main
from kind.artifacts import load_arrays, read_json, sha256
from kind.data.prepared import load_split
from kind.errors import UserError
from kind.stages.context import read_context
from kind.stages.copies import copies_where_training_begins
from kind.stages.job import Job

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
    "`tasks`: it counts copies, and puts them into one split; or to have them counted and go on, write "
    "data.novel.copies_of_pretraining: count\n"
)


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    """Two data sets of ten different pictures a class, not prepared."""
    draws = np.random.default_rng(0)
    for data, classes in (("seen", "0123"), ("novel", "789")):
        for name in classes:
            for number in range(10):
                path = tmp_path / data / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    (tmp_path / "tiny.yaml").write_text(PARAMS)
    with within(tmp_path):
        yield tmp_path


@pytest.fixture
def run(folder, capsys) -> Callable[..., tuple[int, str]]:
    """Exit code and last message of a stage, or the log of one that ended well."""

    def stage(name: str, *chosen: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main([name, "--experiment", "tiny.yaml", *chosen])
        said = capsys.readouterr()
        return code, said.err.rpartition("error: ")[2] if code else said.out

    return stage


def prepare(run, *names: str) -> None:
    for name in names:
        assert run("prepare", "--data", name, "--workers", "1")[0] == 0


def file_in(folder: Path, data: str, name: str, split: str) -> Path:
    """The first file of a class that is in this split, of a data set as it is prepared."""
    pictures = {image.tobytes() for image in load_split(folder / f"results/tiny/data/{data}", split, [name]).images}
    files = sorted((folder / data / name).iterdir())
    return next(path for path in files if np.asarray(Image.open(path)).tobytes() in pictures)


def copy(folder: Path, run, one: Path, other: Path, data: str = "novel") -> None:
    """A data set holds a picture of the seen one, in the place of one of its own, and is prepared so."""
    shutil.copy(one, other)
    shutil.rmtree(folder / f"results/tiny/data/{data}")
    prepare(run, data)


def change(folder: Path, old: str, new: str) -> None:
    """In the params."""
    text = (folder / "tiny.yaml").read_text()
    assert text.count(old) == 1, old
    (folder / "tiny.yaml").write_text(text.replace(old, new))


def count_copies(folder: Path) -> None:
    change(folder, f"novel: {NOVEL}", f"novel: {NOVEL.removesuffix('}')}, copies_of_pretraining: count}}")


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Data sets whose images are read for copies, once for each time."""
    found = []

    def spied(path, *how, **more):
        found.append(Path(path).parent.name)
        return open(path, *how, **more)

    monkeypatch.setattr("kind.data.copies.open", spied, raising=False)
    return found


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
    assert "copies_of_pretraining" not in read_json(folder / "results/tiny/backbones/dense/pretrain.json")


def test_what_comes_out_knows_nothing_of_the_other_data_set(folder, run):
    """So that no result is made again for it; and as long as it is not prepared nothing is said."""
    model, record = (folder / "results/tiny/backbones/dense" / name for name in ("model.safetensors", "pretrain.json"))
    prepare(run, "seen")
    code, said = run("pretrain", "--backbone", "dense")
    assert code == 0 and "copies" not in said
    alone = sha256(model), read_json(record)["inputs"], read_json(record)["recipe_digest"]
    record.unlink()
    prepare(run, "novel")
    assert run("pretrain", "--backbone", "dense")[0] == 0
    assert (sha256(model), read_json(record)["inputs"], read_json(record)["recipe_digest"]) == alone
    assert set(load_arrays(folder / "results/tiny/data/novel/index.npz")) == {"labels", "splits"}


# --- counted --------------------------------------------------------------------------------------------------


def test_counted_it_stops_nothing_and_stands_in_logs_and_records(folder, run):
    count_copies(folder)
    prepare(run, "seen", "novel")
    records = [folder / "results/tiny" / name for name in ("backbones/dense/pretrain.json", "reference/novel.json")]
    model = folder / "results/tiny/backbones/dense/model.safetensors"
    assert run("pretrain", "--backbone", "dense")[0] == 0
    assert read_json(records[0])["copies_of_pretraining"] == {"novel": 0}
    without = sha256(model), read_json(records[0])["recipe_digest"]
    one, others = file_in(folder, "seen", "1", "train"), [folder / f"novel/8/{number}.png" for number in (2, 5)]
    shutil.copy(one, others[0])
    copy(folder, run, one, others[1])
    records[0].unlink()
    assert run("extractor")[0] == 0
    stages = ("pretrain", "--backbone", "dense"), ("reference", "--task", "novel")
    for stage, record in zip(stages, records, strict=True):
        code, said = run(*stage)
        assert code == 0
        note, *pairs = said[said.index("note: data.seen") :].splitlines()[:3]
        assert note == (
            "note: data.seen and data.novel hold the same picture 2 times, one that pre-training trains on; counted "
            "(data.novel.copies_of_pretraining)"
        )
        for pair, other in zip(pairs, others, strict=True):
            assert pair.startswith(f"  seen: 1/{one.name} (class '1', train), novel: 8/{other.name} (class '8', ")
        assert read_json(record)["copies_of_pretraining"] == {"novel": 2}
    assert (sha256(model), read_json(records[0])["recipe_digest"]) == without


# --- names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["one came before it", "it is another now", "it is no image now"])
def test_a_file_is_named_only_where_it_still_is_that_picture(folder, run, change):
    prepare(run, "seen", "novel")
    one, other = file_in(folder, "seen", "1", "train"), folder / "novel/8/4.png"
    copy(folder, run, one, other)
    if change == "one came before it":
        shutil.copy(folder / "seen/0/0.png", folder / "novel/8/00.png")
    elif change == "it is another now":
        shutil.copy(folder / "seen/0/0.png", other)
    else:
        other.write_bytes(b"text")
    code, said = run("pretrain", "--backbone", "dense")
    assert code == 2 and f"seen: 1/{one.name} (class '1', train), novel: image 14 (class '8', " in said


# --- what is read, and when -----------------------------------------------------------------------------------


def test_pretraining_is_read_once_for_all_data_sets_of_tasks(folder, run, opened):
    shutil.copytree(folder / "novel", folder / "more")
    change(folder, f"  novel: {NOVEL}", f"  novel: {NOVEL}\n  more: {DATA.format('more')}")
    change(folder, "tasks:\n", "tasks:\n  more: {data: more, classes: [7, 9]}\n")
    prepare(run, "seen", "novel", "more")
    one, other = file_in(folder, "seen", "1", "train"), file_in(folder, "more", "9", "test")
    copy(folder, run, one, other, "more")
    code, said = run("pretrain", "--backbone", "dense")
    assert code == 2 and "data.seen and data.more hold the same picture 1 times" in said
    assert sorted(opened) in (["more", "seen"], ["more", "novel", "seen"])
    copy(folder, run, folder / "novel/9" / other.name, other, "more")
    opened.clear()
    assert run("pretrain", "--backbone", "dense")[0] == 0
    assert sorted(opened) == ["more", "novel", "seen"]


def test_a_training_that_goes_on_asks_no_more_and_records_what_came_out_at_its_beginning(folder, run, opened):
    count_copies(folder)
    prepare(run, "seen", "novel")
    one, other = file_in(folder, "seen", "1", "train"), file_in(folder, "novel", "8", "test")
    copy(folder, run, one, other)
    assert run("pretrain", "--backbone", "dense", "--minutes", "1e-6")[0] == 75
    assert sorted(opened) == ["novel", "seen"]
    assert run("pretrain", "--backbone", "dense")[0] == 0
    assert sorted(opened) == ["novel", "seen"]
    assert read_json(folder / "results/tiny/backbones/dense/pretrain.json")["copies_of_pretraining"] == {"novel": 1}


@pytest.mark.parametrize("found", ["a state of other params", "a damaged note"])
def test_without_a_state_to_go_on_from_a_training_asks_again(folder, run, found):
    prepare(run, "seen", "novel")
    one, other = file_in(folder, "seen", "1", "train"), file_in(folder, "novel", "8", "test")
    assert run("pretrain", "--backbone", "dense", "--minutes", "1e-6")[0] == 75
    copy(folder, run, one, other)
    if found == "a damaged note":
        (folder / "results/tiny/state/pretrain/dense/copies.json").write_text("{")
    else:
        change(folder, "classes: [0, 1, 2], steps: 3", "classes: [0, 1, 2], steps: 4")
    code, said = run("pretrain", "--backbone", "dense")
    assert code == 2 and "data.seen and data.novel hold the same picture 1 times" in said


def test_of_processes_that_train_together_the_first_asks(folder, run, monkeypatch):
    prepare(run, "seen", "novel")
    copy(folder, run, file_in(folder, "seen", "1", "train"), file_in(folder, "novel", "8", "test"))
    context = read_context(Namespace(experiment="tiny.yaml", results="results"))
    job = Job({}, [], [], folder / "record.json", folder / "state")
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert copies_where_training_begins(context, job) == {}
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="hold the same picture 1 times"):
        copies_where_training_begins(context, job)


# --- what is not there, or not whole --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["index.npz", "manifest.json", "images.npy"])
def test_one_that_is_not_whole_gets_a_line_in_the_log_and_stops_nothing(folder, run, name):
    prepare(run, "seen", "novel")
    broken = folder / "results/tiny/data/novel" / name
    broken.write_bytes(broken.read_bytes()[:50])
    code, said = run("pretrain", "--backbone", "dense")
    (note,) = [line for line in said.splitlines() if "copies" in line]
    assert code == 0 and note.startswith(
        f"note: data.novel: not compared for copies with other data sets: results/tiny/data/novel/{name}: "
    )


def test_so_does_that_of_pretraining_where_a_reference_is_made(folder, run):
    prepare(run, "seen", "novel")
    (folder / "results/tiny/data/seen/images.npy").unlink()
    assert run("extractor")[0] == 0
    code, said = run("reference", "--task", "novel")
    assert code == 0 and "note: data.seen: not compared for copies with other data sets: results/tiny/data/" in said
