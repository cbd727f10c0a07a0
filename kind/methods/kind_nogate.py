"""KIND without the gate in pre-training, a control of ours: a backbone that was pre-trained in factorized form with all
components shared (`num_tailors: 0`) is cut to the N_G components of largest energy of each matrix, which stand in for
learngenes; then KIND's adaptation, fresh tailors and all.

What `kind` reaches beyond this is what the gate in pre-training adds to the factorized form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kind.methods import Adaptation, Method, kind, kind_dense

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(kind_dense.Options):
    backbone: str = "kind-nogate"


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from kind.models.adapted_linears import plain_linear
    from kind.models.factorized import factorized_layers

    for name, layer in list(factorized_layers(model)):
        model.set_submodule(name, plain_linear(layer.dense_weight(None), layer.bias))
    model.gate = None
    kind_dense.attach(model.requires_grad_(False), options, task)


METHOD = Method(
    name="kind-nogate",
    title="KIND without the gate",
    source="control",
    trains="fresh tailors; the N_G largest components of a backbone without tailors frozen",
    formula="sum of classes N_T (in + out + 1)",
    options=Options,
    start="kind",
    attach=attach,
    trainable_parameters=kind.trainable_parameters,
    keeps_output=lambda options: False,
    examples=({"num_learngenes": 10}, {"num_learngenes": 8, "tailor_start": "zero", "num_tailors": 2}),
    problem=kind_dense.problem,
)
