"""A factorized backbone may begin with the weights of a trained dense one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from kind.artifacts import load_tensors, read_json
from kind.checkpoints import load_backbone
from kind.models.factorized import factorized_layers


def test_the_components_of_the_start_are_those_of_the_trained_dense_backbone(tiny, tmp_path):
    folder = tmp_path / "work"
    shutil.copytree(tiny.folder, folder)
    params = (folder / "tiny.yaml").read_text()
    params = params.replace("learning_rate: 1.0e-3, ema", "learning_rate: 1.0e-12, ema")  # as good as not trained
    params = params.replace(
        "  kind: {form: kind,",
        "  svd: {form: kind, num_learngenes: 20, num_tailors: 4, start: dense}\n  kind: {form: kind,",
    )
    (folder / "tiny.yaml").write_text(params)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "kind", "pretrain", "--experiment", "tiny.yaml", "--backbone", "svd"]
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=300)
    results = folder / tiny.results.relative_to(tiny.folder)
    dense, _ = load_tensors(results / "backbones/dense/model.safetensors")
    loaded = load_backbone(results / "backbones/svd/model.safetensors")
    for name, layer in factorized_layers(loaded.model):
        u, s, v = (
            torch.cat([getattr(layer, f"learngene_{end}"), getattr(layer, f"tailor_{end}")]).detach() for end in "usv"
        )
        torch.testing.assert_close((u.T * s) @ v, dense[f"{name}.weight"], rtol=0, atol=1e-5)
    torch.testing.assert_close(loaded.model.proj_out_2.weight.detach(), dense["proj_out_2.weight"])
    record = read_json(results / "backbones/svd/pretrain.json")
    assert record["recipe"]["backbone"]["start"] == "dense"
    assert any(name.endswith("dense/model.safetensors") for name in record["inputs"])
