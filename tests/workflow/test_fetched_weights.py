"""Weights that others published, in the real graph."""

from __future__ import annotations

from kind.weights import WEIGHTS

TRAINED = "{type: trained, name: digits, steps: 60, batch_size: 32, learning_rate: 1.0e-2}"
OFFLINE = {"https_proxy": "http://127.0.0.1:9"} | {weights.variable: "" for weights in WEIGHTS.values()}


def test_weights_that_nobody_names_are_fetched_and_without_a_network_the_run_says_what_to_do(workspace):
    workspace.edit(TRAINED, "{type: inception}")
    run = workspace.snakemake("--until", "fetch", variables=OFFLINE)
    assert run.planned == {"fetch": 1} and run.code != 0
    assert "not reached ([Errno 111] Connection refused)" in run.output
    assert "weights_path, or name it in the variable KIND_INCEPTION, or run `python -m kind fetch" in run.output
    assert not list((workspace.folder / "weights" / "inception").glob("*"))
