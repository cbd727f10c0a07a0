"""Tasks of classes of pre-training: which entries run on which tasks, and what is refused."""

from __future__ import annotations

import pytest

from kind import recipes

SEEN = {"data": "digits", "classes": [2, 0], "seen": True}
PRUNED = {"method": "svd-pruned", "share": 0.5}
BOTH = {"tasks.seen": SEEN, "methods.recombined": {"share": 0.5}, "methods.pruned": PRUNED}


def test_each_entry_runs_on_the_tasks_that_have_its_classes(load):
    experiment = load(**BOTH, seeds=[0])
    runs = [(task, label) for task, label, _ in experiment.runs()]
    adapting = ["full", "kind", "lora", "scratch"]  # the file that the test writes is sorted
    assert [label for task, label in runs if task == "seen"] == ["pruned", "recombined"]
    assert [label for task, label in runs if task == "novel"] == adapting
    assert experiment.tasks_of("kind") == ["novel", "shift"] and experiment.tasks_of("pruned") == ["seen"]


def test_on_a_task_of_seen_classes_nothing_is_trained(load):
    experiment = load(**BOTH)
    assert (experiment.training("seen").steps, experiment.curve_steps("seen")) == (0, [0])
    assert experiment.curve_steps("novel") == [4, 8]
    before = recipes.finetune(experiment, "seen", "recombined", 0)
    assert recipes.finetune(load(**{"finetune.batch_size": 4}), "seen", "recombined", 0) == before
    assert recipes.finetune(load(**{"methods.recombined": {"share": 0.25}}), "seen", "recombined", 0) != before


def test_a_pruned_model_is_as_large_as_one_recombined_from_the_backbone_that_it_names(load):
    uneven = {
        "form": "kind", "num_learngenes": 20, "num_tailors": 4, "ranks": {"q": {"num_learngenes": 10}},
        "class_tailors": {"2": 6}, "groups": {"some": {"classes": [1, 2], "num_tailors": 3}}, "overcomplete": True,
    }  # fmt: skip
    experiment = load(**BOTH, **{"backbones.uneven": uneven, "methods.other": PRUNED | {"like": "uneven"}})
    six = ("q", "k", "v", "o", "in", "out")
    assert experiment.method_options("pruned", "seen").components == dict.fromkeys(six, 20 + 2 * 4)
    expected = dict.fromkeys(six, 20 + 6 + 4 + 3) | {"q": 10 + 6 + 4 + 3}
    assert experiment.method_options("other", "seen").components == expected


def test_a_pruned_run_depends_on_the_sizes_of_that_backbone_and_not_on_its_name(load):
    digest = recipes.finetune(load(**BOTH), "seen", "pruned", 0)
    alike = {"backbones.kind.start": "dense", "backbones.kind.null_gate": "true_class"}
    assert recipes.finetune(load(**alike), "seen", "pruned", 0) == digest
    named = {"backbones.twin": {"form": "kind", "num_learngenes": 20, "num_tailors": 4}, "methods.pruned.like": "twin"}
    assert recipes.finetune(load(**named), "seen", "pruned", 0) == digest
    assert recipes.finetune(load(**{"backbones.twin.num_tailors": 3}), "seen", "pruned", 0) != digest


def test_other_tasks_do_not_know_of_it(load):
    assert "seen" not in load().task("novel").model_dump()
    assert load(**BOTH).task("seen").model_dump(include={"seen", "seed"}) == {"seen": True, "seed": 0}


def test_trials_and_matched_sizes_pass_it_by(load):
    tune = {"tasks": {"practice": {"data": "digits", "classes": [5]}}, "learning_rate": [0.1, 0.2], "seed": 9}
    lora = {"method": "lora", "match": "kind"}
    experiment = load(**BOTH, tune=tune, **{"methods.lora": lora, "finetune.learning_rate": ...})
    assert experiment.tuned() == ["full", "kind", "lora", "scratch"]
    assert experiment.match("lora", "novel") is not None


