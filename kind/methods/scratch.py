"""Training from scratch: the same network and steps without any pre-training, the floor of every comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kind.methods import Adaptation, Method, MethodOptions

if TYPE_CHECKING:
    from kind.models.dit import DiT


def attach(model: DiT, options: MethodOptions, task: Adaptation) -> None:
    model.requires_grad_(True)


def trainable_parameters(model: DiT, options: MethodOptions, task: Adaptation) -> int:
    return sum(parameter.numel() for parameter in model.parameters()) - model.label_table.numel()


METHOD = Method(
    name="scratch",
    title="From scratch",
    source="control",
    trains="everything, from fresh weights",
    formula="all",
    options=MethodOptions,
    start=None,
    attach=attach,
    trainable_parameters=trainable_parameters,
)
