"""PiSSA (Meng et al. 2024) through peft: B and A start as the r principal components of W, U_r sqrt(S_r) and
sqrt(S_r) V_r^T, and the rest of W is frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method
from kind.methods.through_peft import TARGETS, inject, matrices, merge, rank_problem
from kind.models.presets import Preset

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(DenseStart):
    rank: Annotated[int, Field(ge=1)]


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from peft import LoraConfig

    start = "pissa"  # by an exact SVD, so that the frozen rest is the same whenever it is attached again
    config = LoraConfig(r=options.rank, lora_alpha=options.rank, init_lora_weights=start, target_modules=TARGETS)
    inject(config, model, task.seed)


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """Sum over matrices of r (in + out)."""
    return sum(options.rank * (inputs + outputs) for inputs, outputs in matrices(model))


def problem(options: Options, shape: Preset, backbone: object, num_seen_classes: int, num_classes: int) -> str | None:
    return rank_problem(options.rank, shape)


METHOD = Method(
    name="pissa",
    title="PiSSA",
    source="Meng et al. 2024",
    trains="B A of the r largest components",
    formula="sum of r (in + out)",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    merge=merge,
    examples=({"rank": 4},),
    problem=problem,
)
