"""R-AMT (Zheng et al. 2023): the weights are frozen and a binary mask over them is learned, W' = 1[score >= t] * W, by
the straight-through gradient.

Ours are the choices to mask the six matrices of each block (the authors mask attention alone in vision-language models)
and to leave out their gradient dropout; threshold and start of the scores are Piggyback's (Mallya et al. 2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kind.methods import Adaptation, DenseStart, Method, fold_linears, matrices

if TYPE_CHECKING:
    from kind.models.dit import DiT


def attach(model: DiT, options: DenseStart, task: Adaptation) -> None:
    from kind.models.adapted_linears import MaskedLinear, replace_linears

    replace_linears(model, MaskedLinear)


def trainable_parameters(model: DiT, options: DenseStart, task: Adaptation) -> int:
    """A score for each weight of the matrices: sum of in out."""
    return sum(inputs * outputs for inputs, outputs in matrices(model))


METHOD = Method(
    name="r-amt",
    title="R-AMT",
    source="Zheng et al. 2023",
    trains="a binary mask over each matrix",
    formula="sum of in out",
    options=DenseStart,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    merge=fold_linears,
)
