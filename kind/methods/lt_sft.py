"""LT-SFT, composable sparse fine-tuning (Ansell et al. 2022): fine-tune fully, keep the K entries that moved most,
rewind, and train those alone.  The sparse differences of several tasks can be added up.

Half of the steps go to each phase, and each has its own warm-up and schedule (our choice: a run costs what one of any
other method does).  An evaluation before the turn is of the K largest changes so far, with nothing retrained.  Entries
are chosen among all weights but the label table, which is trained whole with every method; the authors' L1
regularisation, by default off in their code too, is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method, num_weights, sara

if TYPE_CHECKING:
    from kind.models.dit import DiT
    from kind.training_routine import Routine, RunLength


class Options(DenseStart):
    """share: of the weights that are kept, K over their number."""

    share: Annotated[float, Field(gt=0, le=1)]


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from kind.models.sparse_deltas import add_deltas, weights_of

    add_deltas(model, weights_of(model, least_dim=1), trainable_parameters(model, options, task), learned=True)


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """share x the number of weights, the label table apart."""
    return max(1, round(options.share * num_weights(model, vectors=True)))


def routine(model: DiT, options: Options, run: RunLength) -> Routine:
    from kind.sparse_routines import LotteryRoutine

    return LotteryRoutine(model, run)


METHOD = Method(
    name="lt-sft",
    title="LT-SFT",
    source="Ansell et al. 2022",
    trains="the weights that moved most in full fine-tuning",
    formula="share x weights",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    routine=routine,
    merge=sara.merge,
    size_option="share",
    examples=({"share": 0.05}, {"share": 0.3}),
)
