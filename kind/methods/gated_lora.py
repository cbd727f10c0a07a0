"""Gated LoRA, a control of ours: one low-rank adapter a class beside each matrix of a frozen *dense* backbone, chosen
by the class gate, y = W x + b + (alpha / r) B_c A_c x, B_c = 0 at the start.

It has the gate and the per-class parameters of KIND's adaptation, but neither learngenes nor KIND's pre-training: what
it reaches is what the gate alone does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kind.methods import Adaptation, Method, lora, matrices
from kind.models.factorization import FACTORIZED, Numbers, matrix_shape

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(lora.Options):
    """null_gate: whether samples without a label see the backbone alone or keep their class's adapter; for a fair
    comparison with `kind`, that of its backbone."""

    null_gate: Literal["learngenes", "true_class"] = "learngenes"


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from kind.models.adapted_linears import gate_adapters

    alpha = options.rank if options.alpha is None else options.alpha
    gate_adapters(model, task.num_classes, options.rank, alpha / options.rank, options.null_gate, task.seed)


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """Classes times the sum over matrices of r (in + out)."""
    return task.num_classes * sum(options.rank * (inputs + outputs) for inputs, outputs in matrices(model))


def deployed(model: DiT, options: Options, task: Adaptation) -> dict[str, Numbers]:
    """The plain matrix, and beside it a component of in + out + 1 numbers for each class and rank, and a bias of 0."""
    found = {}
    for name in FACTORIZED:
        inputs, outputs = matrix_shape(name, model.config.width)
        own = options.rank * (inputs + outputs + 1)
        found[name] = Numbers(inputs * outputs + task.num_classes * own + outputs, inputs * outputs + own)
    return found


METHOD = Method(
    name="gated-lora",
    title="Gated LoRA",
    source="control",
    trains="B A of each class beside each matrix",
    formula="classes x sum of r (in + out)",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    deployed=deployed,
    has_plain_form=False,
    examples=({"rank": 2}, {"rank": 3, "alpha": 6.0, "null_gate": "true_class"}),
    size_option="rank",
    problem=lora.problem,
)
