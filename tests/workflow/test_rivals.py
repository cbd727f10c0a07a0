"""Every method through the whole pipeline: params/rivals.yaml, with the real Snakefile."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from workspace import new_workspace

from kind.layout import Layout
from kind.methods import METHODS
from kind.params.file import load_experiment

RIVALS = Path(__file__).resolve().parents[2] / "params" / "rivals.yaml"


def test_rivals_names_every_method():
    rivals = load_experiment(RIVALS)
    assert {rivals.method_name(label) for label in rivals.methods} == set(METHODS)


@pytest.mark.slow
def test_every_method_ends_in_the_table(tmp_path):
    workspace = new_workspace(tmp_path / "work")
    run = workspace.snakemake(experiment=str(RIVALS))
    assert run.code == 0, run.output
    layout = Layout(workspace.folder / "results" / "rivals")
    with open(layout.report / "metrics.csv") as handle:
        rows = {row["method"]: row for row in csv.DictReader(handle)}
    assert set(rows) == set(load_experiment(RIVALS).methods)
    assert int(rows["divgate-zero-shot"]["parameters_trainable"]) == 0
    whole, half, dense = (
        int(rows[name]["parameters_deployed"]) for name in ("recombined", "recombined-50", "svd-pruned")
    )
    held = (36 + 3 * 4) * 4 * (4 * 129 + 2 * 321)  # of the components of three classes in four blocks of width 64
    assert whole - half == pytest.approx(held // 2, abs=321) and dense == pytest.approx(half, abs=2 * 321)
    fd = next(name for name in rows["full"] if name.startswith("fd_digits"))
    assert all(float(row[fd]) > 0 for row in rows.values())
    assert float(rows["full"][fd]) < float(rows["label-table"][fd]), "the floor"
