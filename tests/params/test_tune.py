"""The `tune` section: which trials there are, and what a mistake in it reads like."""

from __future__ import annotations

import pytest

TUNE = {
    "tasks": {"practice": {"data": "digits", "classes": [5, 6], "images_per_class": 20}},
    "learning_rate": [1.0e-3, 1.0e-2],
    "seed": 7,
}


def tune(methods=None, **changes):
    """Changes of the valid file: an open rate, and a section that chooses it."""
    given = {key: value for key, value in {**TUNE, **changes}.items() if value is not ...}
    return {"finetune.learning_rate": ..., "tune": given} | ({"methods": methods} if methods else {})


def test_every_entry_without_a_rate_is_tried_with_every_rate(load):
    methods = {"kind": {}, "full": {"learning_rate": 0.5}, "lora": {"learning_rates": [1.0e-4, 5.0e-4]}}
    experiment = load(**tune(methods))
    assert experiment.tuned() == ["kind", "lora"]
    trials = {label: list(experiment.trials(label)) for label in experiment.tuned()}
    assert trials["lora"] == [("practice", "lora@1", 7), ("practice", "lora@2", 7)]
    rates = {label: experiment.method_options(label).learning_rate for _, label, _ in sum(trials.values(), [])}
    assert rates == {"kind@1": 1.0e-3, "kind@2": 1.0e-2, "lora@1": 1.0e-4, "lora@2": 5.0e-4}
    assert not set(experiment.runs()) & {run for found in trials.values() for run in found}
    assert experiment.method_options("kind").learning_rate is None
    assert (experiment.method_name("lora@2"), experiment.backbone_of("kind@1")) == ("lora", "kind")


def test_trials_are_judged_on_all_validation_images_at_their_end(load):
    experiment = load(**tune(steps=3))
    assert (experiment.reference_set("practice"), experiment.reference_set("novel")) == (
        ("validation", None),
        ("test", 30),
    )
    assert (experiment.curve_steps("practice"), experiment.curve_steps("novel")) == ([3], [4, 8])
    assert experiment.training("practice").steps == 3 and experiment.training("novel").steps == 8


def test_trials_are_as_long_as_runs_unless_said(load):
    assert load(**tune()).curve_steps("practice") == [8]


MISTAKES = [
    ({"learning_rate": [1.0e-3]}, "tune.learning_rate: a choice needs two rates or more, found 1"),
    ({"learning_rate": [1.0e-3, 1.0e-3]}, "tune.learning_rate: 0.001 is named twice"),
    ({"learning_rate": [1.0e-3, "1e-4"]}, "tune.learning_rate.1: '1e-4' is text to YAML, not a number; write 1.0e-4"),
    ({"learning_rate": ...}, "tune.learning_rate: missing"),
    ({"seed": 1}, "tune.seed: 1 is one of `seeds`; trials need another, so that no table shows a run that chose"),
    ({"metric": "fid"}, "tune.metric: 'fid' is not allowed (did you mean 'fd'?); allowed: 'fd' or 'kd'"),
    ({"stesp": 4}, "tune.stesp: unknown key (did you mean 'steps'?); allowed: tasks, learning_rate, steps"),
    ({"tasks": {}}, "tune.tasks: expected 1 or more entries, found {}"),
    ({"tasks": {"a@b": {"data": "digits", "classes": [5]}}}, "tune.tasks: 'a@b' cannot be a name; use letters"),
    ({"tasks": {"novel": {"data": "digits", "classes": [5]}}}, "tune.tasks: 'novel' is one of `tasks`; give"),
    ({"tasks": {"practice": {"data": "digits", "classes": [2, 5]}}},
     "tune.tasks.practice.classes: '2' also in pretrain.classes; a task's classes must be new to the backbone"),
    ({"tasks": {"practice": {"data": "digits", "classes": [8, 7, 5]}}},
     "tune.tasks.practice.classes: '8', '7' also in tasks.novel.classes; rates are chosen on classes that no table"),
    ({"tasks": {"practice": {"data": "digits", "classes": [5, 55]}}}, "tune.tasks.practice.classes: digits has no"),
    ({"tasks": {"practice": {"data": "digit", "classes": [5]}}}, "tune.tasks.practice.data: no data set 'digit' (did"),
    ({"tasks": {"practice": {"data": "digits", "classes": [5], "images_per_class": 500}}},
     "tune.tasks.practice.images_per_class: 500 asked, but digits has fewer training images"),
    ({"tasks": {"practice": {"data": "digits", "class": [5]}}}, "tune.tasks.practice.class"),
]  # fmt: skip


