"""The comparison within a budget, and the tables of what was chosen, on a synthetic experiment."""

from __future__ import annotations

import csv
import statistics
from dataclasses import replace

import pytest
import synthetic_experiment as synthetic
import yaml

from kind.artifacts import read_json, write_json
from kind.params.match import Match
from kind.reporting.budgets import Budget, as_text, direction_of, standings
from kind.reporting.choices import load_choices, match_table, tuning_table
from kind.reporting.labels import MISSING
from kind.reporting.runs import load_runs
from kind.reporting.tables import csv_rows

CURVE_FD = "fd_digits_200_vs_180"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthetic.write_experiment(tmp_path_factory.mktemp("results") / "smoke")


@pytest.fixture(scope="module")
def runs(folder):
    return load_runs(folder, synthetic.TASKS, synthetic.METHODS, synthetic.SEEDS)


def novel(runs, metric=None, **limits):
    return {one.method: one for one in next(standings(runs, Budget(**limits), metric))}


def at(folder, method, step, name=CURVE_FD):
    files = [folder / f"runs/novel/{method}/seed_{seed}/metrics.json" for seed in synthetic.SEEDS]
    return [read_json(path)["steps"][str(step)]["values"][name] for path in files]


@pytest.mark.parametrize("limit, step", [(None, 300), (300, 300), (299, 225), (160, 150), (75, 75)])
def test_the_last_point_within_so_many_steps_counts(folder, runs, limit, step):
    found = novel(runs, steps=limit)
    assert {one.step for one in found.values()} == {step}
    for method, one in found.items():
        values = at(folder, method, step)
        assert one.mean == pytest.approx(statistics.fmean(values)) and one.std == pytest.approx(
            statistics.stdev(values)
        )
        assert (one.metric, one.parameters) == (CURVE_FD, synthetic.TRAINABLE[method])


def test_methods_are_in_order_and_those_without_a_point_are_last(runs):
    assert list(novel(runs)) == ["kind", "full", "lora", "scratch"], "as their quality is"
    assert list(novel(runs, metric="precision")) == ["kind", "full", "lora", "scratch"], "higher is better"
    found = novel(runs, parameters=31_000)
    assert list(found) == ["kind", "lora", "full", "scratch"]
    assert [one.step for one in found.values()] == [300, 300, None, None]
    assert all(one.step is None for one in novel(runs, steps=74).values())


def test_a_point_has_its_share_of_the_training_time_in_every_seed(folder, runs):
    whole = {
        method: [read_json(folder / f"runs/novel/{method}/seed_{seed}/cost.json")["train_seconds"] for seed in (0, 1)]
        for method in synthetic.METHODS
    }
    limit = 0.75 * statistics.fmean(max(seconds) for seconds in whole.values())
    for method, one in novel(runs, seconds=limit).items():
        steps = [step for step in synthetic.STEPS if all(seconds * step / 300 <= limit for seconds in whole[method])]
        assert one.step == max(steps)
        assert one.seconds == pytest.approx(statistics.fmean(whole[method]) * one.step / 300)


def test_every_task_is_compared_and_read_as_text(runs):
    budget = Budget(steps=200, parameters=31_000, seconds=90.0)
    first, second = standings(runs, budget)
    assert {one.task for one in second} == {"shift"}
    lines = as_text(first, direction_of(runs, first[0].metric), budget).splitlines()
    assert lines[0] == (
        f"novel: Fréchet distance ↓, {CURVE_FD}; at most 200 steps, 31,000 trainable parameters, 90 s of training"
    )
    assert lines[1].split() == ["method", "value", "seeds", "step", "trainable", "seconds"]
    assert [line.split()[0] for line in lines[2:4]] == ["kind", "lora"] and " ± " in lines[2] and "24.8 k" in lines[2]
    assert lines[4:] == ["  no point within the budget: full, scratch"]
    assert as_text(first, None, Budget()).splitlines()[0].endswith("; no limits")


def untrained(run):
    return replace(run, metrics=run.metrics | {"final_step": 0, "steps": {"0": run.metrics["steps"]["300"]}})


def test_where_nothing_is_trained_deployed_parameters_count(runs):
    budget = Budget(parameters=200_000)
    (found,) = standings([untrained(run) for run in runs if run.task == "novel"], budget)
    assert [(one.method, one.step) for one in found] == [("kind", 0), ("full", None), ("lora", None), ("scratch", None)]
    assert (found[0].parameters, {one.counted for one in found}) == (187_200, {"deployed"})
    lines = as_text(found, "lower", budget).splitlines()
    assert lines[0].endswith(
        "at most 200,000 deployed parameters; nothing is trained: parameters are the deployed ones"
    )
    assert lines[1].split()[4] == "deployed" and "187 k" in lines[2]


