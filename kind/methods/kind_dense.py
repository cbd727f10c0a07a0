"""KIND on a dense backbone, a control of ours: each matrix of an ordinary pre-trained DiT is cut by its SVD to the
N_G components of largest singular value, which stand in for learngenes; then KIND's adaptation, fresh tailors and all.

What `kind` reaches beyond this is what pre-training in factorized form, with the gate, adds.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from kind.methods import Adaptation, Method, kind
from kind.models.factorization import FACTORIZED, MATRICES, Factorization, Numbers
from kind.models.presets import Preset

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(kind.Options):
    """num_learngenes: components that are kept, of each of these matrices.  For a fair comparison with `kind`, these
    options and null_gate are those of the factorized backbone."""

    backbone: str = "dense"
    num_learngenes: Annotated[int, Field(ge=1)]
    matrices: Annotated[list[Literal[tuple(MATRICES)]], Field(min_length=1)] = list(FACTORIZED)
    null_gate: Literal["learngenes", "true_class"] = "learngenes"


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from kind.models.factorized import factorize

    factorize(model, _cut(options), seed=0)  # nothing is left over to be shared out
    kind.attach(model, options, task)


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """KIND's, beside the components that are kept."""
    return kind.count_trained(model, _cut(options), options, task)


def deployed(model: DiT, options: Options, task: Adaptation) -> dict[str, Numbers]:
    return kind.held_by(model, _cut(options), options, task)


def _cut(options: Options) -> Factorization:
    return Factorization(options.num_learngenes, 0, matrices=tuple(options.matrices))


def problem(options: Options, shape: Preset, backbone: object, num_seen_classes: int, num_classes: int) -> str | None:
    cut = SimpleNamespace(most_learngenes=options.num_learngenes, has_tailors=False)
    return kind.problem(options, shape, cut, num_seen_classes, num_classes)


METHOD = Method(
    name="kind-dense",
    title="KIND on a dense backbone",
    source="control",
    trains="fresh tailors; the N_G largest components of a dense backbone frozen",
    formula="classes x N_T x sum of (in + out + 1)",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    deployed=deployed,
    keeps_output=lambda options: False,
    examples=(
        {"num_learngenes": 12},
        {"num_learngenes": 20, "tailor_start": "zero", "num_tailors": 2, "matrices": ["adaln", "q"]},
    ),
    size_option="num_tailors",
    problem=problem,
)
