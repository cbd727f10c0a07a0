"""What the methods that peft has share: the names of the matrices, seeded injection, folding into plain linears.

peft's version is pinned by the lock file and stands in every job's record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
