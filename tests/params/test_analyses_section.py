"""The `analyses` section: what it may ask for, and what a mistake reads like."""

# ruff: noqa: E501  a table of messages

from __future__ import annotations

import pytest

METHODS = {
    "kind": {}, "full": {}, "lora": {"rank": 4}, "scratch": {}, "gated-lora": {"rank": 2}, "diffscaler": {},
    "ortho-lora": {}, "ortho-2": {"method": "ortho-lora", "slot": 1}, "heur-lg": {},
    "ortho-other": {"method": "ortho-lora", "slot": 1, "basis_seed": 1},
    "ortho-match": {"method": "ortho-lora", "match": "lora", "slot": 1}, "kind-all": {"method": "kind", "train_dense": "all"},
}  # fmt: skip
TASKS = {
    "novel": {"data": "digits", "classes": [7, 8]},
    "shift": {"data": "letters", "classes": ["A", "C", "E"]},
    "more": {"data": "digits", "classes": [8, 9]},
}


def asked(tasks=("novel", "shift"), **methods):
    methods = {name.replace("_", "-"): value for name, value in (methods or {"lora": {}}).items()}
    return {"interference": {"tasks": list(tasks), "methods": methods}}


def test_nothing_is_asked_for_unless_the_section_says_so(load):
    assert load().analyses is None
    only_weights = load(analyses={"weights": {}}).analyses
    assert (only_weights.weights.num_vectors, only_weights.weights.max_cosine) == (10, 0.6)
    assert only_weights.interference is None and only_weights.bounds is None and only_weights.components is None


def test_bounds_and_components_are_asked_for_by_name(load):
    found = load(analyses={"bounds": {}, "components": {"seed": 3}})
    assert found.analyses.bounds is not None and found.analyses.weights is None
    components = found.analyses.components
    assert (components.num_permutations, components.images_per_class, components.seed) == (10_000, 100, 3)


def test_backbones_are_those_that_entries_start_from(load):
    more = {f"backbones.{name}": KIND | given for name, given in {
        "soft": {"gate": "soft", "num_tailors": 8}, "nogate": {"num_tailors": 0}, "unused": {}, "other": {},
    }.items()}  # fmt: skip
    methods = {"lora": {"rank": 4}, "kind": {}, "divgate": {"backbone": "soft"},
               "kind-nogate": {"backbone": "nogate", "num_learngenes": 8}, "again": {"method": "kind", "backbone": "other"}}  # fmt: skip
    experiment = load(**more, methods=methods)
    assert experiment.starting_backbones() == [name for name in experiment.backbones if name != "unused"]
    assert sorted(experiment.starting_backbones()) == ["dense", "kind", "nogate", "other", "soft"]
    assert sorted(experiment.gated_backbones()) == ["kind", "other"]


def test_an_entry_may_stand_in_for_another_on_a_task(load):
    found = load(methods=METHODS, analyses=asked(lora={}, ortho_lora={"shift": "ortho-2"})).analyses.interference
    assert [found.entry("ortho-lora", task) for task in ("novel", "shift")] == ["ortho-lora", "ortho-2"]
    assert [found.entry("lora", task) for task in ("novel", "shift")] == ["lora", "lora"]


KIND = {"form": "kind", "num_learngenes": 20, "num_tailors": 4}
NONE = (
    "analyses: names no analysis; write one or more of `weights: {}`, `bounds: {}`, `components: {}`, "
    "`guidance: ...` and `interference: ...`, or leave the section out"
)
WHERE = "analyses.interference"
MISTAKES = [
    ({}, NONE),
    ({"weights": None}, NONE),
    ({"wights": {}}, "analyses.wights: unknown key (did you mean 'weights'?); allowed: weights, interference, bounds, components, guidance"),
    ({"weights": {"num_vectors": 0}}, "analyses.weights.num_vectors: must be at least 1, found 0"),
    ({"weights": {"num_vectors": 33}}, "analyses.weights.num_vectors: 33 exceeds the 32 singular vectors of a matrix of width 32"),
    ({"weights": {"max_cosine": 1.5}}, "analyses.weights.max_cosine: must be at most 1, found 1.5"),
    ({"bounds": {"seed": 1}}, "analyses.bounds.seed: unknown key; no keys are allowed here"),
    ({"components": {"num_permutations": 0}}, "analyses.components.num_permutations: must be at least 1, found 0"),
    (asked(["novel"]), f"{WHERE}.tasks: expected 2 or more entries, found ['novel']"),
    (asked(["novel", "shift", "novel"]), f"{WHERE}.tasks: 'novel' is named twice"),
    (asked(["novel", "shft"]), f"{WHERE}.tasks: no task 'shft' (did you mean 'shift'?); tasks: more, novel, shift"),
    (asked(["novel", "more"]), f"{WHERE}.tasks: novel and more share '8'; each class must be of one task alone"),
    ({"interference": {"tasks": ["novel", "shift"], "methods": {}}}, f"{WHERE}.methods: expected 1 or more entries, found {{}}"),
    (asked(lorra={}), f"{WHERE}.methods.lorra: no methods entry 'lorra' (did you mean 'lora'?); entries: {', '.join(sorted(METHODS))}"),
    (asked(lora={"shift": "lora-2"}), f"{WHERE}.methods.lora.shift: no methods entry 'lora-2' (did you mean 'lora'?); entries: {', '.join(sorted(METHODS))}"),
    (asked(ortho_lora={"more": "ortho-2"}), f"{WHERE}.methods.ortho-lora.more: not among the tasks that are put together, novel, shift"),
    (asked(lora={"shift": "full"}), f"{WHERE}.methods.lora.shift: 'full' is of another method or backbone than 'lora'; name one of the same"),
    (asked(scratch={}), f"{WHERE}.methods.scratch: scratch begins with nothing that its runs share, so that they cannot be added; leave it out"),
    (asked(heur_lg={}), f"{WHERE}.methods.heur-lg: heur-lg draws blocks anew, so that its runs begin apart and cannot be added; leave it out"),
    (asked(ortho_lora={}), f"{WHERE}.methods.ortho-lora: rank 8, slot 0 (rows 0 to 7 of the basis) and rank 8, slot 0 (rows 0 to 7) overlap; give each task an entry with a slot of its own"),
    (asked(ortho_lora={"shift": "ortho-other"}), f"{WHERE}.methods.ortho-lora: entries of different basis_seed take rows of different bases; give all the same"),
    (asked(ortho_lora={"shift": "ortho-match"}), f"{WHERE}.methods.ortho-lora: with `match` its rank differs between tasks, and its slots overlap; give every entry the rank"),
    (asked(gated_lora={}), f"{WHERE}.methods.gated-lora: gated-lora leaves layers that are no plain matrices, which cannot be added; leave it out"),
    (asked(kind_all={}), f"{WHERE}.methods.kind-all: kind-all has train_dense: all, which changes what tailors share; name an entry that freezes it"),
]  # fmt: skip


