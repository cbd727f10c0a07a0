"""What the methods that peft has share: which matrices they change, seeded injection, folding into plain linears.

peft's version is pinned by the lock file and stands in every job's record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kind.methods import block_linears
from kind.models.presets import Preset

if TYPE_CHECKING:
    from kind.models.dit import DiT

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]


def inject(config: Any, model: DiT, seed: int) -> None:
    """Put a peft config's adapters into the model; peft draws their start from the global generator."""
    import torch
    from peft import inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)


def merge(model: DiT) -> DiT:
    """The same function with every adapted matrix as a plain linear, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    return model


def matrices(model: DiT) -> list[tuple[int, int]]:
    """(in, out) of all matrices that are changed, in all blocks."""
    return model.config.depth * block_linears(shape_of(model))


def shape_of(model: DiT) -> Preset:
    return Preset(model.config.depth, model.config.width, model.config.num_heads, model.config.patch_size)
