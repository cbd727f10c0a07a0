"""Only the rows of the new labels (and the null label's) are trained: the floor that every method stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kind.methods import Adaptation, DenseStart, Method

if TYPE_CHECKING:
    from kind.models.dit import DiT


def attach(model: DiT, options: DenseStart, task: Adaptation) -> None:
    """Nothing to do: the table is trained with every method."""


def trainable_parameters(model: DiT, options: DenseStart, task: Adaptation) -> int:
    """None beside the label table, which is counted apart."""
    return 0


METHOD = Method(
    name="label-table",
    title="Label table",
    source="control",
    trains="only the label table, as every method does",
    formula="0",
    options=DenseStart,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
)
