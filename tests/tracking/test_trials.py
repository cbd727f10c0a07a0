"""Trials of learning rates are no entries of the index; the rate that they chose is the run's."""

from __future__ import annotations

from pathlib import Path

from kind import recipes
from kind.layout import Layout
from kind.params.file import load_experiment
from kind.tracked.reader import Reader, run_params

TUNED = Path(__file__).parents[1] / "workflow" / "tuned.yaml"


def test_mlflow_is_told_of_runs_and_not_of_trials(tmp_path):
    experiment = load_experiment(TUNED)
    keys = Reader(experiment, Layout(tmp_path)).keys()
    assert {key for key in keys if key.startswith("run/")} == {
        f"run/novel/{method}/1" for method in ("kind", "lora", "lt-sft", "bitfit")
    }


def test_a_run_shows_the_rate_that_was_chosen():
    recipe = recipes.finetune(load_experiment(TUNED), "novel", "lora", 1)
    assert recipe["finetune"]["learning_rate"] is None
    shown = run_params({"finetune": {"recipe": recipe, "training": {"learning_rate": 0.02}}})
    assert (shown["learning_rate"], shown["rank"]) == (0.02, 3)
    assert run_params({"finetune": {"recipe": recipe}})["learning_rate"] is None, "it is training"
