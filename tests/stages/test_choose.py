"""The choice of a learning rate from trials, and the run that takes it, without any training but one short run."""

from __future__ import annotations

import shutil

import pytest
import torch
import yaml
from tiny_experiment import within

from kind import recipes
from kind.__main__ import main
from kind.artifacts import digest, load_tensors, read_json, write_json
from kind.layout import Layout
from kind.models.dit import LABEL_TABLE
from kind.params.file import load_experiment
from kind.sparse_routines import VALUES

TUNE = {
    "tasks": {"far": {"data": "digits", "classes": [3, 4]}, "near": {"data": "digits", "classes": [5, 6]}},
    "learning_rate": [1.0e-2, 1.0e-4, 1.0e-3],
    "seed": 5,
}


@pytest.fixture
def place(tiny, tmp_path):
    """A params file with `tune`, in an empty folder that is the working folder."""
    content = yaml.safe_load((tiny.folder / "tiny.yaml").read_text())
    del content["finetune"]["learning_rate"]

    def write(methods=None, backbones=None, **changes):
        rates = len(changes.get("learning_rate", TUNE["learning_rate"]))
        content["methods"] = methods or {"full": {}, "kind": {"learning_rates": [0.1, 0.2, 0.4][:rates]}}
        content["backbones"] |= backbones or {}
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**content, "tune": TUNE | changes}))
        return load_experiment(tmp_path / "tiny.yaml"), Layout(tmp_path / "results" / "tiny")

    with within(tmp_path):
        yield write


def write_trials(experiment, layout, label, values, metric="fd_digits_20_vs_36"):
    """values: task -> one a rate, in the order of the params."""
    for task, trial, seed in experiment.trials(label):
        value, protocol = values[task][int(trial.partition("@")[2]) - 1], recipes.protocol(experiment, task)
        content = {"values": {f"s{metric}": 0.0, metric: value, "kd_digits_20_vs_36": value and -value}}
        content |= {"protocol": protocol, "protocol_hash": digest(protocol)}
        write_json(layout.metrics(layout.run(task, trial, seed)), content)


def choose(label="full"):
    return main(["choose", "--experiment", "tiny.yaml", "--method", label])


def test_the_best_mean_over_the_tuning_tasks_is_chosen(place):
    experiment, layout = place()
    values = {"far": [9.0, 30.0, 20.0], "near": [5.0, 1.0, 0.5]}  # means 7, 15.5, 10.25
    write_trials(experiment, layout, "full", values)
    assert choose() == 0
    found = read_json(layout.tuned("full"))
    assert (found["learning_rate"], found["edge"]) == (1.0e-2, "highest")
    assert read_json(layout.tuned_rate("full")) == {"learning_rate": 1.0e-2}, "and nothing else: runs depend on it"
    assert found["means"] == [
        {"learning_rate": 1.0e-4, "mean": 15.5},
        {"learning_rate": 1.0e-3, "mean": 10.25},
        {"learning_rate": 1.0e-2, "mean": 7.0},
    ]
    assert (found["seed"], found["steps"]) == (5, 3)
    assert len(found["trials"]) == 6 and set(found["protocols"]) == {"far", "near"}
    assert found["protocols"]["far"]["reference"]["set"] == "validation"
    trial = next(one for one in found["trials"] if (one["trial"], one["task"]) == ("full@2", "near"))
    assert (trial["learning_rate"], trial["value"], trial["metric"]) == (1.0e-4, 1.0, "fd_digits_20_vs_36")


def test_the_metric_and_the_grid_of_an_entry_are_those_of_the_params(place):
    experiment, layout = place(metric="kd")
    write_trials(experiment, layout, "kind", {"far": [1.0, 2.0, 1.0], "near": [1.0, 2.0, 1.0]})  # kd: the negative
    assert choose("kind") == 0
    found = read_json(layout.tuned("kind"))
    assert (found["learning_rate"], found["edge"]) == (0.2, None)


def test_a_rate_whose_metric_is_not_finite_somewhere_is_out(place):
    experiment, layout = place()
    write_trials(experiment, layout, "full", {"far": [0.1, None, 20.0], "near": [None, 1.0, 3.0]})
    assert choose() == 0
    assert read_json(layout.tuned("full"))["learning_rate"] == 1.0e-3


def test_a_rate_at_which_training_diverges_is_never_chosen(place):
    experiment, layout = place()
    write_trials(experiment, layout, "full", {"far": [0.1, 2.0, 3.0], "near": [0.1, 2.0, 3.0]})
    path = layout.metrics(layout.run("near", "full@1", 5))
    write_json(path, read_json(path) | {"training": {"diverged": "not finite"}})
    assert choose() == 0
    assert read_json(layout.tuned("full"))["learning_rate"] == 1.0e-4


def test_no_finite_rate_is_one_message_and_no_file(place, capsys):
    experiment, layout = place()
    write_trials(experiment, layout, "full", {"far": [None] * 3, "near": [1.0] * 3})
    assert choose() == 2
    assert (
        "error: methods.full: no learning rate has a finite fd_digits_20_vs_36 on every tuning task\n"
        "  -> try others than 0.0001, 0.001, 0.01"
    ) in capsys.readouterr().err
    assert not any(path.exists() for path in layout.tuned_files("full"))


