"""A dense backbone cut by SVD, a control of ours for `recombined`: the same matrices of an ordinary pre-trained DiT,
cut by the same rule to the same number of parameters.  Nothing is trained.

What `recombined` reaches beyond this is what learngenes and tailors are worth to someone who needs few classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method, idle_problem
from kind.models.factorization import FACTORIZED, MATRICES, Numbers, matrix_shape
from kind.models.presets import Preset

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(DenseStart):
    """like: the factorized backbone whose components of the task's classes would be the whole; share: of their numbers,
    as `recombined` has it.  No more is left than the matrices have.

    components: how many these are of each kind of matrix, which the params find; they are what is kept with a model.
    relative: energies are compared as shares of their matrix's, see `kind.models.low_rank.prune`.
    """

    share: Annotated[float, Field(gt=0, le=1)]
    like: str = Field("kind", exclude=True)  # a name alone: its components say all that decides a result
    components: Annotated[dict[Literal[tuple(MATRICES)], Annotated[int, Field(ge=1)]], Field(min_length=1)]
    relative: bool = True


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from kind.models.low_rank import prune

    numbers = model.config.depth * _numbers_of_block(options, model.config.width)
    prune(model, list(options.components), int(options.share * numbers), relative=options.relative)
    model.requires_grad_(False)


def deployed(model: DiT, options: Options, task: Adaptation) -> dict[str, Numbers]:
    """share x sum of components x (in + out + 1), in proportion to the matrices' entries; at most these."""
    width = model.config.width
    sizes = {kind: matrix_shape(kind, width) for kind in options.components}
    entries = {kind: inputs * outputs for kind, (inputs, outputs) in sizes.items()}
    left = options.share * _numbers_of_block(options, width) / sum(entries.values())
    counts = {kind: int(min(1, left) * count) for kind, count in entries.items()}
    return {kind: Numbers(count, count) for kind, count in counts.items()}


def _numbers_of_block(options: Options, width: int) -> int:
    """That the components of a recombined model of these classes hold in each block."""
    return sum(count * (sum(matrix_shape(kind, width)) + 1) for kind, count in options.components.items())


def problem(options: Options, shape: Preset, backbone: object, num_seen_classes: int, num_classes: int) -> str | None:
    return idle_problem(options)


METHOD = Method(
    name="svd-pruned",
    title="Dense, pruned by SVD",
    source="control",
    trains="nothing: the matrices of a dense backbone, cut to the size of a recombined model",
    formula="0",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=lambda model, options, task: 0,
    deployed=deployed,
    for_seen=True,
    trains_nothing=lambda options: True,
    estimates=lambda options: True,
    keeps_output=lambda options: False,
    has_plain_form=False,
    problem=problem,
    finds=("components",),
    examples=(
        {"share": 1.0, "components": dict.fromkeys(FACTORIZED, 18)},
        {"share": 0.5, "components": {"adaln": 18, "q": 18, "out": 24}, "relative": False},
    ),
)