@pytest.mark.parametrize("changes, line", MISTAKES, ids=[line for _, line in MISTAKES])
def test_a_mistake_names_its_place_and_what_is_allowed(complain, changes, line):
    assert f"  1. {line}" in complain(**tune(**changes))


ENTRIES = [
    ({"learning_rates": [0.1]}, "1 rates, but tune.learning_rate has 2; every method gets as many trials"),
    ({"learning_rates": [0.1, 0.1]}, "0.1 is named twice"),
    ({"learning_rates": [0.1, 0.2], "learning_rate": 0.1}, "the entry has a learning_rate too; give one of the two"),
]


@pytest.mark.parametrize("entry, line", ENTRIES, ids=[line for _, line in ENTRIES])
def test_a_mistake_in_the_grid_of_an_entry(complain, entry, line):
    assert f"  1. methods.full.learning_rates: {line}" in complain(**tune({"full": entry, "kind": {}}))


def test_the_same_images_under_another_name_are_the_same_classes(complain, content):
    content["data"]["again"] = dict(content["data"]["digits"], split={"train": 0.6, "validation": 0.1, "test": 0.3})
    message = complain(**tune(tasks={"practice": {"data": "again", "classes": [7]}}))
    assert "tune.tasks.practice.classes: '7' also in tasks.novel.classes" in message


def test_a_class_of_one_source_is_the_same_however_it_is_drawn(load, complain, content):
    content["data"]["other"] = {"source": "letters", "options": {"classes": ["A", "C", "B"], "images_per_class": 40}}
    assert load(**tune(tasks={"practice": {"data": "other", "classes": ["B"]}})).tuned()
    message = complain(tune={**tune()["tune"], "tasks": {"practice": {"data": "other", "classes": ["A"]}}})
    assert "tune.tasks.practice.classes: 'A' also in tasks.shift.classes" in message


def test_pre_training_classes_under_another_name_are_refused(complain, content):
    content["data"]["again"] = dict(content["data"]["digits"])
    message = complain(**tune(tasks={"practice": {"data": "again", "classes": [0, 5]}}))
    assert "tune.tasks.practice.classes: '0' also in pretrain.classes; a task's classes must be new" in message


def test_a_rate_that_would_not_be_used_is_refused(complain):
    changes = tune()
    del changes["finetune.learning_rate"]
    assert "finetune.learning_rate: 0.001 would never be used, because `tune` chooses the rate" in complain(**changes)
    everything = {"kind": {"learning_rate": 0.1}}
    assert "tune: every methods entry has a learning rate of its own, or trains nothing" in complain(**tune(everything))


def test_a_grid_for_an_entry_that_trains_nothing_is_refused(complain):
    entries = {"full": {}, "other": {"method": "full"}, "soup": {"of": ["full", "other"], "learning_rates": [0.1, 0.2]}}
    assert "methods.soup.learning_rates: the entry trains nothing; leave it out" in complain(**tune(entries))


def test_rates_without_a_section_that_tries_them_are_refused(complain):
    message = complain(methods={"full": {"learning_rates": [0.1, 0.2]}})
    assert "methods.full.learning_rates: no `tune` section tries them" in message


def test_what_does_not_fit_a_tuning_task_is_refused(complain):
    tasks = {"practice": {"data": "digits", "classes": [3, 4, 5, 6]}}
    assert "4 classes of task practice" in complain(**tune(tasks=tasks), **{"sampling.num_samples": 3})


def test_a_warm_up_longer_than_a_trial_is_refused(complain):
    assert "finetune.warmup_steps: 6 exceeds tune.steps 5" in complain(**tune(steps=5), **{"finetune.warmup_steps": 6})


def test_a_section_without_content_is_refused(complain):
    assert "tune: expected a mapping, found nothing; leave the section out" in complain(tune=None)
    assert "tune: expected a mapping, found 5" in complain(tune=5)
