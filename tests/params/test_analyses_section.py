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
    assert only_weights.interference is None


def test_an_entry_may_stand_in_for_another_on_a_task(load):
    found = load(methods=METHODS, analyses=asked(lora={}, ortho_lora={"shift": "ortho-2"})).analyses.interference
    assert [found.entry("ortho-lora", task) for task in ("novel", "shift")] == ["ortho-lora", "ortho-2"]
    assert [found.entry("lora", task) for task in ("novel", "shift")] == ["lora", "lora"]


WHERE = "analyses.interference"
MISTAKES = [
    ({}, "analyses: names no analysis; write `weights: {}`, `interference: ...` or both, or leave the section out"),
    ({"weights": None}, "analyses: names no analysis; write `weights: {}`, `interference: ...` or both, or leave the section out"),
    ({"wights": {}}, "analyses.wights: unknown key (did you mean 'weights'?); allowed: weights, interference"),
    ({"weights": {"num_vectors": 0}}, "analyses.weights.num_vectors: must be at least 1, found 0"),
    ({"weights": {"num_vectors": 33}}, "analyses.weights.num_vectors: 33 exceeds the 32 singular vectors of a matrix of width 32"),
    ({"weights": {"max_cosine": 1.5}}, "analyses.weights.max_cosine: must be at most 1, found 1.5"),
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