def test_the_command_prints_the_tables_and_writes_them(tmp_path, capsys, monkeypatch, valid_params):
    from kind.__main__ import main

    for library in ("OMP", "OPENBLAS", "MKL"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")
    (tmp_path / "small.yaml").write_text(valid_params)
    synthetic.write_experiment(tmp_path / "results" / "small", seeds=[0, 1])
    shared = ["compare", "--experiment", str(tmp_path / "small.yaml"), "--results", str(tmp_path / "results")]
    assert main([*shared, "--parameters", "31k", "--metric", "kd", "--csv", str(tmp_path / "table.csv")]) == 0
    said = capsys.readouterr().out
    assert "novel: Kernel distance ↓" in said and "no point within the budget: full, scratch" in said
    assert "Seconds: a point's share of its run's training time" in said
    with open(tmp_path / "table.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["method"] for row in rows] == ["kind", "lora", "full", "scratch"] * 2
    assert rows[0]["task"] == "novel" and float(rows[0]["parameters"]) == 24_832 and rows[2]["step"] == ""
    assert "trials of learning rates are not included" not in said
    tuned = yaml.safe_load(valid_params)
    del tuned["finetune"]["learning_rate"]
    practice = {"data": "digits", "classes": [5, 6]}
    tuned["tune"] = {"tasks": {"practice": practice}, "learning_rate": [1e-3, 1e-2], "seed": 7}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(tuned))
    assert main(shared) == 0 and "trials of learning rates are not included" in capsys.readouterr().out
    for wrong in (
        ["--steps", "0"],
        ["--steps", "1.5"],
        ["--parameters", "50%"],
        ["--seconds", "-1"],
        ["--seconds", "x"],
    ):
        with pytest.raises(SystemExit) as stop:
            main([*shared, *wrong])
        assert stop.value.code == 2
        assert "is no " in capsys.readouterr().err


# --- what was chosen --------------------------------------------------------------------------------------------


def choice(rates, means, best, edge=None):
    trials = [{"task": "practice", "metric": "fd_digits_40_vs_36", "learning_rate": rate} for rate in rates]
    each = [{"learning_rate": rate, "mean": mean} for rate, mean in zip(rates, means, strict=True)]
    return {"learning_rate": best, "edge": edge, "means": each, "trials": trials, "steps": 9, "seed": 7}


def test_the_table_of_trials_marks_what_was_chosen_and_warns_of_edges(tmp_path):
    write_json(tmp_path / "tuning/lora.json", choice([1e-4, 1e-3, 1e-2], [3.0, 2.0, None], 1e-3))
    write_json(tmp_path / "tuning/full.json", choice([1e-3, 1e-2], [8.0, 7.0], 1e-2, "highest"))
    table = tuning_table(load_choices(tmp_path, ["lora", "full"]))
    rows, _ = csv_rows(table)
    assert rows[0]["rate_0.0001.mean"] == 3.0 and rows[0]["rate_0.01.mean"] is None
    assert rows[1]["rate_0.0001.mean"] is None and rows[1]["rate_0.01.mean"] == 7.0
    assert [[cell.best for cell in row.cells] for row in table.rows] == [[False, True, False], [False, False, True]]
    edge = "full: the best rate, 0.01, is the highest that was tried; a better one may lie beyond."
    assert table.notes == [edge]
    assert "practice" in table.caption and "9 steps with seed 7" in table.caption
    assert tuning_table({}) is None


def with_rates(folder, **rates):
    for method, rate in rates.items():
        for path in folder.glob(f"runs/*/{method}/seed_*/metrics.json"):
            synthetic.change(path, training={"learning_rate": rate})


def test_methods_that_trained_without_trials_are_named_under_the_table(tmp_path):
    folder = synthetic.write_experiment(tmp_path / "smoke")
    with_rates(folder, lora=1e-3, full=5e-4, kind=0.02, scratch=None)  # one without a rate trains nothing
    write_json(folder / "tuning/lora.json", choice([1e-4, 1e-3], [3.0, 2.0], 1e-3))
    runs = load_runs(folder, synthetic.TASKS, synthetic.METHODS, synthetic.SEEDS)
    assert tuning_table(load_choices(folder, ["lora"]), runs).notes == [
        "Own rate, 0 trials: kind (0.02), full (0.0005)."
    ]
    tuned = {method: choice([1e-4, 1e-3], [3.0, 2.0], 1e-3) for method in ("lora", "full", "kind")}
    assert tuning_table(tuned, runs).notes == []
    assert tuning_table({}, runs) is None


def test_the_table_of_matches_says_how_close_what_was_trained_is_to_what_is_wanted_now(tmp_path):
    folder = synthetic.write_experiment(tmp_path / "smoke")
    stale = {"entry": "full", "option": "rank", "size": 2, "parameters": 1, "target": 1}  # as earlier versions wrote
    for path in folder.glob("runs/novel/lora/seed_*/metrics.json"):
        parameters = {"trainable": 1500, "trainable_label_table": 300}
        synthetic.change(path, training={"match": stale}, parameters=parameters)
    runs = load_runs(folder, synthetic.TASKS, synthetic.METHODS, synthetic.SEEDS)
    assert match_table({}, runs) is None
    for target, shown in ((1000, ["5", "1.20 k", "1.00 k", "1.200"]), (0, ["5", "1.20 k", "0", MISSING])):
        table = match_table({("novel", "lora"): Match("kind", "rank", 5, 900, target)}, runs)
        (row,) = table.rows
        assert row.labels == ("novel", "lora", "kind", "rank")
        assert [cell.mean_text for cell in row.cells] == shown
