"""What methods put in the place of a dense DiT's linears; those with `weight` and `bias` fold into plain ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kind.models.dit import DiT
from kind.models.factorization import FACTORIZED, Factorization, LayerRanks
from kind.models.factorized import FactorizedLinear
from kind.models.gate import ClassGate


class SpectralShift(nn.Module):
    """U diag(relu(s + d)) V^T x + b, the SVD of a linear's weight with trainable shifts d (SVDiff).

    d starts at 0.  [..., in] -> [..., out].  The SVD is a buffer that is not saved: it follows from the backbone.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        u, s, v = torch.linalg.svd(linear.weight.detach(), full_matrices=False)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.shift = nn.Parameter(torch.zeros_like(s))
        self.bias = linear.bias
        for name, tensor in {"u": u, "s": s, "v": v}.items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def weight(self) -> Tensor:
        return (self.u * F.relu(self.s + self.shift)) @ self.v

    def forward(self, inputs: Tensor) -> Tensor:
        # the weight costs in * out * rank once; two thin products would cost rank * (in + out) for every token
        return F.linear(inputs, self.weight, self.bias)


class ScaledLinear(nn.Module):
    """gamma * (W x + b), gamma [out] starting at 1 (DiffFit)."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.linear = linear
        self.gamma = nn.Parameter(torch.ones_like(linear.bias))

    @property
    def weight(self) -> Tensor:
        return self.gamma[:, None] * self.linear.weight

    @property
    def bias(self) -> Tensor:
        return self.gamma * self.linear.bias

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs) * self.gamma


class BottleneckLinear(nn.Module):
    """(1 + a) * W x + c + b + scale W_up relu(W_down x)   (DiffScaler).

    a, c [out] and W_up [out, r] start at 0, W_down [r, in] as torch starts a linear.  No plain linear computes this.
    """

    def __init__(self, linear: nn.Linear, rank: int, scale: float, generator: torch.Generator):
        super().__init__()
        self.linear, self.scale = linear, scale
        options = {"bias": False, "dtype": linear.weight.dtype, "device": linear.weight.device}
        self.down = nn.Linear(linear.in_features, rank, **options)
        self.up = nn.Linear(rank, linear.out_features, **options)
        bound = linear.in_features**-0.5
        drawn = torch.empty(self.down.weight.shape, device="cpu").uniform_(-bound, bound, generator=generator)
        with torch.no_grad():
            self.down.weight.copy_(drawn)
            self.up.weight.zero_()
        self.gain = nn.Parameter(torch.zeros_like(linear.bias))
        self.shift = nn.Parameter(torch.zeros_like(linear.bias))

    def forward(self, inputs: Tensor) -> Tensor:
        # few sums over all tokens, for each holds memory as large as the output
        bent = F.linear(F.relu(self.down(inputs)), self.scale * self.up.weight, self.linear.bias + self.shift)
        return torch.addcmul(bent, F.linear(inputs, self.linear.weight), 1 + self.gain)


class OrthogonalLinear(nn.Module):
    """W x + b + A B^T x, B [in, r] a frozen orthonormal slice, A [out, r] starting at 0 (Orthogonal Adaptation)."""

    def __init__(self, linear: nn.Linear, basis: Tensor):
        super().__init__()
        self.linear = linear
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, len(basis)))
        self.register_buffer("basis", basis.to(linear.weight), persistent=False)  # [r, in], drawn again on loading

    @property
    def weight(self) -> Tensor:
        return self.linear.weight + self.up @ self.basis

    @property
    def bias(self) -> Tensor:
        return self.linear.bias

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs) + F.linear(F.linear(inputs, self.basis), self.up)


class MaskedLinear(nn.Module):
    """(1[score >= threshold] * W) x + b, W frozen, the mask learned straight-through (Piggyback; R-AMT).

    Scores start above the threshold, so that every weight is kept at first.
    """

    THRESHOLD, START = 0.005, 0.01  # Piggyback's (Mallya et al. 2018)

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self.register_buffer("frozen", linear.weight.detach(), persistent=False)
        self.score = nn.Parameter(torch.full_like(linear.weight, self.START))

    @property
    def weight(self) -> Tensor:
        kept = (self.score >= self.THRESHOLD).to(self.score.dtype)
        mask = kept + (self.score - self.score.detach())  # its value is `kept`, its gradient that of the score
        return mask * self.frozen

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.weight, self.bias)


class GatedLinear(nn.Module):
    """W x + b + sum_i u_i s_i v_i^T x over the tailors of the sample's class: a gated adapter on a dense matrix."""

    def __init__(self, linear: nn.Linear, rank: int, gate: ClassGate):
        super().__init__()
        self.linear = linear
        ranks = LayerRanks(0, (rank,) * gate.num_owners)
        options = {"dtype": linear.weight.dtype, "device": linear.weight.device}
        self.adapters = FactorizedLinear(linear.in_features, linear.out_features, ranks, gate, **options)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs) + self.adapters(inputs)


def gate_adapters(model: DiT, num_classes: int, rank: int, scale: float, null_gate: str, seed: int) -> DiT:
    """Put a zero-output adapter of every class beside each matrix, behind one gate, in place; u and v are trained.

    As LoRA starts: u = 0, v drawn from U(-1, 1) / sqrt(in); s = scale.
    """
    model.gate, model.factorization = ClassGate(num_classes), Factorization(0, rank, null_gate)
    generator = torch.Generator().manual_seed(seed)

    def make(linear: nn.Linear) -> GatedLinear:
        layer = GatedLinear(linear, rank, model.gate)
        adapters, bound = layer.adapters.requires_grad_(False), linear.in_features**-0.5
        drawn = torch.empty(adapters.tailor_v.shape, device="cpu").uniform_(-bound, bound, generator=generator)
        with torch.no_grad():
            adapters.tailor_v.copy_(drawn)
            adapters.tailor_s.fill_(scale)
        adapters.tailor_u.requires_grad_(True)
        adapters.tailor_v.requires_grad_(True)
        return layer

    return replace_linears(model, make)


def replace_linears(model: DiT, make: Callable[[nn.Linear], nn.Module]) -> DiT:
    """Put make(linear) in the place of q, k, v, o, in and out of every block, in place."""
    for block in model.transformer_blocks:
        for path in FACTORIZED.values():
            block.set_submodule(path, make(block.get_submodule(path)))
    return model


@torch.no_grad()
def fold(model: DiT) -> DiT:
    """The same function with plain linears, in place."""
    for block in model.transformer_blocks:
        for path in FACTORIZED.values():
            layer = block.get_submodule(path)
            if not isinstance(layer, nn.Linear):
                block.set_submodule(path, plain_linear(layer.weight, layer.bias))
    return model


def plain_linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer of this weight [out, in] and bias [out]."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
    linear.weight, linear.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return linear
