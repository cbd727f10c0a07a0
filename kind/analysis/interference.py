"""Models that were adapted to classes apart, put together, and what that costs each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from kind.models.adapted_linears import plain_linear
from kind.models.dit import LABEL_TABLE, DiT
from kind.models.factorized import factorized_layers
from kind.models.plain import require_plain
from kind.models.recombine import combine


@torch.no_grad()
def add_differences(start: DiT, adapted: Sequence[DiT]) -> DiT:
    """W_0 + sum_t (W_t - W_0) for every tensor of plain models adapted from one start, their label rows in a row.

    The null label's row is one of those tensors.  Raises UserError for a model that is not plain.
    """
    for model in (start, *adapted):
        require_plain(model, "added to others")
    begun, states = start.state_dict(), [model.state_dict() for model in adapted]
    total = {
        name: tensor + sum(state[name] - tensor for state in states)
        for name, tensor in begun.items()
        if name != LABEL_TABLE
    }
    null = begun[LABEL_TABLE][-1:]
    null = null + sum(state[LABEL_TABLE][-1:] - null for state in states)
    total[LABEL_TABLE] = torch.cat([*(state[LABEL_TABLE][:-1] for state in states), null])
    together = DiT(replace(start.config, num_classes=len(total[LABEL_TABLE]) - 1))
    together.load_state_dict(total)
    return together.eval()


def side_by_side(adapted: Sequence[DiT]) -> DiT:
    """The tailors of all models behind one class gate; see `combine`.  The first one's null label row is taken."""
    return combine(adapted, null_row_of=0).eval()


@torch.no_grad()
def open_all(model: DiT) -> DiT:
    """A gated model without its gate, in place: every sample meets the learngenes and the tailors of all owners."""
    for name, layer in list(factorized_layers(model)):
        shared = (layer.learngene_u.T * layer.learngene_s) @ layer.learngene_v
        tailors = (layer.tailor_u.T * layer.tailor_s) @ layer.tailor_v
        model.set_submodule(name, plain_linear(shared + tailors, layer.bias))
    model.gate = model.factorization = None
    return model


class Cost(NamedTuple):
    """Mean loss alone and together, their difference, and the standard error of that over images (None for one)."""

    alone: float
    together: float
    difference: float
    standard_error: float | None


def cost_of_company(alone: Tensor, together: Tensor) -> Cost:
    """Of the same images and noise, so that the difference is paired.  [N], [N], float64."""
    each = together - alone
    error = float(each.std() / len(each) ** 0.5) if len(each) > 1 else None
    return Cost(float(alone.mean()), float(together.mean()), float(each.mean()), error)
