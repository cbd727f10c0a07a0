"""Heur-LG (Wang et al. 2022), our port to DiT: the last blocks of a dense backbone are inherited, with the embedders
and the final layer; the other blocks start anew, and everything is trained.

The last quarter is what the later comparison code of the method's first author inherits (3 of 12 blocks); how KIND's
authors put the method on DiT is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method, full

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(DenseStart):
    share: Annotated[float, Field(gt=0, le=1)]  # of the blocks, rounded, at least one


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    inherited = range(model.config.depth - num_inherited(options.share, model.config.depth), model.config.depth)
    renew_other_blocks(model, inherited, task.seed)


def num_inherited(share: float, depth: int) -> int:
    return max(1, round(share * depth))


def renew_other_blocks(model: DiT, inherited: range, seed: int) -> None:
    """Blocks that are not inherited start as a fresh DiT's do; everything is trained."""
    from kind.models.dit import build_dit

    fresh = build_dit(model.config, seed)
    for index in set(range(model.config.depth)) - set(inherited):
        model.transformer_blocks[index].load_state_dict(fresh.transformer_blocks[index].state_dict())
    model.requires_grad_(True)


METHOD = Method(
    name="heur-lg",
    title="Heur-LG",
    source="Wang et al. 2022, our port",
    trains="everything; the last quarter of the blocks is inherited",
    formula="all",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=full.trainable_parameters,
    keeps_output=lambda options: options.share == 1.0,
    renews=True,
    examples=({"share": 0.5}, {"share": 1.0}),
)
