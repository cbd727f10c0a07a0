"""A KIND backbone put together anew for classes that it knows, in the size that is wanted (KIND, figure 3): learngenes
and the tailors of these classes, without the components of least energy.  Nothing is trained.

The paper shows no cut below the tailors of the kept classes; budget and rule are ours (`kind.budget`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, LearngeneStart, Method, idle_problem
from kind.models.factorization import Numbers
from kind.models.presets import Preset

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(LearngeneStart):
    """share: of the numbers in learngenes and kept tailors, 1 being all.  relative: energies are compared as shares of
    their matrix's, see `kind.budget.cut`."""

    share: Annotated[float, Field(gt=0, le=1)]
    relative: bool = True


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    """The model holds the task's classes alone (`Start.of_classes`)."""
    from kind.budget import Budget, cut
    from kind.evaluation.complexity import count_parameters
    from kind.models.factorized import factorized_layers

    if options.share == 1:
        return
    layers = [layer for _, layer in factorized_layers(model)]
    held = sum(layer.num_components * (layer.in_features + layer.out_features + 1) for layer in layers)
    allowed = count_parameters(model) - held + int(options.share * held)
    left = cut(model, Budget("parameters", allowed), relative=options.relative).model.requires_grad_(False)
    for name, layer in list(factorized_layers(left)):
        model.set_submodule(name, layer)
    model.gate, model.factorization = left.gate, left.factorization


def deployed(model: DiT, options: Options, task: Adaptation) -> dict[str, Numbers]:
    """share x what learngenes and kept tailors hold."""
    whole = model.factorization.numbers(model.config.width, task.num_classes)
    return {kind: Numbers(*(int(options.share * count) for count in numbers)) for kind, numbers in whole.items()}


def problem(options: Options, shape: Preset, backbone: object, num_seen_classes: int, num_classes: int) -> str | None:
    return idle_problem(options)


METHOD = Method(
    name="recombined",
    title="Recombined",
    source="Xie et al. 2025; the cut is ours",
    trains="nothing: learngenes and the tailors of classes of pre-training, cut to a size",
    formula="0",
    options=Options,
    start="whole",
    attach=attach,
    trainable_parameters=lambda model, options, task: 0,
    deployed=deployed,
    for_seen=True,
    trains_nothing=lambda options: True,
    estimates=lambda options: options.share < 1,
    keeps_output=lambda options: options.share == 1,
    problem=problem,
    examples=({"share": 1.0}, {"share": 0.3, "relative": False}),
)
