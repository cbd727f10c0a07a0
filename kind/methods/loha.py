"""LoHa (Hyeon-Woo et al. 2022; LyCORIS) through peft: W + (alpha / r) (W1a W1b) * (W2a W2b), * elementwise; one of the
four factors is 0 at the start, so the product reaches rank r^2 with the parameters of rank 2 r."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method, lora, matrices
from kind.methods.through_peft import TARGETS, inject, merge

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(DenseStart):
    rank: Annotated[int, Field(ge=1)]
    alpha: Annotated[float, Field(gt=0)] | None = None  # None: alpha = rank, a scale of 1


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from peft import LoHaConfig

    from kind.models.joined_loha import join_products

    alpha = options.rank if options.alpha is None else options.alpha
    inject(LoHaConfig(r=options.rank, alpha=alpha, target_modules=TARGETS), model, task.seed)
    join_products(model)


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """Sum over matrices of 2 r (in + out)."""
    return sum(2 * options.rank * (inputs + outputs) for inputs, outputs in matrices(model))


METHOD = Method(
    name="loha",
    title="LoHa",
    source="Hyeon-Woo et al. 2022",
    trains="two products of rank r, multiplied elementwise",
    formula="sum of 2 r (in + out)",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    merge=merge,
    examples=({"rank": 4}, {"rank": 3, "alpha": 6.0}),
    size_option="rank",
    problem=lora.problem,
)
