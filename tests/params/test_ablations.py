"""The `ablations` section: what an axis may be, what entries stand for, and what a mistake reads like."""

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


VARIANTS = {
    "backbones": {
        "dense": {"form": "dense"},
        "kind": {"form": "kind", "num_learngenes": 20, "num_tailors": 4},
        "kind-null": {"form": "kind", "num_learngenes": 20, "num_tailors": 4, "null_gate": "true_class"},
        "kind-svd": {"form": "kind", "num_learngenes": 20, "num_tailors": 4, "start": "dense"},
        "kind-qk": {"form": "kind", "num_learngenes": 20, "num_tailors": 4, "matrices": ["q", "k"]},
        "kind-over": {"form": "kind", "num_learngenes": 20, "num_tailors": 4, "overcomplete": True},
        "kind-soft": {"form": "kind", "num_learngenes": 20, "num_tailors": 4, "gate": "soft"},
    },
    "methods": {
        "kind": {"num_tailors": 2},
        "zero": {"method": "kind", "num_tailors": 2, "tailor_start": "zero"},
        "trained": {"method": "kind", "num_tailors": 2, "learngenes": "trained"},
        "null": {"method": "kind", "num_tailors": 2, "backbone": "kind-null"},
        "null-task": {"method": "kind", "num_tailors": 2, "null_gate": "true_class"},
        "svd": {"method": "kind", "num_tailors": 2, "backbone": "kind-svd"},
        "qk": {"method": "kind", "num_tailors": 2, "backbone": "kind-qk"},
        "divgate": {},
        "over": {"method": "kind", "num_tailors": 2, "backbone": "kind-over"},
    },
}


@pytest.mark.parametrize(
    "axis, values",
    [
        ("tailor_start", {"kind": "random", "zero": "zero"}),
        ("learngenes", {"kind": "frozen", "trained": "trained"}),
        ("null_gate", {"kind": "learngenes", "null": "true_class"}),  # of the backbone where the entry gives none
        ("null_gate", {"kind": "learngenes", "null-task": "true_class"}),
        ("start", {"kind": "none", "svd": "dense"}),  # a fresh draw is a choice too
        ("backbone", {"kind": "kind", "svd": "kind-svd"}),
        ("gate", {"kind": "binary", "divgate": "soft"}),
        ("matrices", {"kind": "q, k, v, o, in, out", "qk": "q, k"}),
        ("overcomplete", {"kind": "no", "over": "yes"}),
    ],
)
def test_an_axis_may_be_a_choice(load, axis, values):
    experiment = load(**VARIANTS, ablations={"one": {"axis": axis, "entries": [*values]}})
    (found,) = experiment.ablation_settings
    assert (
        found.values == values and not found.is_numeric and found.measured is None and found.base == next(iter(values))
    )


def test_entries_may_stand_for_themselves_or_for_words(load):
    words = {"trained": "all", "kind": "tailors alone"}
    experiment = load(
        **VARIANTS,
        ablations={
            "words": {"entries": words},
            "listed": {"entries": ["zero", "trained"]},
            "based": {"entries": ["kind", "zero"], "base": "zero"},
            "size": {"axis": "deployed_parameters", "entries": ["svd", "kind"]},
        },
    )
    by_name = {one.name: one for one in experiment.ablation_settings}
    assert by_name["words"].values == words
    assert by_name["listed"].values == {"zero": None, "trained": None}
    assert {name: one.base for name, one in by_name.items()} == {
        "words": "kind", "listed": "zero", "based": "zero", "size": "kind",  # kind where it takes part, else the first
    }  # fmt: skip
    assert by_name["size"].measured == "deployed" and not by_name["size"].is_numeric


def test_entries_of_a_family_differ_in_numbers_alone(load):
    methods = VARIANTS["methods"] | {"more": {"method": "kind", "num_tailors": 3}}
    entries = ["kind", "more", "zero", "svd", "divgate"]
    size = {"axis": "deployed_parameters", "entries": entries}
    (one,) = load(**VARIANTS | {"methods": methods}, ablations={"size": size}).ablation_settings
    same = {label for label in entries if one.families[label] == one.families["kind"]}
    assert same == {"kind", "more"} and one.families["divgate"][0] == "divgate"
    assert one.backbones == {"kind", "kind-svd", "kind-soft"}


