"""`classes` by the name of a set, or chosen from one: what comes out is lists."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

from kind import recipes
from kind.data.sources import SOURCES
from kind.errors import UserError
from kind.params.class_sets import class_sets
from kind.params.file import load_experiment
from kind.params.messages import told_apart

GLYPHS = {"source": "glyphs611", "options": {"images_per_class": 20}}
SETS = SOURCES["glyphs611"].class_sets(SOURCES["glyphs611"].options())
NAMED = {
    "data.glyphs": GLYPHS,
    "data.shapes": {"source": "glyphs611", "options": {"part": "symbols", "images_per_class": 20}},
    "pretrain.data": "glyphs",
    "pretrain.classes": "seen",
    "backbones.kind.overcomplete": True,
    "tasks": {
        "novel": {"data": "glyphs", "classes": {"of": "novel", "count": 12}},
        "rest": {"data": "glyphs", "classes": {"of": "novel", "skip": 455}},
        "shapes": {"data": "shapes", "classes": {"of": "all", "count": 5, "seed": 1}},
    },
    "sampling.num_samples": 60,
}
TUNE = {
    "tasks": {"practice": {"data": "glyphs", "classes": {"of": "novel", "count": 12, "skip": 12}}},
    "learning_rate": [1.0e-3, 1.0e-2],
    "seed": 9,
}


def naming(**changes):
    """The valid file's changes to sets by name, and further ones; a copy, since a test changes what it loaded."""
    return deepcopy(NAMED | changes)


def test_sets_and_choices_become_lists(load):
    experiment = load(**naming(tune=TUNE), **{"finetune.learning_rate": ...})
    assert experiment.pretrain.classes == list(SETS["seen"])
    lists = {name: task.classes for name, task in experiment.all_tasks().items()}
    assert {name: len(names) for name, names in lists.items()} == {"novel": 12, "rest": 6, "shapes": 5, "practice": 12}
    assert all(set(lists[name]) <= set(SETS["novel"]) for name in ("novel", "rest", "practice"))
    assert not set(lists["novel"]) & set(lists["practice"])


def test_jobs_are_those_of_the_same_lists_written_out(load):
    """So that results stay good when a params file begins to name its sets."""
    named = load(**naming())
    written = load(
        **{"pretrain.classes": named.pretrain.classes},
        **{f"tasks.{name}.classes": task.classes for name, task in named.tasks.items()},
    )
    assert named.model_dump() == written.model_dump()
    assert recipes.report(named) == recipes.report(written)


def test_an_experiment_says_of_which_sets_its_classes_are(load):
    assert class_sets(load()) == {}
    assert class_sets(load(**naming())) == {
        "pretrain": "all 150 classes of the set seen",
        "tasks.novel": "12 of the 461 classes of the set novel",
        "tasks.rest": "6 of the 461 classes of the set novel",
        "tasks.shapes": f"5 of the {len(SOURCES['glyphs611'].class_names(shapes()))} classes of the set all",
    }


def shapes():
    return SOURCES["glyphs611"].options(part="symbols")


ALLOWED = "allowed: of, count, skip, seed"
MISTAKES = [
    ("nowel", "tasks.novel.classes: glyphs has no set of classes 'nowel' (did you mean 'novel'?); sets: all, seen, novel"),
    ({"of": "novel", "count": 462}, "tasks.novel.classes.count: 462 asked, but the set novel has 461 classes"),
    (
        {"of": "novel", "count": 20, "skip": 450},
        "tasks.novel.classes.count: 20 asked, but the set novel has 11 classes after the 450 that are skipped",
    ),
    ({"of": "novel", "skip": 461}, "tasks.novel.classes.skip: 461 leaves none of the 461 classes of the set novel"),
    ({"count": 3}, "tasks.novel.classes.of: missing"),
    ({"of": "novel", "cuont": 3}, f"tasks.novel.classes.cuont: unknown key (did you mean 'count'?); {ALLOWED}"),
    ({"of": "novel", "count": 0}, "tasks.novel.classes.count: must be at least 1, found 0"),
    ({"of": ["novel"]}, "tasks.novel.classes.of: expected text, found ['novel']"),
    ({}, "tasks.novel.classes: expected a list, found {}"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "line"), MISTAKES)
def test_a_mistake_is_one_line(complain, given, line):
    message = complain(**naming(tasks={"novel": {"data": "glyphs", "classes": given}}))
    assert message.splitlines()[1:-1] == [f"  1. {line}"]


def test_other_mistakes_are_told_beside(complain):
    changes = {"tasks": {"novel": {"data": "glyphs", "classes": "novle", "sed": 1}}, "pretrain.classes": "sen"}
    assert complain(**naming(**changes)).splitlines()[1:-1] == [
        "  1. pretrain.classes: glyphs has no set of classes 'sen' (did you mean 'seen'?); sets: all, seen, novel",
        "  2. tasks.novel.classes: glyphs has no set of classes 'novle' (did you mean 'novel'?); sets: all, seen, novel",
        "  3. tasks.novel.sed: unknown key (did you mean 'seed'?); allowed: data, classes, images_per_class, seed, "
        "guidance_scale, seen",
    ]


def test_a_source_without_sets(complain):
    assert complain(**{"tasks.novel.classes": "novel"}).splitlines()[1:-1] == [
        "  1. tasks.novel.classes: the source digits of digits names no sets of classes; give a list of classes"
    ]


