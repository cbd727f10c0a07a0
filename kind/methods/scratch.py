"""Training from scratch: the same network and steps without any pre-training, the floor of every comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kind.methods import Adaptation, Method, MethodOptions, num_weights

if TYPE_CHECKING:
    from kind.models.dit import DiT


def attach(model: DiT, options: MethodOptions, task: Adaptation) -> None:
    model.requires_grad_(True)


def trainable_parameters(model: DiT, options: MethodOptions, task: Adaptation) -> int:
    return num_weights(model, vectors=True)


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
