"""Open learning rates and a matched size through the real Snakefile: tests/workflow/tuned.yaml."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest
from workspace import Workspace

from kind.artifacts import read_json
from kind.layout import Layout

TUNED = Path(__file__).with_name("tuned.yaml")


@pytest.fixture
def tuned(tmp_path) -> Workspace:
    """A working folder with tuned.yaml in the place of mini.yaml."""
    (tmp_path / "params").mkdir()
    shutil.copy(TUNED, tmp_path / "params" / "mini.yaml")
    return Workspace(tmp_path)


def test_trials_come_before_the_choice_and_the_choice_before_the_runs(tuned):
    run = tuned.snakemake("--dry-run")
    assert run.code == 0, run.output
    jobs = {
        "prepare": 1,
        "extractor": 1,
        "reference": 2,
        "pretrain": 2,
        "extract": 1,
        "choose": 3,
        "analyse_guidance": 1,
        "report": 1,
        "all": 1,
    }
    assert run.planned == jobs | dict.fromkeys(("finetune", "sample", "evaluate"), 6 + 4)
    for place in ("practice with lora@1, seed 0", "practice with kind@2, seed 0", "novel with lora, seed 1"):
        assert f"finetune {place}" in run.output
    assert "practice with bitfit" not in run.output and "seed 1" not in run.output.partition("novel with")[0]


def chosen_rate(layout: Layout, method: str) -> float:
    return read_json(layout.tuned_rate(method))["learning_rate"]


@pytest.mark.slow
def test_a_run_ends_with_chosen_rates_in_records_and_report(tuned):
    run = tuned.snakemake()
    assert run.code == 0, run.output
    layout, of_all = Layout(tuned.results), (1.0e-3, 1.0e-1)
    rates = {"kind": of_all, "lora": (2.0e-4, 2.0e-2), "lt-sft": of_all}
    for method, tried in rates.items():
        values = []
        for number, rate in enumerate(tried, 1):
            metrics = read_json(layout.metrics(layout.run("practice", f"{method}@{number}", 0)))
            assert metrics["training"]["learning_rate"] == rate
            assert metrics["protocol"]["reference"]["set"] == "validation" and metrics["final_step"] == 4
            values.append(metrics["values"]["fd_digits_40_vs_36"])
        best = tried[values.index(min(values))]
        assert read_json(layout.tuned(method))["learning_rate"] == best
        training = read_json(layout.metrics(layout.run("novel", method, 1)))["training"]
        assert (training["learning_rate"], training["learning_rate_from"]) == (best, f"tuning/{method}.rate.json")
    assert "learning_rate_from" not in read_json(layout.metrics(layout.run("novel", "bitfit", 1)))["training"]

    guided = {(row["method"], row["guidance_scale"]): row for row in csv.DictReader(layout.guidance_table.open())}
    assert set(guided) == {(method, scale) for method in rates for scale in ("1.0", "1.5")}
    for method, tried in rates.items():
        number = tried.index(chosen_rate(layout, method)) + 1
        values = read_json(layout.metrics(layout.run("practice", f"{method}@{number}", 0)))["values"]
        row = guided[method, "1.0"]
        assert float(row["learning_rate"]) == tried[number - 1]
        assert {name: float(row[name]) for name in values if values[name] is not None} == {
            name: value for name, value in values.items() if value is not None
        }

    trained = {}
    for method in ("lora", "kind"):
        sizes = read_json(layout.metrics(layout.run("novel", method, 1)))["parameters"]
        trained[method] = sizes["trainable"] - sizes["trainable_label_table"]
    (matched,) = csv.DictReader((layout.report / "summary" / "matches.csv").open())
    assert float(matched["parameters.mean"]) == trained["lora"] and float(matched["target.mean"]) == trained["kind"]

    rows = list(csv.DictReader((layout.report / "metrics.csv").open()))
    assert {(row["task"], row["method"], row["seed"]) for row in rows} == {
        ("novel", method, "1") for method in ("kind", "lora", "lt-sft", "bitfit")
    }, "no trial is in a table of results"
    page = (layout.report / "index.html").read_text()
    assert "Learning rates" in page and "that was tried; a better one may lie beyond" in page
    assert "Guidance on practice" in page and (layout.report_plots / "guidance_practice.svg").is_file()
    assert "Sizes that were matched" in page and "Own rate, 0 trials: bitfit (0.001)." in page
    chosen = {method: chosen_rate(layout, method) for method in rates}
    assert "Nothing to be done" in tuned.snakemake("--dry-run").output
    tuned.edit("  steps: 4", "  steps: 4\n  metric: kd")
    again = tuned.snakemake()
    changed = {method for method in rates if chosen_rate(layout, method) != chosen[method]}
    assert again.code == 0 and again.output.count("choose the learning rate of") == 3
    for stage in ("finetune", "sample", "evaluate"):
        made = set(re.findall(rf": {stage} novel (?:with|by) (\S+),", again.output))
        assert made == changed, "what was trained at the same rate is not made again"
    tuned.edit("[2.0e-4, 2.0e-2]", "[2.0e-4, 3.0e-2]")
    again = tuned.snakemake("--dry-run")
    assert again.planned == {
        "finetune": 2, "sample": 2, "evaluate": 2, "choose": 1, "analyse_guidance": 1, "report": 1, "all": 1,
    }  # fmt: skip
