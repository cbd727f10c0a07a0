"""The real number of classes through the whole pipeline: 150 for pre-training, novel ones and a shift, by name."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from workspace import new_workspace

from kind.data.prepared import read_manifest
from kind.layout import Layout
from kind.params.file import load_experiment

GLYPHS = Path(__file__).with_name("glyphs_tiny.yaml")


@pytest.mark.slow
def test_611_classes_through_every_stage(tmp_path):
    workspace = new_workspace(tmp_path / "work")
    run = workspace.snakemake(experiment=str(GLYPHS))
    assert run.code == 0, run.output
    layout, experiment = Layout(workspace.folder / "results" / "glyphs_tiny"), load_experiment(GLYPHS)
    manifest = read_manifest(layout.data("glyphs"))
    assert len(manifest["classes"]) == 611 and sum(manifest["counts"]["train"].values()) == 611 * 4
    assert len(experiment.pretrain.classes) == len(list(layout.tailor_folder("kind").glob("*.safetensors"))) == 150
    with open(layout.report / "metrics.csv") as handle:
        rows = list(csv.DictReader(handle))
    assert {(row["task"], row["method"]) for row in rows} == {
        (t, m) for t in ("novel", "script") for m in ("kind", "lora")
    }
    fd = next(name for name in rows[0] if name.startswith("fd_glyphs"))
    assert all(float(row[fd]) > 0 for row in rows)

    for task in ("novel", "script"):
        with open(layout.bounds_table(task)) as handle:
            real, dense, kind = csv.DictReader(handle)
        assert float(real[fd]) < float(dense[fd]) and float(real[fd]) < float(kind[fd])
    with open(layout.component_files()[1]) as handle:
        assert sum(1 for _ in csv.DictReader(handle)) == 150 * 149 // 2

    page = (layout.report / "index.html").read_text()
    pretraining, novel = experiment.pretrain.classes, experiment.tasks["novel"].classes
    assert f"all 150 classes of the set seen: {', '.join(pretraining[:12])} and 138 more" in page
    assert f"20 of the 461 classes of the set novel: {', '.join(novel[:12])} and 8 more" in page
    assert f"{pretraining[20]}, {pretraining[21]}, {pretraining[22]}" not in page, "the whole list"
    again = workspace.snakemake("-n", experiment=str(GLYPHS))
    assert "Nothing to be done" in again.output
