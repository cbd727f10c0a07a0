"""What a report says of classes of pre-training, on which nothing is trained, beside tasks of new classes."""

from __future__ import annotations

import csv
import shutil

import pytest
import synthetic_experiment as synthetic

from kind.artifacts import read_json
from kind.reporting.report import write_report

TASKS = {"novel": synthetic.TASKS["novel"], "seen": {"data": "digits", "classes": ["1", "2"], "seen": True}}
METHODS = {"kind": {}, "full": {}, "whole": {}, "half": {}}
ENTRIES = {"novel": ["kind", "full"], "seen": ["whole", "half"]}
DEPLOYED = {"whole": 251_904, "half": 150_000}


def write(folder, entries_on):
    write_report(
        "smoke", synthetic.params(TASKS, METHODS), folder, folder / "report", seeds=synthetic.SEEDS, tasks=TASKS,
        methods=METHODS, command=synthetic.COMMAND, entries_on=entries_on,
    )  # fmt: skip
    return " ".join((folder / "report" / "index.html").read_text().split())


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = synthetic.write_experiment(tmp_path_factory.mktemp("results") / "smoke", TASKS, METHODS)
    for path in folder.glob("runs/*/*/seed_*/metrics.json"):
        *_, task, method, seed, _ = path.parts
        found = read_json(path)
        closed = {"protocol": found["protocol"] | {"sampling": {"guidance_scale": 1.5}}}
        closed |= {"training": {"null_gate": "learngenes"}} if method != "full" else {}
        if task == "seen" and method in DEPLOYED:
            closed |= {"final_step": 0, "steps": {"0": {"values": found["values"]}}}
            closed["parameters"] = found["parameters"] | {"trainable": 0, "deployed": DEPLOYED[method]}
            drawn = folder / "samples" / task / method / seed
            shutil.copytree(drawn / "step_000300", drawn / "step_000000")
        synthetic.change(path, **closed)
    return folder


@pytest.fixture(scope="module")
def page(experiment):
    return write(experiment, ENTRIES)


def test_a_finding_has_the_sizes_of_models_that_differ_in_them(page):
    found = page.split('<ul class="findings">')[1].split("</ul>")[0]
    novel, seen = found.split("</li><li>")
    assert "parameters" not in novel and "(252 k parameters)" in seen and "(150 k parameters)" in seen


def test_methods_that_run_on_other_tasks_are_not_said_to_have_the_same(page, experiment):
    assert "Methods that train run on tasks of new classes" in page and "Every method gets the same tasks" not in page
    assert "kind: a dropped label closes all tailors" in page, "whole and half have no task to contrast"
    whole_grid = write(experiment, {"novel": list(METHODS), "seen": list(METHODS)})
    assert "Every method gets the same tasks with the same data" in whole_grid


def test_the_table_of_costs_says_where_nothing_is_trained(experiment):
    write(experiment, ENTRIES)
    cost = (experiment / "report" / "summary" / "cost.md").read_text()
    assert (
        "Training of 300 steps on: cpu. On seen nothing is trained: times and memory are of making the model." in cost
    )
    with open(experiment / "report" / "tables" / "seen.csv", newline="") as handle:
        assert [row["method"] for row in csv.DictReader(handle)] == ENTRIES["seen"]
