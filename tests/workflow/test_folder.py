"""params/folder.yaml, which is there to be copied: on pictures in class folders, to the report."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
from PIL import Image
from workspace import ROOT, new_workspace

from kind.artifacts import read_json
from kind.params.file import load_experiment

CLASSES = ("cat", "cow", "dog", "horse", "fox", "sheep")
METHODS = ("kind", "full", "lora", "scratch")
SEEDS = 2
RUNS = len(METHODS) * SEEDS
SHORT = """
extends: folder.yaml
tasks: {novel: {images_per_class: 10}}
pretrain: {steps: 6, warmup_steps: 2, batch_size: 16}
finetune: {steps: 4, warmup_steps: 1, batch_size: 8}
sampling: {num_inference_steps: 2, num_samples: 20, batch_size: 20}
evaluation: {extractor: {steps: 5, batch_size: 8}}
"""
ON_A_GPU = """
extends: folder.yaml
without: [model.width, model.patch_size]
model: {preset: S/2}
backbones: {kind: {num_learngenes: 256, num_tailors: 32}}
methods: {kind: {num_tailors: 32}}
"""


@pytest.fixture
def workspace(tmp_path):
    found = new_workspace(tmp_path / "work")
    shutil.copy(ROOT / "params" / "folder.yaml", found.folder / "params")
    return found


@pytest.mark.slow
def test_a_folder_of_pictures_becomes_a_report(workspace):
    draws = np.random.default_rng(0)
    for name in CLASSES:
        folder = workspace.folder / "datasets" / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(20):
            picture = Image.fromarray(draws.integers(0, 256, (40 + number, 48, 3), dtype=np.uint8))
            picture.save(folder / f"{number:04}.jpg")
    (workspace.folder / "datasets/pictures/fox/bad.jpg").write_bytes(b"no picture")
    (workspace.folder / "params/short.yaml").write_text(SHORT)
    run = workspace.snakemake(experiment="params/short.yaml")
    assert run.code == 0, run.output
    assert run.planned == {
        "all": 1, "prepare": 1, "extractor": 1, "reference": 1, "pretrain": 2, "extract": 1,
        "finetune": RUNS, "sample": RUNS, "evaluate": RUNS, "report": 1,
    }  # fmt: skip
    results = workspace.folder / "results" / "short"
    assert read_json(results / "data/pictures/manifest.json")["bad"].keys() == {"fox/bad.jpg"}
    with open(results / "report/metrics.csv") as handle:
        rows = list(csv.DictReader(handle))
    assert sorted((row["method"], row["seed"]) for row in rows) == sorted(
        (method, str(seed)) for method in METHODS for seed in range(SEEDS)
    )
    assert all(float(row["fd_pictures_20_vs_8"]) > 0 for row in rows)
    assert "fox" in (results / "report/index.html").read_text()


def test_what_it_says_of_a_larger_model_fits_the_model(workspace):
    """All components of a matrix belong to a class or to all."""
    (workspace.folder / "params/large.yaml").write_text(ON_A_GPU)
    for name, width, tokens in (("folder", 96, 8 * 8), ("large", 384, 16 * 16)):
        experiment = load_experiment(workspace.folder / f"params/{name}.yaml")
        shape, kind = experiment.model.shape(), experiment.backbones["kind"]
        side = experiment.data["pictures"].options["size"] // shape.patch_size
        assert (shape.width, side * side) == (width, tokens)
        assert kind.num_learngenes + len(experiment.pretrain.classes) * kind.num_tailors == width
