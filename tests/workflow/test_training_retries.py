"""How often Snakemake tries a training again, and what it costs where that cannot help."""

from __future__ import annotations

import pytest

from kind.artifacts import read_json

pytestmark = pytest.mark.slow


def test_training_in_two_slices_is_tried_again_four_times_and_a_divergence_is_not_computed_again(workspace):
    workspace.edit("checkpoint_seconds: 0.001", "checkpoint_seconds: 0.001, slices: 2")
    workspace.edit("steps: 20, batch_size: 16, learning_rate: 1.0e-3, log_every: 5}\ntasks",
                   "steps: 20, batch_size: 16, learning_rate: 1.0e+38, log_every: 5}\ntasks")  # fmt: skip
    run = workspace.snakemake("results/mini/backbones/dense/model.safetensors")
    assert run.code == 1 and run.output.count("Trying to restart job") == 4, run.output
    state = workspace.results / "state" / "pretrain" / "dense"
    failure = read_json(state / "failed.json")
    log = (workspace.results / "logs" / "pretrain" / "dense.log").read_text()
    assert log.endswith(f"error: {failure['message']}\n") and "resuming" not in log, "of the last attempt"
    assert not (workspace.results / "backbones" / "dense" / "model.safetensors").exists()
