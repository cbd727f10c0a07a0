"""OFT (Qiu et al. 2023) through peft: the inputs of each matrix are turned by a block-diagonal orthogonal R, block by
block the Cayley transform R = (I - Q)(I + Q)^-1 of a skew-symmetric Q, which is 0 at the start.

The paper turns the outputs, R W; peft turns the inputs, W R, which has the same number of parameters for square
matrices.  The Cayley transform is exact here (peft's default is a series of five terms).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method, matrices
from kind.methods.through_peft import TARGETS, inject, merge
from kind.models.presets import Preset

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(DenseStart):
    block_size: Annotated[int, Field(ge=2)]


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from peft import OFTConfig

    config = OFTConfig(r=0, oft_block_size=options.block_size, use_cayley_neumann=False, target_modules=TARGETS)
    inject(config, model, task.seed)


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """Sum over matrices of (in / b) b (b - 1) / 2."""
    size = options.block_size
    return sum(inputs // size * (size * (size - 1) // 2) for inputs, _ in matrices(model))


def problem(options: Options, shape: Preset, backbone: object, num_seen_classes: int, num_classes: int) -> str | None:
    if shape.width % options.block_size:
        return f"block_size {options.block_size} does not divide the width {shape.width}"
    return None


METHOD = Method(
    name="oft",
    title="OFT",
    source="Qiu et al. 2023",
    trains="a rotation of each matrix's inputs by blocks of b",
    formula="sum of in (b - 1) / 2",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    merge=merge,
    examples=({"block_size": 32}, {"block_size": 8}),
    size_option="block_size",
    problem=problem,
)
