"""Paired differences, intervals and distances by class in the report, and the mark of what is indicative only."""

from __future__ import annotations

import csv
import statistics

import pytest
import synthetic_experiment as synthetic

from kind.artifacts import read_json
from kind.reporting.budgets import Budget, as_text, standings
from kind.reporting.report import load_runs, write_report

FD, KD = "fd_digits_500_vs_180", "kd_digits_500_vs_180"


def rows(path):
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def metrics(folder, method, seed):
    return read_json(folder / f"runs/novel/{method}/seed_{seed}/metrics.json")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return synthetic.write_experiment(tmp_path_factory.mktemp("results") / "smoke")


@pytest.fixture(scope="module")
def finished(experiment):
    write_report(
        "smoke",
        synthetic.params(),
        experiment,
        experiment / "report",
        seeds=synthetic.SEEDS,
        tasks=synthetic.TASKS,
        methods=synthetic.METHODS,
        command=synthetic.COMMAND,
    )
    return experiment / "report"


def test_differences_are_of_runs_with_one_seed(experiment, finished):
    table = {row["methods"]: row for row in rows(finished / "tables/novel.paired.csv")}
    assert set(table) == {f"{method} − kind" for method in synthetic.METHODS if method != "kind"}
    each = [
        metrics(experiment, "lora", seed)["values"][FD] - metrics(experiment, "kind", seed)["values"][FD]
        for seed in synthetic.SEEDS
    ]
    row = table["lora − kind"]
    assert float(row[f"{FD}.mean"]) == pytest.approx(statistics.fmean(each))
    assert float(row[f"{FD}.std"]) == pytest.approx(statistics.stdev(each))
    assert "Above 0 kind is better by Fréchet distance" in (finished / "tables/novel.paired.md").read_text()


def test_one_seed_has_no_paired_differences(tmp_path):
    folder = synthetic.write_experiment(tmp_path / "smoke", seeds=[0])
    write_report(
        "smoke", synthetic.params(seeds=[0]), folder, folder / "report", seeds=[0],
        tasks=synthetic.TASKS, methods=synthetic.METHODS, command=synthetic.COMMAND,
    )  # fmt: skip
    assert not list((folder / "report" / "tables").glob("*.paired.*"))


def test_every_run_has_its_interval(experiment, finished):
    table = rows(finished / "tables/novel.distances.csv")
    assert [(row["method"], row["seed"]) for row in table] == [
        (method, str(seed)) for method in synthetic.METHODS for seed in synthetic.SEEDS
    ]
    found = metrics(experiment, "kind", 0)["intervals"][KD]
    assert [float(table[0][f"{key}.mean"]) for key in (KD, "low", "high")] == pytest.approx(
        [found["value"], found["low"], found["high"]]
    )
    first = rows(finished / "metrics.csv")[0]
    assert [float(first[f"{KD}_{end}"]) for end in ("low", "high")] == pytest.approx([found["low"], found["high"]])


def test_classes_have_their_own_rows(experiment, finished):
    classes = [f"digits/{name}" for name in synthetic.TASKS["novel"]["classes"]]
    (row,) = [row for row in rows(finished / "tables/novel.classes.csv") if row["method"] == "full"]
    for name in classes:
        each = [metrics(experiment, "full", seed)["per_class"][name]["kd_digits"] for seed in synthetic.SEEDS]
        assert float(row[f"{name}.mean"]) == pytest.approx(statistics.fmean(each))
    table = [row for row in rows(finished / "summary/classes.csv") if row["task"] == "novel"]
    assert len(table) == len(synthetic.METHODS) * len(synthetic.SEEDS) * len(classes)
    assert float(table[0]["kd_digits_low"]) < float(table[0]["kd_digits"]) < float(table[0]["kd_digits_high"])


def test_what_is_indicative_only_is_marked_wherever_it_is_printed(finished, experiment):
    metric = "sfd_digits_500_vs_180"
    for name in ("novel", "novel.paired", "novel.distances"):
        markdown = (finished / "tables" / f"{name}.md").read_text()
        assert "Spatial Fréchet distance †" in markdown and "† indicative only" in markdown
        assert "| Fréchet distance †" not in markdown
    for name in ("metrics", "curves"):
        found = {row["indicative"] for row in rows(finished / f"{name}.csv")}
        assert found <= {
            "sfd_digits_500_vs_180",
            "sfd_digits_500_vs_240",
            "sfd_digits_200_vs_180",
            "sfd_digits_200_vs_240",
        }
    assert rows(finished / "metrics.csv")[0]["indicative"] == metric
    for name, marked in (("sfd_digits", True), ("fd_digits", False)):
        assert ("indicative only" in (finished / "plots" / f"novel_{name}.svg").read_text()) == marked
    runs = load_runs(experiment, ["novel"], synthetic.METHODS, synthetic.SEEDS)
    for name, marked in (("sfd", True), ("fd", False)):
        (found,) = standings(runs, Budget(), name)
        assert ("indicative only" in as_text(found, "lower", Budget())) == marked
