"""A folder of image files from `prepare` to a backbone, in memory and from disk."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tiny_experiment import TINY, within

from kind.__main__ import main
from kind.artifacts import read_json, sha256
from kind.stages import training_job


@pytest.fixture
def folder(tmp_path):
    draws = np.random.default_rng(0)
    for number in range(50):
        path = tmp_path / "pictures" / str(number % 10) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (11, 9, 3), dtype=np.uint8)).save(path)
    options = "{path: pictures, size: 8, classes: [0, 1, 2, 7, 8]}"
    changed = TINY.replace(
        "{source: digits, split: {train: 0.5, validation: 0.1, test: 0.4}}",
        f"{{source: folder, options: {options}, split: {{train: 0.6, validation: 0.2, test: 0.2}}}}",
    )  # noqa: E501
    assert changed != TINY
    (tmp_path / "tiny.yaml").write_text(changed)
    with within(tmp_path):
        yield tmp_path


def run(stage, *chosen):
    return main([stage, "--experiment", "tiny.yaml", *chosen])


def test_a_backbone_trained_from_disk_is_the_one_trained_in_memory(folder, monkeypatch):
    assert run("prepare", "--data", "digits") == 0
    results = folder / "results" / "tiny"
    assert not (results / "state" / "prepare" / "digits").exists()
    assert read_json(results / "data/digits/manifest.json")["image_shape"] == [8, 8, 3]
    model, sums = results / "backbones/dense/model.safetensors", []
    for limit in (2**30, 0):
        monkeypatch.setattr(training_job, "RESIDENT_BYTES", limit)
        (results / "backbones/dense/pretrain.json").unlink(missing_ok=True)
        assert run("pretrain", "--backbone", "dense") == 0
        sums.append(sha256(model))
    assert sums[0] == sums[1]


def test_a_finished_preparation_is_left_alone_and_one_without_its_record_made_again(folder, capsys):
    assert run("prepare", "--data", "digits", "--workers", "1") == 0
    before = {path.name: sha256(path) for path in (folder / "results/tiny/data/digits").glob("i*.np*")}
    assert run("prepare", "--data", "digits") == 0 and "already done" in capsys.readouterr().err
    (folder / "results/tiny/data/digits/prepare.json").unlink()
    assert run("prepare", "--data", "digits") == 0 and "already done" not in capsys.readouterr().err
    assert {path.name: sha256(path) for path in (folder / "results/tiny/data/digits").glob("i*.np*")} == before
