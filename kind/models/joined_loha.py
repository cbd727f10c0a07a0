"""peft's LoHa layer with one product instead of two."""

from __future__ import annotations

import torch.nn.functional as F
from peft.tuners.loha.layer import Linear
from torch import Tensor, nn


class JoinedLoHa(Linear):
    """(W + dW) x + b.  peft computes W x + b and dW x, although dW is a whole matrix: two products for one."""

    def forward(self, inputs: Tensor) -> Tensor:
        base = self.get_base_layer()
        return F.linear(inputs, base.weight + self.get_delta_weight(self.active_adapters[0]), base.bias)


def join_products(model: nn.Module) -> None:
    """Let the model's LoHa layers, as peft made them, compute it so; names and parameters stay."""
    for layer in model.modules():
        if type(layer) is Linear:
            layer.__class__ = JoinedLoHa