@pytest.mark.parametrize("changes, line", [
    ({"tasks.seen.classes": [2, 7, 9]},
     "tasks.seen.classes: '7', '9' not in pretrain.classes; a task with `seen: true` has classes of pre-training "
     "alone, and new ones need a task of their own without it"),
    ({"tasks.seen.seen": False},
     "tasks.seen.classes: '2', '0' also in pretrain.classes; a task's classes must be new to the backbone; where "
     "nothing is trained, all are known: `seen: true`"),
    ({"tasks.seen.images_per_class": 5},
     "tasks.seen.images_per_class: nothing is trained on a task with `seen: true`; leave it out"),
    ({"tasks.seen": {"data": "letters", "classes": ["A"], "seen": True}},
     "tasks.seen.data: 'letters', but a task with `seen: true` is of the data of pretrain, 'digits'"),
    ({"tasks.seen.seen": 1}, "tasks.seen.seen: expected true or false, found 1"),
    ({"methods.recombined": {}}, "methods.recombined.share: missing"),
    ({"methods.recombined.share": 0.0}, "methods.recombined.share: must be greater than 0, found 0.0"),
    ({"methods.recombined.share": 75.0}, "methods.recombined.share: must be at most 1, found 75.0"),
    ({"methods.recombined.backbone": "dense"},
     "methods.recombined.backbone: 'dense' is of form dense, but recombined needs form kind"),
    ({"methods.pruned.backbone": "kind"},
     "methods.pruned.backbone: 'kind' is of form kind, but svd-pruned needs form dense"),
    ({"methods.pruned.like": "kin"},
     "methods.pruned.like: no backbone 'kin' (did you mean 'kind'?); backbones: dense, kind"),
    ({"methods.pruned.like": "dense"},
     "methods.pruned.like: 'dense' is of form dense, but its size is to be that of a recombined model, which needs "
     "form kind"),
    ({"methods.pruned.components": {"q": 3}},
     "methods.pruned.components: found from the backbone that `like` names; leave it out"),
    ({"methods.recombined.learning_rate": 0.1},
     "methods.recombined: the method trains nothing, so that learning_rate has no meaning; leave it out"),
    ({"methods.pruned.objective": "diff-tuning"},
     "methods.pruned: the method trains nothing, so that objective has no meaning; leave it out"),
    ({"methods.lora": {"match": "recombined"}},
     "methods.lora.match: recombined trains nothing but label rows; name an entry that trains more (task novel, "
     "shift)"),
    ({"ablations": {"size": {"axis": "share", "entries": ["recombined", "lora"]}}},
     "ablations.size.entries: recombined run on classes of pre-training, the others on new ones, and no task has both; "
     "make two ablations of them"),
])  # fmt: skip
def test_a_mistake_gives_its_line(complain, changes, line):
    assert f". {line}\n" in complain(**BOTH | changes)


@pytest.mark.parametrize("changes, line", [
    ({"tasks.seen": SEEN},
     "tasks.seen.seen: no methods entry draws classes of pre-training; add one of recombined, svd-pruned, or leave the "
     "task out: a method that trains takes new classes alone"),
    ({"methods.recombined": {"share": 0.5}},
     "methods.recombined: recombined draws classes of pre-training, and no task has them; add one with `seen: true`"),
    ({"tasks": {"seen": SEEN}, "methods.pruned": PRUNED},
     "methods.full: full trains on new classes, and all tasks have `seen: true`; add a task of new classes, or leave "
     "the entry out"),
    ({"tasks.seen": SEEN, "methods": {"pruned": PRUNED}},
     "tasks.novel: no methods entry adapts to new classes; add one, or say `seen: true` of known ones"),
])  # fmt: skip
def test_a_task_without_entries_and_an_entry_without_tasks_are_refused(complain, changes, line):
    assert f": 1 problem\n  1. {line}\n" in complain(**changes)


def test_rates_cannot_be_chosen_on_it(complain):
    tune = {"tasks": {"practice": {"data": "digits", "classes": [1], "seen": True}}, "learning_rate": [0.1, 0.2]}
    message = complain(**BOTH, tune=tune, **{"finetune.learning_rate": ...})
    assert "1. tune.tasks.practice.seen: on classes of pre-training nothing is trained, and no rate can be" in message


def test_it_takes_no_part_in_models_that_are_put_together(complain):
    interference = {"tasks": ["novel", "seen"], "methods": {"recombined": {}}}
    message = complain(**BOTH, analyses={"interference": interference})
    assert "analyses.interference.tasks: on seen nothing is trained that could be put together" in message
    assert "analyses.interference.methods.recombined: recombined trains nothing; leave it out" in message
