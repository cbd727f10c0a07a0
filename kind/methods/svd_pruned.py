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
    """num_learngenes, num_tailors (of each class), matrices: of the factorized backbone, whose kept classes' components
    would be the whole; share: of their numbers, as `recombined` has it.  No more is left than the matrices have.

    relative: energies are compared as shares of their matrix's, see `kind.models.low_rank.prune`.
    """

    share: Annotated[float, Field(gt=0, le=1)]
    num_learngenes: Annotated[int, Field(ge=1)]
    num_tailors: Annotated[int, Field(ge=0)]
    matrices: Annotated[list[Literal[tuple(MATRICES)]], Field(min_length=1)] = list(FACTORIZED)
    relative: bool = True


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from kind.models.low_rank import prune

    numbers = model.config.depth * _numbers_of_block(options, model.config.width, task.num_classes)
    prune(model, options.matrices, int(options.share * numbers), relative=options.relative)
    model.requires_grad_(False)


def deployed(model: DiT, options: Options, task: Adaptation) -> dict[str, Numbers]:
    """share x (N_G + classes x N_T) x sum of (in + out + 1), in proportion to the matrices' entries; at most these."""
    width = model.config.width
    sizes = {kind: matrix_shape(kind, width) for kind in options.matrices}
    entries = {kind: inputs * outputs for kind, (inputs, outputs) in sizes.items()}
    left = options.share * _numbers_of_block(options, width, task.num_classes) / sum(entries.values())
    counts = {kind: int(min(1, left) * count) for kind, count in entries.items()}
    return {kind: Numbers(count, count) for kind, count in counts.items()}


def _numbers_of_block(options: Options, width: int, num_classes: int) -> int:
    """That the components of a recombined model of these classes hold in each block."""
    components = options.num_learngenes + num_classes * options.num_tailors
    return components * sum(sum(matrix_shape(kind, width)) + 1 for kind in options.matrices)


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
    examples=(
        {"share": 1.0, "num_learngenes": 12, "num_tailors": 2},
        {"share": 0.5, "num_learngenes": 12, "num_tailors": 2, "relative": False, "matrices": ["adaln", "q", "out"]},
    ),
)
