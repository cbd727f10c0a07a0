"""LoRA (Hu et al. 2022) through peft: W + (alpha / r) B A on the six matrices of each block, B = 0 at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method, matrices
from kind.methods.through_peft import TARGETS, inject, merge
from kind.models.presets import Preset

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(DenseStart):
    rank: Annotated[int, Field(ge=1)]
    alpha: Annotated[float, Field(gt=0)] | None = None  # None: alpha = rank, a scale of 1


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from peft import LoraConfig

    alpha = options.rank if options.alpha is None else options.alpha
    inject(LoraConfig(r=options.rank, lora_alpha=alpha, target_modules=TARGETS), model, task.seed)


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """Sum over matrices of r (in + out)."""
    return sum(options.rank * (inputs + outputs) for inputs, outputs in matrices(model))


def problem(options: Options, shape: Preset, backbone: object, num_seen_classes: int, num_classes: int) -> str | None:
    if options.rank > shape.width:
        return f"impossible rank: {options.rank} exceeds the rank {shape.width} of a matrix of width {shape.width}"
    return None


METHOD = Method(
    name="lora",
    title="LoRA",
    source="Hu et al. 2022",
    trains="B A beside each matrix",
    formula="sum of r (in + out)",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    merge=merge,
    examples=({"rank": 4}, {"rank": 3, "alpha": 6.0}),
    size_option="rank",
    problem=problem,
)
