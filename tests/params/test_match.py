"""`match`: sizes that are found from formulas, against counts made here."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import pytest
from pydantic import Field

from kind.data.sources import SOURCES
from kind.methods import METHODS, DenseStart
from kind.models.presets import PRESETS
from kind.params import Experiment
from kind.params.match import NoMatch, Place, find_match

WIDTH, DEPTH = PRESETS["micro/2"].width, PRESETS["micro/2"].depth
LINEARS = DEPTH * ([(WIDTH, WIDTH)] * 4 + [(WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)])
TAILOR = sum(inputs + outputs + 1 for inputs, outputs in LINEARS)

COUNTS = {  # parameters of a size, from the methods' papers
    "lora": lambda r: sum(r * (i + o) for i, o in LINEARS),
    "dora": lambda r: sum(r * (i + o) + o for i, o in LINEARS),
    "pissa": lambda r: sum(r * (i + o) for i, o in LINEARS),
    "loha": lambda r: sum(2 * r * (i + o) for i, o in LINEARS),
    "diffscaler": lambda r: sum(2 * o + r * (i + o) for i, o in LINEARS),
    "ortho-lora": lambda r: sum(r * o for _, o in LINEARS),
    "oft": lambda b: sum(i // b * (b * (b - 1) // 2) for i, _ in LINEARS) if b > 1 and WIDTH % b == 0 else None,
}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("tailors", [1, 3, 6])
def test_the_size_is_the_closest_there_is(load, name, tailors):
    experiment = load(methods={"kind": {"num_tailors": tailors}, name: {"match": "kind"}})
    for task, classes in {"novel": 2, "shift": 3}.items():
        target = classes * tailors * TAILOR
        counts = {size: COUNTS[name](size) for size in range(1, WIDTH + 1)}
        counts = {size: count for size, count in counts.items() if count is not None}
        closest = min(counts, key=lambda size: (abs(counts[size] - target), size))
        found = experiment.match(name, task)
        assert (found.size, found.parameters, found.target) == (closest, counts[closest], target)
        assert getattr(experiment.method_options(name, task), found.option) == closest


def test_gated_lora_and_the_controls_count_classes(load):
    methods = {"kind": {"num_tailors": 4}, "gated-lora": {"match": "kind"},
               "kind-dense": {"num_learngenes": 20, "match": "kind"}, "label-table": {},
               "lora": {"match": "kind-half"}, "kind-half": {"method": "kind", "num_tailors": 2}}  # fmt: skip
    experiment = load(methods=methods)
    assert experiment.match("kind-dense", "novel").size == 4, "the same tailors"
    rank = experiment.match("gated-lora", "shift")
    assert rank.size == round(3 * 4 * TAILOR / (3 * COUNTS["lora"](1)))
    assert experiment.match("lora", "novel").target == 2 * 2 * TAILOR
    assert experiment.match("kind", "novel") is None


def test_a_share_is_found_to_the_parameter():
    class Options(DenseStart):
        share: Annotated[float, Field(gt=0, le=1)]

    whole = 987_654_321
    sparse = dataclasses.replace(
        METHODS["full"],
        options=Options,
        size_option="share",
        trainable_parameters=lambda model, options, task: round(options.share * whole),
    )
    place = Place(PRESETS["B/2"], None, [], 20)
    for target in (1, 12_345, 45_400_000, whole - 1):
        found = find_match(sparse, {}, place, "kind", target)
        assert found.parameters == target and 0 < found.size < 1
    assert find_match(sparse, {}, place, "kind", 2 * whole).parameters == whole


def test_more_than_any_size_gives_the_largest(load):
    experiment = load(methods={"r-amt": {}, "oft": {"match": "r-amt"}})
    found = experiment.match("oft", "novel")
    assert found.size == WIDTH and found.parameters == COUNTS["oft"](WIDTH) < found.target


def test_the_papers_size(load):
    """45.4 M parameters of KIND on DiT-L/2 are LoRA of rank 103, by the counts of the two formulas."""
    from kind.params.backbones import KindBackbone

    dense, learngenes = None, KindBackbone(form="kind", num_learngenes=274, num_tailors=5)
    shape = PRESETS["L/2"]
    kind = Place(shape, learngenes, [str(n) for n in range(150)], 20)
    target = kind.count(METHODS["kind"], METHODS["kind"].options(num_tailors=5))
    assert target == 100 * 24 * 18_438
    assert find_match(METHODS["lora"], {}, Place(shape, dense, [], 20), "kind", target).size == 100


def test_shares_of_all_weights_need_the_channels_of_the_images(load, monkeypatch):
    methods = {"kind": {"num_tailors": 4}, "sara": {"match": "kind"}, "lt-sft": {"match": "kind"}}
    experiment = load(methods=methods)
    for name in ("sara", "lt-sft"):
        found = experiment.match(name, "novel")
        assert found.parameters == found.target == 2 * 4 * TAILOR and 0 < found.size < 1
    matrices = sum(i * o for i, o in LINEARS) + DEPTH * 6 * WIDTH**2 + 4 * WIDTH + 256 * WIDTH + WIDTH**2
    matrices += 2 * WIDTH**2 + WIDTH * 4  # the final layer; digits have one channel, patches are 2 x 2
    assert round(experiment.match("sara", "novel").size * matrices) == 2 * 4 * TAILOR
    hidden = dataclasses.replace(SOURCES["digits"], channels=lambda options: None)
    monkeypatch.setitem(SOURCES, "digits", hidden)
    with pytest.raises(NoMatch, match="how much sara trains"):
        Experiment(**experiment.model_dump()).match("sara", "novel")


MISTAKES = [
    ({"lora": {"match": "kind", "rank": 4}}, "lora.match: finds rank, which the entry gives too; give one of the two"),
    ({"full": {"match": "kind"}}, "full.match: full has no option that sets how much it trains; those that have: "),
    ({"lora": {"match": "kin"}}, "lora.match: no method entry 'kin' (did you mean 'kind'?); entries: kind, lora"),
    ({"lora": {"match": "lora"}}, "lora.match: 'lora' has `match` itself; name an entry of a size of its own"),
    ({"lora": {"match": "dora"}, "dora": {"match": "kind"}},
     "lora.match: 'dora' has `match` itself; name an entry of a size of its own"),
    ({"lora": {"match": "whole"}, "whole": {"method": "kind", "num_tailors": 1, "train_dense": "all"}},
     "lora.match: how much kind trains is known only of a whole model; name an entry whose size is an option (task "
     "novel, shift)"),
    ({"lora": {"match": "floor"}, "floor": {"method": "label-table"}},
     "lora.match: floor trains nothing but label rows; name an entry that trains more (task novel, shift)"),
    ({"lora": {"match": 5}}, "lora.match: expected text, found 5; put it in quotes"),
    ({"ortho-lora": {"match": "kind", "slot": 40}},
     "ortho-lora.match: no rank is possible: impossible slot: rank 1 x (slot 40 + 1) = 41 exceeds"),
    ({"kind2": {"method": "kind", "tailor_budget": 4, "match": "kind"}},
     "kind2.match: no num_tailors is possible: num_tailors and tailor_budget are two ways to say one thing"),
]  # fmt: skip


@pytest.mark.parametrize("methods, line", MISTAKES, ids=[line for _, line in MISTAKES])
def test_a_mistake_names_its_place(complain, methods, line):
    message = complain(methods={**methods, "kind": {}})
    assert "1 problem\n" in message and f"  1. methods.{line}" in message


def test_an_ablation_needs_a_value_that_the_file_gives(complain):
    methods = {"kind": {}, "lora": {"match": "kind"}, "lora-2": {"method": "lora", "rank": 2}}
    message = complain(methods=methods, ablations={"ranks": {"axis": "rank", "entries": ["lora", "lora-2"]}})
    assert "ablations.ranks.axis: rank of lora is no value of the file, `match` finds it for each task" in message


def test_a_method_that_cannot_be_counted_before_its_model_says_so():
    with pytest.raises(NoMatch, match="how much full trains"):
        Place(PRESETS["B/2"], None, [], 20).count(METHODS["full"], METHODS["full"].options())
