"""The `ablations` section: which numbers an axis may be, and what a mistake reads like."""

from __future__ import annotations

import pytest

METHODS = {"kind": {}, "full": {}, "lora": {"rank": 4}, "lora-r2": {"method": "lora", "rank": 2}, "scratch": {}}
RANKS = {"axis": "rank", "entries": ["lora-r2", "lora"]}


def ablation(**changes):
    return {"methods": METHODS, "ablations": {"ranks": RANKS | changes}}


def test_an_axis_is_an_option_of_the_method(load):
    experiment = load(**ablation())
    assert [experiment.axis_value(label, "rank") for label in RANKS["entries"]] == [2, 4]


def test_an_axis_may_be_the_common_learning_rate_or_a_number_of_the_backbone(load):
    backbones = {
        "dense": {"form": "dense"},
        "kind": {"form": "kind", "num_learngenes": 20, "num_tailors": 4},
        "kind-g8": {"form": "kind", "num_learngenes": 8, "num_tailors": 4},
    }
    methods = {"kind": {}, "kind-g8": {"method": "kind", "backbone": "kind-g8"}, "full": {},
               "full-slow": {"method": "full", "learning_rate": 5.0e-4}}  # fmt: skip
    experiment = load(
        methods=methods,
        backbones=backbones,
        ablations={
            "learngenes": {"axis": "num_learngenes", "entries": ["kind", "kind-g8"]},
            "rate": {"axis": "learning_rate", "entries": ["full", "full-slow"]},
        },
    )
    assert [experiment.axis_value(label, "num_learngenes") for label in ("kind", "kind-g8")] == [20, 8]
    assert [experiment.axis_value(label, "learning_rate") for label in ("full", "full-slow")] == [1e-3, 5e-4]


MISTAKES = [
    ({"entries": ["lora-r2", "lorra"]}, "ranks.entries: no method entry 'lorra' (did you mean 'lora'?); "),
    ({"entries": ["lora-r2", "lora", "lora"]}, "ranks.entries: 'lora' is named twice"),
    ({"entries": ["lora"]}, "ranks.entries: an ablation compares two entries or more, found 1"),
    ({"axis": "rnk"}, "ranks.axis: 'rnk' is no option of lora-r2 (did you mean 'rank'?); its options: learning_rate, "),
    ({"axis": "alpha"}, "ranks.axis: lora-r2 gives no alpha; an axis needs a number in every entry"),
    ({"axis": "backbone"}, "ranks.axis: backbone of lora-r2 is no number; an axis is a number"),
    ({"axis": "learning_rate"}, "ranks: lora-r2, lora have the same learning_rate 0.001; each needs its own"),
    ({"axes": 1}, "ranks.axes: unknown key (did you mean 'axis'?); allowed: axis, entries"),
    ({"axis": 5}, "ranks.axis: expected text, found 5"),
]


@pytest.mark.parametrize("changes, line", MISTAKES, ids=[str(changes) for changes, _ in MISTAKES])
def test_a_mistake_names_its_place_and_what_is_allowed(complain, changes, line):
    assert f"  1. ablations.{line}" in complain(**ablation(**changes))


def test_a_mistake_in_an_entry_is_told_once(complain):
    methods = METHODS | {"lora-r2": {"method": "lora", "rank": "2"}}
    message = complain(methods=methods, ablations={"ranks": RANKS})
    assert "1 problem\n" in message and "methods.lora-r2.rank: '2' is text" in message
