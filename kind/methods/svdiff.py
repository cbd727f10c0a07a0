"""SVDiff (Han et al. 2023): the SVD of each matrix is frozen but for shifts d of its singular values,
W' = U diag(relu(s + d)) V^T, d = 0 at the start; vectors (biases) are trained at a thousandth of the shifts' rate.

Ours is to treat the six matrices of each block only; the authors treat every weight of their U-Net.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method, bitfit, fold_linears, matrices

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(DenseStart):
    """vectors: whether biases are trained too.  vector_rate: their learning rate over that of the shifts."""

    vectors: bool = True
    vector_rate: Annotated[float, Field(gt=0)]


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from kind.models.adapted_linears import SpectralShift, replace_linears

    if options.vectors:
        bitfit.attach(model, options, task)
    replace_linears(model, SpectralShift)


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """Sum over matrices of min(in, out), and all biases."""
    shifts = sum(min(inputs, outputs) for inputs, outputs in matrices(model))
    return shifts + (bitfit.trainable_parameters(model, options, task) if options.vectors else 0)


def rate_scales(model: DiT, options: Options) -> dict[str, float]:
    trained = (name for name, parameter in model.named_parameters() if parameter.requires_grad)
    return {name: options.vector_rate for name in trained if name.endswith(".bias")}


METHOD = Method(
    name="svdiff",
    title="SVDiff",
    source="Han et al. 2023",
    trains="shifts of the singular values; biases, slowly",
    formula="sum of min(in, out), and all biases",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    rate_scales=rate_scales,
    merge=fold_linears,
    examples=({"vector_rate": 0.01}, {"vectors": False, "vector_rate": 0.01}),
)
