"""Names of classes and paths that a shell, Snakemake, Markdown, LaTeX or a page would take for more than data."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from html import escape
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from kind.artifacts import read_header
from kind.reporting.grids import make_panel, write_grid
from kind.reporting.tables import escape_latex, escape_markdown

ROOT = Path(__file__).resolve().parents[2]
SEEN = ["a b", "$(touch canary)", "; touch canary #"]
NOVEL = [
    "-rf",
    "--help",
    'it\'s "quoted"',
    "`touch canary`",
    "'; touch canary; '",
    "two\nlines",
    "\u202eright to left",
    "\u05e9\u05dc\u05d5\u05dd \U0001f600",
    "<script>alert(1)<br>",
    "100% {sample}_{{seed}} \\input{x} $x^2$ & ~ | *b* [a](b)",
    "x" * 200,
]
PARAMS = {
    "seeds": [0],
    "compute": {"device": "cpu", "workers": 1, "threads": 1},
    "data": {
        "odd": {
            "source": "folder",
            "options": {"path": "odd 'pictures' & \"more\"", "size": 8},
            "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
        }
    },
    "model": {"preset": "micro/2"},
    "backbones": {"kind": {"form": "kind", "num_learngenes": 20, "num_tailors": 4}},
    "pretrain": {"data": "odd", "classes": SEEN, "steps": 3, "batch_size": 8, "learning_rate": 1.0e-3},
    "tasks": {"novel": {"data": "odd", "classes": NOVEL}},
    "finetune": {"steps": 3, "batch_size": 8, "learning_rate": 1.0e-3},
    "methods": {"kind": {"num_tailors": 2}},
    "sampling": {"sampler": "ddim", "num_inference_steps": 2, "num_samples": 33, "batch_size": 33},
    "evaluation": {"extractor": {"type": "trained", "name": "odd", "steps": 5, "batch_size": 8, "feature_dim": 4}},
}


def make_pictures(folder: Path) -> None:
    draws = np.random.default_rng(0)
    for name in (*SEEN, *NOVEL):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / name / f"{number}.png")


@pytest.mark.slow
def test_odd_names_go_through_the_whole_pipeline_as_data(tmp_path):
    work = tmp_path / "work; touch canary; 'it' \"is\" $HOME"
    params, results = work / "my \"odd\" params; touch 'canary'" / "names.yaml", "my 'x' results $(touch canary) ok"
    params.parent.mkdir(parents=True)
    params.write_text(yaml.safe_dump(PARAMS, allow_unicode=True), encoding="utf-8")
    make_pictures(work / PARAMS["data"]["odd"]["options"]["path"])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KIND_TRACKING": "off", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [
            sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--profile", ROOT / "local",
            "--directory", work, "--config", f"experiment={params.relative_to(work)}", f"results={results}",
        ],
        cwd=work, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    check_results(work / results / "names")
    told = subprocess.run(  # not in that folder: MLflow's own SQL stumbles over a quote in the path of its store
        [sys.executable, "-m", "kind", "track", "--experiment", str(params), "--results", str(work / results)],
        cwd=tmp_path, env=environment | {"KIND_TRACKING": "", "MLFLOW_TRACKING_URI": "sqlite:///runs.db"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert not list(tmp_path.rglob("canary*")) and not (ROOT / "canary").exists(), "a name was run"


def check_results(results: Path) -> None:
    metrics = json.loads((results / "runs/novel/kind/seed_0/metrics.json").read_text())
    assert {f"odd/{name}" for name in NOVEL} == metrics["per_class"].keys()
    manifest = json.loads((results / "data/odd/manifest.json").read_text())
    assert sorted(manifest["classes"]) == sorted([*SEEN, *NOVEL])
    assert read_header(results / "backbones/kind/model.safetensors")["classes"] == SEEN
    with open(results / "report/summary/classes.csv", newline="") as handle:
        assert {row["class"].removeprefix("odd/") for row in csv.DictReader(handle)} == set(NOVEL)
    page = (results / "report/index.html").read_text()
    assert "<script>alert(1)" not in page and escape("<script>alert(1)<br>") in page


@pytest.mark.parametrize("name", [*SEEN, *NOVEL])
def test_grids_draw_names(tmp_path, name):
    images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 0, 1])
    panels = [make_panel(title, [(images, labels)], [name, "other"]) for title in ("real", name)]
    write_grid(tmp_path / "grid.png", "experiment: task", panels, [name, "other"])
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", [*SEEN, *NOVEL])
def test_tables_hold_names_as_text(name):
    """One line, one cell, and nothing that LaTeX or Markdown would take for a command."""
    latex, markdown = escape_latex(name), escape_markdown(name)
    assert "\n" not in latex and "\n" not in markdown
    bare = latex.replace(r"\textbackslash{}", "").replace(r"\textasciitilde{}", "").replace(r"\textasciicircum{}", "")
    assert not any(character in bare.replace(f"\\{character}", "") for character in "%&#_$~^"), latex
    assert "<script" not in markdown and "|" not in markdown.replace("\\|", "")