@pytest.mark.parametrize("analyses, line", MISTAKES, ids=[line.partition(";")[0] for _, line in MISTAKES])
def test_one_mistake_gives_one_line(complain, analyses, line):
    message = complain(methods=METHODS, tasks=TASKS, analyses=analyses)
    assert f": 1 problem\n  1. {line}\n" in message


def test_a_mistake_elsewhere_is_not_told_twice(complain):
    assert ": 1 problem\n" in complain(tasks=[], analyses=asked())


GATED = (
    "analyses.components: looks at learngenes and tailors of backbones that methods start from, and none has tailors "
    "behind a class gate; found {}; add a method that starts from one of form kind with gate binary and num_tailors 1 "
    "or more, or leave components out"
)
WITHOUT = [
    ({"methods": {"full": {}, "lora": {"rank": 4}}}, "dense (form dense)"),
    ({"methods": {"scratch": {}}}, "no backbone at all"),
    ({"methods": {"kind-nogate": {"backbone": "kind", "num_learngenes": 8}}, "backbones.kind": KIND | {"num_tailors": 0}},
     "kind (no tailors)"),
    ({"methods": {"full": {}, "divgate": {"backbone": "kind"}}, "backbones.kind": KIND | {"gate": "soft"}},
     "kind (gate soft), dense (form dense)"),
]  # fmt: skip


@pytest.mark.parametrize("changes, found", WITHOUT, ids=[found for _, found in WITHOUT])
def test_components_need_tailors_behind_a_class_gate(complain, changes, found):
    message = complain(**changes, analyses={"components": {}})
    assert f": 1 problem\n  1. {GATED.format(found)}\n" in message


def test_components_are_no_second_mistake_of_what_cannot_be_read(complain):
    kind = complain(**{"backbones.kind": KIND | {"num_tailors": -1}}, analyses={"components": {}})
    assert ": 1 problem\n" in kind and "analyses" not in kind


OPEN = {
    "finetune.learning_rate": ...,
    "tune": {
        "tasks": {"practice": {"data": "digits", "classes": [5, 6]}},
        "learning_rate": [1.0e-3, 1.0e-2],
        "seed": 7,
    },
}
SCALES = "analyses.guidance.scales"
WRONG_SCALES = [
    ([1.5], f"{SCALES}: expected 2 or more entries, found [1.5]"),
    ([1, 1.5, 1.0], f"{SCALES}: 1 is named twice"),
    ([0.5, 1.5], f"{SCALES}.0: must be at least 1, found 0.5"),
]


def test_guidance_has_scales_of_one_or_more(load):
    assert load(**OPEN, analyses={"guidance": {"scales": [1, 1.25]}}).analyses.guidance.scales == [1.0, 1.25]


@pytest.mark.parametrize("scales, line", WRONG_SCALES, ids=[line for _, line in WRONG_SCALES])
def test_wrong_scales_give_one_line(complain, scales, line):
    assert f": 1 problem\n  1. {line}\n" in complain(**OPEN, analyses={"guidance": {"scales": scales}})


def test_guidance_needs_trials(complain):
    line = (
        "analyses.guidance: draws from trials of learning rates on the tasks of `tune`, and there is no `tune` section; "
        "add one, or leave guidance out"
    )
    assert f": 1 problem\n  1. {line}\n" in complain(analyses={"guidance": {"scales": [1.0, 1.5]}})