FORM = "expected a list of methods entries, or a mapping of such entries to words for each, found"
MISTAKES = [
    ({"entries": ["lora-r2", "lorra"]}, "ranks.entries: no method entry 'lorra' (did you mean 'lora'?); "),
    ({"entries": ["lora-r2", "lora", "lora"]}, "ranks.entries: 'lora' is named twice"),
    ({"entries": ["lora"]}, "ranks.entries: an ablation compares two entries or more, found 1"),
    ({"entries": "lora"}, f"ranks.entries: {FORM} 'lora'"),
    ({"entries": ["lora", 2]}, f"ranks.entries: {FORM} ['lora', 2]"),
    ({"entries": {"lora": "wide", "lora-r2": " "}}, f"ranks.entries: {FORM} "),
    ({"axis": "rnk"}, "ranks.axis: 'rnk' is no option of lora-r2 (did you mean 'rank'?); its options: learning_rate, "),
    ({"axis": "json"}, "ranks.axis: 'json' is no option of lora-r2; its options: "),
    ({"axis": "deployed"}, "ranks.axis: 'deployed' is no option of lora-r2 (did you mean 'deployed_macs'?); "),
    ({"axis": "alpha"}, "ranks.axis: lora-r2 gives no alpha; an axis needs a value in every entry"),
    ({"axis": "backbone"}, "ranks: lora-r2, lora have the same backbone dense; each needs its own, or words in the "),
    ({"axis": "learning_rate"}, "ranks: lora-r2, lora have the same learning_rate 0.001; each needs its own"),
    ({"axes": 1}, "ranks.axes: unknown key (did you mean 'axis'?); allowed: axis, entries, base"),
    ({"axis": 5}, "ranks.axis: expected text, found 5"),
    ({"base": "full"}, "ranks.base: 'full' is none of its entries; entries: lora-r2, lora"),
    ({"base": "lora-2"}, "ranks.base: 'lora-2' is none of its entries (did you mean 'lora-r2'?); entries: "),
    ({"entries": {"lora": "a", "lora-r2": "b"}}, "ranks: the axis rank and words of entries both say what an entry "),
    (
        {"axis": None, "entries": {"lora": "small", "lora-r2": "small"}},
        "ranks.entries: lora, lora-r2 have the same words 'small'; each needs its own",
    ),
]


@pytest.mark.parametrize("changes, line", MISTAKES, ids=[str(changes) for changes, _ in MISTAKES])
def test_a_mistake_names_its_place_and_what_is_allowed(complain, changes, line):
    assert f"  1. ablations.{line}" in complain(**ablation(**changes))


def test_a_size_that_is_found_for_each_task_is_no_place_on_an_axis(complain):
    methods = METHODS | {"lora-same": {"method": "lora", "match": "kind"}}
    message = complain(methods=methods, ablations={"ranks": RANKS | {"entries": ["lora", "lora-same"]}})
    assert (
        "1. ablations.ranks.axis: rank of lora-same is no value of the file, `match` finds it for each task; use words "
        "in the place of the axis (entries: {ENTRY: words})\n"
    ) in message


def test_a_mistake_in_an_entry_is_told_once(complain):
    methods = METHODS | {"lora-r2": {"method": "lora", "rank": "2"}}
    message = complain(methods=methods, ablations={"ranks": RANKS})
    assert "1 problem\n" in message and "methods.lora-r2.rank: '2' is text" in message


def test_what_is_neither_number_nor_choice_is_no_axis(complain):
    backbones = VARIANTS["backbones"] | {
        "kind": VARIANTS["backbones"]["kind"] | {"ranks": {"o": {"num_learngenes": 12}}},
    }
    message = complain(
        backbones=backbones,
        methods=VARIANTS["methods"],
        ablations={"ranks": {"axis": "ranks", "entries": ["kind", "svd"]}},
    )
    assert "ablations.ranks.axis: ranks of kind is no number and no choice; an axis is one or the other" in message
