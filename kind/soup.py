"""Model soups (Wortsman et al. 2022): the mean of the weights of models that were fine-tuned from one start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


class Choice(NamedTuple):
    """members: indices of the models in the soup, in the order in which they were put in.  losses: of each model alone
    (None where nobody asked).  loss: the soup's."""

    members: list[int]
    losses: list[float] | None = None
    loss: float | None = None


def mean_weights(models: Sequence[Weights]) -> dict[str, Tensor]:
    """Tensor by tensor, summed in float64."""
    return {
        name: (sum(model[name].double() for model in models) / len(models)).to(first.dtype)
        for name, first in models[0].items()
    }


def greedy_soup(models: Sequence[Weights], loss_of: Callable[[Weights], float]) -> Choice:
    """Their recipe 1: best model first, each next one is kept where the held-out loss of the mean does not rise."""
    losses = [loss_of(model) for model in models]
    first, *rest = sorted(range(len(models)), key=lambda index: losses[index])
    members, best = [first], losses[first]
    for index in rest:
        loss = loss_of(mean_weights([models[member] for member in (*members, index)]))
        if loss <= best:
            members, best = [*members, index], loss
    return Choice(members, losses, best)


def uniform_soup(models: Sequence[object]) -> Choice:
    return Choice(list(range(len(models))))


def floats_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """What is averaged of a plain model: its parameters."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}
