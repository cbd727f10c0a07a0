"""Where weights that others published are looked for, and what is said where they are not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kind.weights import WEIGHTS

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """An empty working folder, and no variable set."""
    monkeypatch.chdir(tmp_path)
    for weights in WEIGHTS.values():
        monkeypatch.delenv(weights.variable, raising=False)


def put(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def test_the_params_come_before_the_variable_and_the_variable_before_what_was_fetched(monkeypatch):
    put(f"weights/inception/{INCEPTION}", "by_variable", "by_params")
    inception = WEIGHTS["inception"]
    assert inception.place().path == Path(f"weights/inception/{INCEPTION}") and inception.place().said_by is None
    monkeypatch.setenv("KIND_INCEPTION", "")  # empty is not set
    assert inception.place().said_by is None
    monkeypatch.setenv("KIND_INCEPTION", "by_variable")
    assert (inception.place().path, inception.place().said_by) == (Path("by_variable"), "KIND_INCEPTION")
    named = inception.place("by_params")
    assert (named.path, named.said_by) == (Path("by_params"), "evaluation.extractor.weights_path")
    assert named.problem() is None and inception.place().problem() is None


def test_what_is_named_and_not_there_is_a_problem_whatever_else_there_is(monkeypatch):
    put(f"weights/inception/{INCEPTION}", "by_variable")
    monkeypatch.setenv("KIND_INCEPTION", "by_variable")
    inception = WEIGHTS["inception"]
    assert inception.place("gone").problem() == "evaluation.extractor.weights_path: gone does not exist"
    monkeypatch.setenv("KIND_INCEPTION", "gone")
    assert inception.place().problem() == "KIND_INCEPTION: gone does not exist"
    monkeypatch.setenv("KIND_INCEPTION", "weights")
    assert inception.place().problem() == "KIND_INCEPTION: weights is a folder"


def test_weights_of_several_files_are_a_folder(monkeypatch):
    dinov2 = WEIGHTS["dinov2"]
    assert dinov2.place().files == [Path("weights/dinov2/config.json"), Path("weights/dinov2/model.safetensors")]
    put("weights/dinov2/config.json", "file")
    neither = "dinov2 weights, which are neither named nor fetched"
    assert dinov2.place().problem() == f"{neither}: weights/dinov2 has no model.safetensors"
    assert dinov2.place("file").problem() == "evaluation.extractor.weights_path: file is no folder"
    put("weights/dinov2/model.safetensors")
    assert dinov2.place().problem() is None


def test_every_network_has_its_own_place_and_variable_and_no_pickle_but_inceptions():
    assert len({weights.variable for weights in WEIGHTS.values()}) == len(WEIGHTS)
    for weights in WEIGHTS.values():
        assert re.fullmatch("KIND_[A-Z0-9_]+", weights.variable) and weights.variable in weights.ways
        for file in weights.files:
            assert file.url.startswith("https://") and file.url.endswith(f"/{file.name}")
            assert Path(file.name).suffix in (".json", ".safetensors") or weights.name == "inception"
            assert file.sha256 in file.name, "a hash is written only where its publisher says it"
