"""SaRA (Hu et al. 2024): the weights of smallest magnitude, of little effect in the backbone, are trained; all others
are frozen.

Each step adds lambda times the nuclear norm of one random weight matrix, masked to its trained entries.  After half the
steps those that have outgrown the threshold stay as they are, the others are trained on, and the optimiser begins anew.
The authors give the threshold; here it is the quantile that leaves `share` of the weights trained (our choice, so that
methods compare at equal numbers of parameters), over all matrices of the model but the label table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method, num_weights

if TYPE_CHECKING:
    from kind.models.dit import DiT
    from kind.training_routine import Routine, RunLength


class Options(DenseStart):
    """share: of the weights that are trained.  rank_penalty: lambda."""

    share: Annotated[float, Field(gt=0, le=1)]
    rank_penalty: Annotated[float, Field(ge=0)]


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from kind.models.sparse_deltas import add_deltas, smallest, weights_of

    weights = weights_of(model, least_dim=2)
    count = trainable_parameters(model, options, task)
    deltas = add_deltas(model, weights, count, learned=False)
    if not deltas.values.is_meta:
        deltas.put(smallest(list(weights.values()), count))


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """share x the number of weights in matrices, the label table apart."""
    return max(1, round(options.share * num_weights(model, vectors=False)))


def routine(model: DiT, options: Options, run: RunLength) -> Routine:
    from kind.sparse_routines import SaraRoutine

    return SaraRoutine(model, run, options.rank_penalty)


def merge(model: DiT) -> DiT:
    from kind.models.sparse_deltas import fold_deltas

    return fold_deltas(model)


METHOD = Method(
    name="sara",
    title="SaRA",
    source="Hu et al. 2024",
    trains="the weights of smallest magnitude",
    formula="share x weights in matrices",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    routine=routine,
    merge=merge,
    size_option="share",
    examples=({"share": 0.05, "rank_penalty": 5e-4}, {"share": 0.3, "rank_penalty": 0.0}),
)
