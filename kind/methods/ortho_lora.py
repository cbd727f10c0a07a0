"""Orthogonal Adaptation (Po et al. 2024): W + A B^T, B a frozen slice of an orthonormal basis that all runs share, A
trained and 0 at the start.

Runs with different slots of the basis change a matrix in orthogonal directions of its input, so that what they learned
for different classes can be added up.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method, fold_linears, matrices
from kind.models.presets import Preset

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(DenseStart):
    """slot: which `rank` rows of the basis this run has.  basis_seed: the same for runs that are to be added up."""

    rank: Annotated[int, Field(ge=1)]
    slot: Annotated[int, Field(ge=0)] = 0
    basis_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    import torch

    from kind.models.adapted_linears import OrthogonalLinear, replace_linears
    from kind.random_streams import derive_seed

    first, last = options.rank * options.slot, options.rank * (options.slot + 1)
    positions = count()

    def make(linear: torch.nn.Linear) -> OrthogonalLinear:
        generator = torch.Generator().manual_seed(derive_seed(options.basis_seed, "basis", next(positions)))
        # row by row: what torch draws at once depends on how much that is, and all slots must share the first rows
        rows = [torch.randn(linear.in_features, generator=generator, device="cpu") for _ in range(last)]
        basis = torch.linalg.qr(torch.stack(rows).T).Q.T
        return OrthogonalLinear(linear, basis[first:])

    replace_linears(model, make)


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """Sum over matrices of r out."""
    return sum(options.rank * outputs for _, outputs in matrices(model))


def problem(options: Options, shape: Preset, backbone: object, num_seen_classes: int, num_classes: int) -> str | None:
    needed = options.rank * (options.slot + 1)
    if needed > shape.width:
        return (
            f"impossible slot: rank {options.rank} x (slot {options.slot} + 1) = {needed} exceeds the {shape.width} "
            f"directions of a matrix of width {shape.width}"
        )
    return None


METHOD = Method(
    name="ortho-lora",
    title="Orthogonal Adaptation",
    source="Po et al. 2024",
    trains="A beside each matrix, B a frozen orthonormal slice",
    formula="sum of r out",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    merge=fold_linears,
    examples=({"rank": 8}, {"rank": 4, "slot": 3}),
    size_option="rank",
    problem=problem,
)
