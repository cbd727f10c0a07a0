"""Model soup (Wortsman et al. 2022): the mean of the weights of several runs of one method from one start, which differ
in their options (learning rate, rank, ...), for each task and seed.  It trains nothing itself.

Means are taken of whole weight matrices, not of a method's factors.  The greedy soup keeps a run where the denoising
loss on the task's validation images does not rise (ours: the authors had an accuracy).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kind.methods import DenseStart, Method, full


class Options(DenseStart):
    """of: the methods entries whose runs are averaged.  draws: of noise and timestep for each validation image."""

    of: Annotated[list[str], Field(min_length=2)]
    choose: Literal["uniform", "greedy"] = "uniform"
    draws: Annotated[int, Field(ge=1)]


METHOD = Method(
    name="soup",
    title="Model soup",
    source="Wortsman et al. 2022",
    trains="nothing: the mean of runs of another method",
    formula="all",
    options=Options,
    start="dense",
    attach=full.attach,
    trainable_parameters=full.trainable_parameters,
    combines=True,
    examples=({"of": ["first", "second"], "draws": 2},),
)