def test_trials_of_two_protocols_are_refused(place, capsys):
    experiment, layout = place()
    write_trials(experiment, layout, "full", {"far": [1.0] * 3, "near": [1.0] * 3})
    path = layout.metrics(layout.run("near", "full@2", 5))
    write_json(path, read_json(path) | {"protocol_hash": "other"})
    assert choose() == 2
    said = capsys.readouterr().err
    assert "near/full@2/seed_5/metrics.json: measured under another protocol than the trial full@1" in said


def test_trials_without_the_metric_are_refused(place, capsys):
    experiment, layout = place()
    write_trials(experiment, layout, "full", {"far": [1.0] * 3, "near": [1.0] * 3}, metric="x_digits_1")
    assert choose() == 2
    assert "has none of the metrics fid, fd; it has sx_digits_1, x_digits_1" in capsys.readouterr().err


def test_inception_s_distances_count_as_what_they_are(place):
    experiment, layout = place()
    write_trials(experiment, layout, "full", {"far": [3.0, 2.0, 1.0], "near": [1.0] * 3}, metric="fid_20_vs_36")
    assert choose() == 0
    assert read_json(layout.tuned("full"))["trials"][0]["metric"] == "fid_20_vs_36"


SOFT = {"kind-soft": {"form": "kind", "gate": "soft", "num_learngenes": 20, "num_tailors": 12, "gate_hidden": [5]}}


def test_a_trial_that_diverges_leaves_its_start_and_says_so(tiny, place):
    methods = ("full", "sara", "lt-sft", "kind", "divgate")
    experiment, layout = place(dict.fromkeys(methods, {}), SOFT, learning_rate=[1.0e38, 1.0e-3])
    assert [experiment.method_options(f"full@{n}").learning_rate for n in (1, 2)] == [1.0e38, 1.0e-3]
    assert experiment.method_options("sara").rank_penalty > 0
    for part in ("data", "backbones", "learngenes"):
        shutil.copytree(tiny.results / part, layout.root / part)
    assert main(["pretrain", "--experiment", "tiny.yaml", "--backbone", "kind-soft"]) == 0
    left = {}
    for method in methods:
        run = ["--experiment", "tiny.yaml", "--task", "near", "--method", f"{method}@1", "--seed", "5"]
        assert main(["finetune", *run]) == 0 and main(["sample", *run]) == 0, method
        folder = layout.run("near", f"{method}@1", 5)
        assert "not finite" in read_json(folder / "finetune.json")["training"]["diverged"], method
        left[method] = load_tensors(layout.adapted(folder, 3))[0]
        assert left[method] and all(tensor.isfinite().all() for tensor in left[method].values()), method
    full, start = left["full"], load_tensors(layout.backbone_model("dense"))[0]
    same = [name for name in full if name in start and torch.equal(full[name], start[name])]
    assert set(full) - set(same) == {LABEL_TABLE}, "whose rows are the task's"
    assert all(not left[method][VALUES].any() for method in ("sara", "lt-sft")), "differences from the start"
    tailors, start = left["divgate"], load_tensors(layout.backbone_model("kind-soft"))[0]
    assert sum(torch.equal(tailors[name], start[name]) for name in tailors if name in start) > 1, "tailors and gate"


def test_a_run_takes_the_chosen_rate_and_says_where_it_is_from(tiny, place):
    experiment, layout = place()
    shutil.copytree(tiny.results / "data", layout.data("digits").parent)
    shutil.copytree(tiny.results / "backbones", layout.backbone("dense").parent)
    write_trials(experiment, layout, "full", {"far": [3.0, 2.0, 1.0], "near": [1.0] * 3})
    run = ["--experiment", "tiny.yaml", "--task", "novel", "--method", "full", "--seed", "0"]
    assert main(["finetune", *run]) == 2, "there is no choice yet"
    assert choose() == 0 and main(["finetune", *run]) == 0
    folder = layout.run("novel", "full", 0)
    record = read_json(folder / "finetune.json")
    assert record["training"]["learning_rate"] == 1.0e-3
    assert record["training"]["learning_rate_from"] == "tuning/full.rate.json"
    assert "../../../../tuning/full.rate.json" in record["inputs"]
    assert record["recipe"]["finetune"]["learning_rate"] is None, "the recipe is what the params say"
    log = (folder / "train.csv").read_text().splitlines()
    assert float(log[-1].split(",")[log[0].split(",").index("learning_rate")]) == 1.0e-3


def test_only_trials_run_on_tuning_tasks(place, capsys):
    place()
    for task, method, seed, said in [
        ("near", "full", 5, "tasks has no 'near'; it has novel"),
        ("novel", "full@1", 0, "methods has no 'full@1'"),
        ("novel", "full", 5, "seeds has no 5; it has 0"),
        ("near", "full@4", 5, "tasks has no 'near'; it has novel"),
    ]:
        assert (
            main(["finetune", "--experiment", "tiny.yaml", "--task", task, "--method", method, "--seed", str(seed)])
            == 2
        )
        assert said in capsys.readouterr().err
