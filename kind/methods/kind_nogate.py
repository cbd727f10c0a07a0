"""KIND without the gate in pre-training, a control of ours: a backbone that was pre-trained in factorized form with all
components shared (`num_tailors: 0`) is cut to the N_G components of largest energy of each matrix, which stand in for
learngenes; then KIND's adaptation, fresh tailors and all.

What `kind` reaches beyond this is what the gate in pre-training adds to the factorized form.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, Method, kind
from kind.models.factorization import Factorization, Numbers
from kind.models.presets import Preset

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(kind.Options):
    """num_learngenes: components that are kept; for a fair comparison, those of the backbone of `kind`."""

    backbone: str = "kind-nogate"
    num_learngenes: Annotated[int, Field(ge=1)]


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from kind.models.adapted_linears import plain_linear
    from kind.models.factorized import factorize, factorized_layers

    shared = model.factorization
    for name, layer in list(factorized_layers(model)):
        model.set_submodule(name, plain_linear(layer.dense_weight(None), layer.bias))
    model.requires_grad_(False)
    factorize(model, Factorization(options.num_learngenes, 0, shared.null_gate, shared.matrices), seed=0)
    kind.attach(model, options, task)


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """KIND's, beside the components that are kept."""
    return kind.count_trained(model, _kept(model, options), options, task)


def deployed(model: DiT, options: Options, task: Adaptation) -> dict[str, Numbers]:
    return kind.held_by(model, _kept(model, options), options, task)


def _kept(model: DiT, options: Options) -> Factorization:
    return Factorization(options.num_learngenes, 0, matrices=model.factorization.matrices)


def problem(options: Options, shape: Preset, backbone: object, num_seen_classes: int, num_classes: int) -> str | None:
    if backbone is not None and (backbone.num_tailors or backbone.class_tailors or backbone.groups):
        return "its backbone has tailors of classes; this control needs one that shares all (`num_tailors: 0`)"
    if backbone is not None and backbone.ranks:
        return "its backbone has `ranks` of single matrices; this control keeps one number in all of them"
    if backbone is not None and options.num_learngenes > backbone.num_learngenes:
        return (
            f"num_learngenes {options.num_learngenes} are to be kept, but the backbone has {backbone.num_learngenes} "
            "components"
        )
    cut = SimpleNamespace(most_learngenes=options.num_learngenes, has_tailors=False)
    return kind.problem(options, shape, cut, num_seen_classes, num_classes)


METHOD = Method(
    name="kind-nogate",
    title="KIND without the gate",
    source="control",
    trains="fresh tailors; the N_G largest components of a backbone without tailors frozen",
    formula="classes x N_T x sum of (in + out + 1)",
    options=Options,
    start="kind",
    attach=attach,
    trainable_parameters=trainable_parameters,
    deployed=deployed,
    keeps_output=lambda options: False,
    examples=({"num_learngenes": 10}, {"num_learngenes": 8, "tailor_start": "zero", "num_tailors": 2}),
    size_option="num_tailors",
    problem=problem,
)