def test_sets_of_data_with_mistakes(complain):
    """One line says what is wrong, one that the set waits for it."""
    lines = complain(**naming(**{"data.glyphs": {**GLYPHS, "options": {"size": 13}}})).splitlines()[1:-1]
    mistakes = [line.partition(". ")[2] for line in lines]
    wait = "which classes a set holds depends on data.glyphs.options; mend these first"
    keys = ("pretrain.classes", "tasks.novel.classes", "tasks.rest.classes")
    assert set(mistakes) == {
        "data.glyphs.options.size: 13 is not allowed; allowed: 12, 16 or 32", *(f"{key}: {wait}" for key in keys)
    }  # fmt: skip


def test_a_set_of_data_that_are_not_there(complain):
    message = complain(**{"tasks.shift.data": "lettres", "tasks.shift.classes": "all"})
    (line,) = [line for line in message.splitlines() if "tasks.shift.classes" in line]
    assert line.endswith("only when `data` names a data set that is in order; mend that first")


def test_classes_shared_with_tuning_are_found_after_lists_are_made(complain):
    tune = TUNE | {"tasks": {"practice": {"data": "glyphs", "classes": {"of": "novel", "count": 461}}}}
    message = complain(**naming(tune=tune), **{"finetune.learning_rate": ...})
    (line,) = [line for line in message.splitlines() if "also in tasks.novel.classes" in line]
    assert "tune.tasks.practice.classes" in line


def test_two_long_lists_are_told_apart_in_short():
    many = [f"c{index}" for index in range(150)]
    assert told_apart(["a", 1], ["a"]) == ("a, 1", "a")
    assert told_apart(many, [*many[:-1], "x"]) == ("150, among them c149", "150, among them x")
    assert told_apart(many, many[:20])[1] == "20, in another order or all of the other's"
    assert len(" ".join(told_apart(many, [f"d{index}" for index in range(150)]))) < 200


IMAGENET = {"source": "imagenet611", "options": {"path": "nowhere", "images_per_class": 20}}
TABLED = SOURCES["imagenet611"].class_sets(SOURCES["imagenet611"].options(path="nowhere"))


def test_a_data_set_may_take_the_classes_of_a_set(load):
    """So that no more is prepared than is used; nothing of the data need be there."""
    taken = {"of": "novel", "count": 20}
    experiment = load(
        **NAMED
        | {
            "data.seen": {"source": "imagenet611", "options": IMAGENET["options"] | {"classes": "seen"}},
            "data.new": {"source": "imagenet611", "options": IMAGENET["options"] | {"classes": taken}},
            "tasks.few": {"data": "new", "classes": {"of": "novel", "count": 3}},
            "tasks.new": {"data": "new", "classes": "all"},
        }
    )
    assert experiment.data["seen"].options["classes"] == list(TABLED["seen"])
    new = experiment.data["new"].options["classes"]
    assert len(new) == 20 and set(new) < set(TABLED["novel"]) and experiment.tasks["new"].classes == new
    assert set(experiment.tasks["few"].classes) < set(new)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sen", "data.more.options.classes: more has no set of classes 'sen' (did you mean 'seen'?); sets: all, seen, novel"),
        ({"of": "novel", "count": 462}, "data.more.options.classes.count: 462 asked, but the set novel has 461 classes"),
        ({"of": "novel", "cuont": 2}, "data.more.options.classes.cuont: unknown key (did you mean 'count'?); allowed: of, count, skip, seed"),
    ],
)  # fmt: skip
def test_a_mistake_in_what_a_data_set_takes_is_one_line(complain, given, message):
    more = {"source": "imagenet611", "options": IMAGENET["options"] | {"classes": given}}
    assert complain(**NAMED, **{"data.more": more}).splitlines()[1:-1] == [f"  1. {message}"]


def test_a_source_whose_classes_are_a_list_says_so(complain):
    (line,) = complain(**{"data.letters.options.classes": "seen"}).splitlines()[1:-1]
    assert "data.letters.options.classes: the source letters of letters names no sets of classes" in line


PAPER = Path(__file__).parents[2] / "params" / "imagenet_b.yaml"


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ("novel: {options: {classes: {of: seen, count: 20, seed: 0}}}", 20),
        ("seen: {options: {split_seed: 1}}", 6),  # another split, of one data set alone
    ],
)
def test_classes_of_pre_training_are_found_in_another_data_set_of_the_same_pictures(tmp_path, change, number):
    (tmp_path / PAPER.name).write_text(PAPER.read_text())
    (tmp_path / "other.yaml").write_text(f"extends: {PAPER.name}\ndata: {{{change}}}\n")
    with pytest.raises(UserError, match="tasks.novel.classes: .*also in pretrain.classes") as error:
        load_experiment(tmp_path / "other.yaml")
    (line,) = [line for line in str(error.value).splitlines() if "tasks.novel.classes" in line]
    assert (f"({number} in all)" in line) or (number <= 12 and line.count("'n") == number)


def test_textured_glyphs_are_letters():
    shared = SOURCES["glyphs611"].drawn_from
    options = SOURCES["glyphs611"].options
    assert shared(options(part="textured", seed=3)) == shared(options(size=32)) != shared(options(part="symbols"))


def test_the_papers_classes_are_told_by_the_sets_of_the_whole():
    found = class_sets(load_experiment(PAPER))
    assert found["pretrain"] == "all 150 classes of the set seen"
    assert found["tasks.novel"] == "20 of the 461 classes of the set novel"
