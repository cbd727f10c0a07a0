"""KIND's adaptation: how many tailors a task gets, and what is left of the backbone."""

from __future__ import annotations

import pytest
import torch

from kind.adaptation import adapt, trained_parameters
from kind.checkpoints import load_start
from kind.errors import UserError
from kind.methods import METHODS
from kind.methods.kind import tailors_per_class
from kind.models.dit import LABEL_TABLE
from kind.models.factorized import factorized_layers
from kind.models.presets import PRESETS
from kind.params.backbones import KindBackbone

KIND = METHODS["kind"]


def test_tailors_of_a_class():
    assert tailors_per_class(KIND.options(num_tailors=4), 1024, 7) == 4
    assert tailors_per_class(KIND.options(tailor_budget=100), 64, 20) == 5
    assert tailors_per_class(KIND.options(tailor_budget=100), 64, 7) == 14  # rounded down: within the budget
    width = PRESETS["L/2"].width
    assert [tailors_per_class(KIND.options(), width, classes) for classes in (1, 20, 150)] == [100, 5, 1]
    assert tailors_per_class(KIND.options(), PRESETS["B/2"].width, 20) == 3  # 75 in all: in proportion to the width


def test_a_task_has_tailors_of_its_own_on_the_backbones_learngenes(starts):
    start = load_start("kind", starts.kind)
    model = adapt(start, KIND, KIND.options(tailor_budget=20), 3, seed=0, label_table="random")
    assert {layer.ranks.tailor_counts for _, layer in factorized_layers(model)} == {(6, 6, 6)}
    assert {layer.num_learngenes for _, layer in factorized_layers(model)} == {12}
    names = {name.rsplit(".", 1)[-1] for name in trained_parameters(model) if name != LABEL_TABLE}
    assert names == {"tailor_u", "tailor_s", "tailor_v"}
    whole = load_start("kind", starts.kind).model.state_dict()
    for name, tensor in model.state_dict().items():
        if "tailor" not in name and name != LABEL_TABLE:
            assert torch.equal(tensor, whole[name]), name


def test_ranks_that_cannot_be_are_a_problem():
    shape = PRESETS["micro/2"]
    backbone = KindBackbone(form="kind", num_learngenes=6, num_tailors=4, ranks={"o": {"num_learngenes": 12}})
    assert KIND.problem(KIND.options(num_tailors=20), shape, backbone, 5, 3) is None
    assert "33 active" in KIND.problem(KIND.options(num_tailors=21), shape, backbone, 5, 3)
    assert "give one" in KIND.problem(KIND.options(num_tailors=2, tailor_budget=9), shape, backbone, 5, 3)
    assert KIND.problem(KIND.options(), shape, None, 5, 3) is None


@pytest.mark.parametrize("form, file", [("dense", "kind"), ("kind", "dense"), ("kind", "whole")])
def test_a_start_of_another_form_is_refused(starts, form, file):
    with pytest.raises(UserError, match="where .* is needed"):
        load_start(form, getattr(starts, file))


def test_a_factorized_backbone_is_no_dense_start(starts):
    with pytest.raises(UserError, match="a factorized backbone, where a dense one is needed"):
        load_start("dense", starts.whole)
