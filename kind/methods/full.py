"""Full fine-tuning: every parameter of a dense backbone is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kind.methods import Adaptation, DenseStart, Method, num_weights

if TYPE_CHECKING:
    from kind.models.dit import DiT


def attach(model: DiT, options: DenseStart, task: Adaptation) -> None:
    model.requires_grad_(True)


def trainable_parameters(model: DiT, options: DenseStart, task: Adaptation) -> int:
    """All but the label table, which is counted apart for every method."""
    return num_weights(model, vectors=True)


METHOD = Method(
    name="full",
    title="Full fine-tuning",
    source="the ordinary way",
    trains="everything",
    formula="all",
    options=DenseStart,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
)
