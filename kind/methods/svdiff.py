"""SVDiff (Han et al. 2023): the SVD of each matrix is frozen but for shifts d of its singular values,
W' = U diag(relu(s + d)) V^T, d = 0 at the start.

The authors also train biases, at a rate a thousand times lower than that of the shifts; that is left out here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kind.methods import Adaptation, DenseStart, Method, fold_linears, matrices

if TYPE_CHECKING:
    from kind.models.dit import DiT


def attach(model: DiT, options: DenseStart, task: Adaptation) -> None:
    from kind.models.adapted_linears import SpectralShift, replace_linears

    replace_linears(model, SpectralShift)


def trainable_parameters(model: DiT, options: DenseStart, task: Adaptation) -> int:
    """Sum over matrices of min(in, out)."""
    return sum(min(inputs, outputs) for inputs, outputs in matrices(model))


METHOD = Method(
    name="svdiff",
    title="SVDiff",
    source="Han et al. 2023",
    trains="shifts of the singular values",
    formula="sum of min(in, out)",
    options=DenseStart,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    merge=fold_linears,
)
