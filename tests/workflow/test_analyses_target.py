"""The target `analyses` of the real Snakefile."""

from __future__ import annotations

import csv

import pytest

pytestmark = pytest.mark.workflow

SECTION = """analyses:
  weights: {}
  interference: {tasks: [novel, other], methods: {lora: {}}}
"""
OTHER = "  other: {data: digits, classes: [0, 1], images_per_class: 20}\n"


def test_analyses_need_what_was_trained_and_no_samples(workspace):
    workspace.edit("classes: [0, 1, 2, 3, 4, 5, 6]", "classes: [2, 3, 4, 5, 6]")
    workspace.edit("finetune:", f"{OTHER}finetune:")
    workspace.edit("evaluation:", f"{SECTION}evaluation:")
    run = workspace.snakemake("--dry-run", "analyses")
    assert run.code == 0, run.output
    assert run.planned == {
        "prepare": 1, "pretrain": 2, "extract": 1, "finetune": 4, "analyse_weights": 2, "analyse_interference": 1,
        "analyses": 1,
    }  # fmt: skip
    whole = workspace.snakemake("--dry-run")
    assert (
        whole.planned["analyse_weights"] == 2 and whole.planned["analyse_interference"] == whole.planned["report"] == 1
    )


def test_bounds_and_components_are_added_to_a_finished_experiment(copied):
    """Through the real graph: nothing is trained or drawn again."""
    copied.edit("evaluation:", "analyses: {bounds: {}, components: {num_permutations: 99}}\nevaluation:")
    run = copied.snakemake()
    assert run.code == 0, run.output
    assert run.planned == {"analyse_bounds": 1, "analyse_components": 1, "report": 1, "all": 1}
    with open(copied.results / "analyses" / "bounds_novel.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["what"], row["backbone"], row["num_samples"]) for row in rows] == [
        (what, backbone, count)
        for what, backbone in (("real", ""), ("untouched", "dense"), ("untouched", "kind"))
        for count in ("60", "40")
    ]
    assert all(row["fd_digits_60_vs_60" if row["num_samples"] == "60" else "fd_digits_40_vs_60"] for row in rows)
    page = (copied.results / "report" / "index.html").read_text()
    assert "Bounds on novel" in page and "What the components of kind draw" in page
    assert "Nothing to be done" in copied.snakemake("--dry-run").output


def test_to_ask_for_analyses_where_there_are_none_is_one_message(workspace):
    run = workspace.snakemake("--dry-run", "analyses")
    assert run.code == 2, run.output
    assert (
        "error: params/mini.yaml: no params file has an `analyses` section\n  -> docs/analyses.md shows one"
        in run.output
    )
    assert "Traceback" not in run.output
