"""An experiment in latents, with the real Snakefile: from image files and a VAE to the report."""

from __future__ import annotations

import csv

import pytest
from workspace import new_workspace

from kind.artifacts import read_json

RUNS = 3


@pytest.mark.slow
def test_latents_from_images_to_the_report(tmp_path, latents_in):
    workspace = new_workspace(tmp_path / "work")
    params, text = workspace.folder / "params" / "lat.yaml", latents_in(workspace.folder)
    text = text.replace(", replayed: {method: full, objective: diff-tuning}", "")
    params.write_text(text.replace("vae: vae, ", ""))
    planned = workspace.snakemake("-n", experiment="params/lat.yaml").planned
    assert planned["fetch"] == 2 and planned["encode"] == 1, "a VAE that nobody names is fetched"

    params.write_text(text)
    run = workspace.snakemake(experiment="params/lat.yaml")
    assert run.code == 0, run.output
    assert run.planned == {
        "all": 1, "prepare": 1, "encode": 1, "extractor": 1, "reference_without_judge": 1, "pretrain": 2, "extract": 1,
        "finetune": RUNS, "sample": RUNS, "evaluate": RUNS, "report": 1,
    }  # fmt: skip
    results = workspace.folder / "results" / "lat"
    with open(results / "report" / "metrics.csv") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["method"] for row in rows} == {"full", "kind", "lora"}
    assert all(float(row["fd_pictures_12_vs_6"]) > 0 for row in rows) and not [key for key in rows[0] if "svc" in key]
    page = (results / "report" / "index.html").read_text()
    assert "<strong>Judge.</strong>" not in page and "Distance to the training images" not in page
    assert not list(results.rglob("*.judge.npz"))
    assert "Nothing to be done" in workspace.snakemake(experiment="params/lat.yaml").output

    # another scale: what is prepared and extracted from pixels stays, the rest is made again
    params.write_text(text.replace("scale: 0.5", "scale: 0.25"))
    planned = workspace.snakemake("-n", experiment="params/lat.yaml").planned
    assert planned["encode"] == 1 and planned["pretrain"] == 2 and planned["finetune"] == RUNS
    assert not planned["prepare"] and not planned["extractor"] and not planned["reference_without_judge"]

    record = read_json(results / "runs/novel/kind/seed_0/sample.json")
    assert [name for name in record["inputs"] if name.endswith("vae/diffusion_pytorch_model.safetensors")]
