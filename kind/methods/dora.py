"""DoRA (Liu et al. 2024) through peft: m (W + (alpha / r) B A) / |W + (alpha / r) B A|, the norm by output row and
detached from the gradient; m starts as the row norms of W and B as 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kind.methods import Adaptation, Method, matrices
from kind.methods.lora import Options, problem
from kind.methods.through_peft import TARGETS, inject, merge

if TYPE_CHECKING:
    from kind.models.dit import DiT


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from peft import LoraConfig

    alpha = options.rank if options.alpha is None else options.alpha
    inject(LoraConfig(r=options.rank, lora_alpha=alpha, use_dora=True, target_modules=TARGETS), model, task.seed)


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """Sum over matrices of r (in + out) + out."""
    return sum(options.rank * (inputs + outputs) + outputs for inputs, outputs in matrices(model))


METHOD = Method(
    name="dora",
    title="DoRA",
    source="Liu et al. 2024",
    trains="B A beside each matrix, and the norm of every row",
    formula="sum of r (in + out) + out",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    merge=merge,
    examples=({"rank": 4}, {"rank": 3, "alpha": 6.0}),
    size_option="rank",
    problem=problem,
)
