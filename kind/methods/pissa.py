"""PiSSA (Meng et al. 2024) through peft: B and A start as the r principal components of W, U_r sqrt(S_r) and
sqrt(S_r) V_r^T, and the rest of W is frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method, lora
from kind.methods.through_peft import TARGETS, inject, merge

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(DenseStart):
    rank: Annotated[int, Field(ge=1)]


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from peft import LoraConfig

    start = "pissa"  # by an exact SVD, so that the frozen rest is the same whenever it is attached again
    config = LoraConfig(r=options.rank, lora_alpha=options.rank, init_lora_weights=start, target_modules=TARGETS)
    inject(config, model, task.seed)


METHOD = Method(
    name="pissa",
    title="PiSSA",
    source="Meng et al. 2024",
    trains="B A of the r largest components",
    formula="sum of r (in + out)",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=lora.trainable_parameters,
    merge=merge,
    examples=({"rank": 4},),
    size_option="rank",
    problem=lora.problem,
)
