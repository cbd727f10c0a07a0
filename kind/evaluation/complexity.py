"""What a model costs: parameters and multiply-accumulates of one forward pass."""

from __future__ import annotations

import torch
from torch import nn

from kind.models.dit import DiT, DiTConfig
from kind.models.factorized import FactorizedLinear


def count_parameters(model: nn.Module) -> int:
    """All parameters, each once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_active_parameters(model: DiT) -> int:
    """Of a gated model, all parameters but the tailors that a sample of its largest class does not use (the label table
    counts whole)."""
    idle = [
        sum(
            (layer.num_components - layer.num_active(label)) * (layer.in_features + layer.out_features + 1)
            for layer in model.modules()
            if isinstance(layer, FactorizedLinear)
        )
        for label in _labels(model)
    ]
    return count_parameters(model) - min(idle)


def count_macs(model: DiT) -> int:
    """Multiply-accumulates of one forward pass for one conditional image, of the class that costs most.

    Counts products of linears, the patch convolution and the two products of attention; the label and timestep
    embedders run once.  A factorized matrix counts its active components, R_active (in + out + 1) a token.
    Norms, activations and additions are left out, as is usual.
    """
    return max(_macs_of_class(model, label) for label in _labels(model))


def _labels(model: DiT) -> list[int | None]:
    """The classes of a gated model, or None for one that has no tailors."""
    return list(range(model.gate.num_classes)) or [None] if model.gate is not None else [None]


def _macs_of_class(model: DiT, label: int | None) -> int:
    config = model.config
    tokens, total = config.num_tokens, 0
    for name, layer in model.named_modules():
        times = products_per_image(config, name)
        if isinstance(layer, FactorizedLinear):
            total += times * layer.num_active(label) * (layer.in_features + layer.out_features + 1)
        elif isinstance(layer, nn.Linear):
            total += times * layer.in_features * layer.out_features
        elif isinstance(layer, nn.Conv2d):
            total += times * layer.weight.numel()
    return total + config.depth * 2 * tokens * tokens * config.width


def products_per_image(config: DiTConfig, name: str) -> int:
    """How often the linear called `name` is applied to one image: once a token, but for what reads the conditioning,
    or the class alone."""
    once = name.startswith(("embedder.", "class_shares.")) or name == "proj_out_1" or ".norm1.linear" in name
    return 1 if once else config.num_tokens


@torch.no_grad()
def describe_cost(model: DiT) -> dict[str, int]:
    """Parameters and MACs of a model as it is deployed."""
    return {
        "deployed": count_parameters(model),
        "active": count_active_parameters(model),
        "macs": count_macs(model),
    }
