"""What a model costs: parameters and multiply-accumulates of one forward pass."""

from __future__ import annotations

import torch
from torch import nn

from kind.models.dit import DiT
from kind.models.factorized import FactorizedLinear


def count_parameters(model: nn.Module) -> int:
    """All parameters, each once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_active_parameters(model: DiT) -> int:
    """All parameters but, for a gated model, the tailors of all classes save one (the label table counts whole)."""
    idle = 0
    for layer in model.modules():
        if isinstance(layer, FactorizedLinear):
            others = layer.gate.num_classes - 1
            idle += max(0, others) * layer.num_tailors * (layer.in_features + layer.out_features + 1)
    return count_parameters(model) - idle


def count_macs(model: DiT) -> int:
    """Multiply-accumulates of one forward pass for one conditional image.

    Counts products of linears, the patch convolution and the two products of attention; the label and timestep
    embedders run once.  A factorized matrix counts its active components, R_active (in + out + 1) a token.
    Norms, activations and additions are left out, as is usual.
    """
    config = model.config
    tokens, total = config.num_tokens, 0
    for name, layer in model.named_modules():
        once = name.startswith("embedder.") or name == "proj_out_1" or name.endswith("norm1.linear")
        times = 1 if once else tokens
        if isinstance(layer, FactorizedLinear):
            total += times * layer.num_active * (layer.in_features + layer.out_features + 1)
        elif isinstance(layer, nn.Linear):
            total += times * layer.in_features * layer.out_features
        elif isinstance(layer, nn.Conv2d):
            total += times * layer.weight.numel()
    return total + config.depth * 2 * tokens * tokens * config.width


@torch.no_grad()
def describe_cost(model: DiT) -> dict[str, int]:
    """Parameters and MACs of a model as it is deployed."""
    return {
        "deployed": count_parameters(model),
        "active": count_active_parameters(model),
        "macs": count_macs(model),
    }
