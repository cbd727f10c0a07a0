"""Auto-LG (Wang et al. 2023), our port to DiT: the first blocks of a dense backbone are inherited, with the embedders
and the final layer; the other blocks start anew, and everything is trained.

The method finds the blocks by meta-learning; the first half is what the later comparison code of its first author
inherits (0 to 5 of 12); how KIND's authors put the method on DiT is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method, full
from kind.methods.heur_lg import num_inherited, renew_other_blocks

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(DenseStart):
    share: Annotated[float, Field(gt=0, le=1)]  # of the blocks, rounded, at least one


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    renew_other_blocks(model, range(num_inherited(options.share, model.config.depth)), task.seed)


METHOD = Method(
    name="auto-lg",
    title="Auto-LG",
    source="Wang et al. 2023, our port",
    trains="everything; the first half of the blocks is inherited",
    formula="all",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=full.trainable_parameters,
    keeps_output=lambda options: options.share == 1.0,
    renews=True,
    examples=({"share": 0.5}, {"share": 1.0}),
)
