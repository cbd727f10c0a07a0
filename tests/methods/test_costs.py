"""Costs from sizes alone are those that are counted on models: of every method, and of backbones of every kind."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from every_method import attached, each_method, start_of

from kind.costs import Network, adapted_cost, backbone_cost
from kind.evaluation.complexity import describe_cost
from kind.methods import METHODS
from kind.models.dit import DiT, DiTConfig
from kind.models.factorization import Factorization, SoftGating
from kind.models.factorized import make_room
from kind.models.presets import PRESETS


@each_method
def test_an_adapted_model_costs_what_the_formula_says(name, given, starts):
    model, options = attached(name, given, starts)
    found = describe_cost(METHODS[name].merged(model))
    learned = start_of(name, starts).model.factorization if METHODS[name].start not in ("dense", None) else None
    cost = adapted_cost(Network(PRESETS["micro/2"], 8, 3, False), learned, METHODS[name], options, 3)
    if METHODS[name].estimates(options):
        largest = 7 * 32 + 1  # numbers of a component: that of AdaLN
        assert 0 <= cost.parameters + 2 * 7 - found["deployed"] < largest + 2 * 7, "parts are rounded down"
        assert cost.macs < 2 * found["macs"] and found["macs"] < 2 * cost.macs
    else:
        assert (cost.parameters, cost.macs) == (found["deployed"], found["macs"])


@pytest.mark.parametrize(
    "factorization",
    [
        None,
        Factorization(20, 3),
        Factorization(20, (3, 0, 9), groups=(((1, 2), 5), ((0,), 11)), overcomplete=True),
        Factorization({"adaln": 12, "q": 7, "out": 30}, {"adaln": 2, "q": 1, "out": 4}, matrices=("adaln", "q", "out")),
        Factorization(20, 0, groups=(((0, 1, 2), 40),), soft=SoftGating((16, 8), "tailors", embedding_size=64)),
    ],
    ids=["dense", "kind", "groups", "kinds of matrices", "soft"],
)
@pytest.mark.parametrize("learned_variance", [False, True])
def test_a_backbone_costs_what_the_formula_says(factorization, learned_variance):
    config = DiTConfig(*PRESETS["S/2"], 32, 4, num_classes=3, learned_variance=learned_variance)
    with torch.device("meta"):
        model = DiT(config)
        if factorization is not None:
            make_room(model, factorization)
    found = describe_cost(model)
    cost = backbone_cost(Network(PRESETS["S/2"], 32, 4, learned_variance), factorization, 3)
    assert (cost.parameters, cost.macs) == (found["deployed"], found["macs"])


def test_the_formulas_need_no_torch():
    code = "import sys, kind.costs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
