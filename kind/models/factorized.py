"""Linear layers as sums of rank-1 components behind a class gate: KIND's factorized matrix.

    W = sum_i u_i s_i v_i^T                                                     (KIND, figure 3)

The first `num_learngenes` components are shared by all classes (learngenes); every class owns `num_tailors` more
(its tailors).  For a sample of class c only the learngenes and the tailors of c exist:

    y = U_G (s_G * V_G^T x) + U_c (s_c * V_c^T x) + b

Components are stored one a row, by owner, so that taking a model apart is slicing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kind.models.dit import DiT
from kind.models.gate import ClassGate

# Names of the factorized matrices in a block: q, k, v, o, in, out (the sibling paper DivControl's set).
FACTORIZED = {
    "q": "attn1.to_q",
    "k": "attn1.to_k",
    "v": "attn1.to_v",
    "o": "attn1.to_out.0",
    "in": "ff.net.0.proj",
    "out": "ff.net.2",
}
LEARNGENE_TENSORS = ("learngene_u", "learngene_s", "learngene_v")
TAILOR_TENSORS = ("tailor_u", "tailor_s", "tailor_v")


@dataclass(frozen=True)
class Factorization:
    """How many components each factorized matrix has, and what the gate does with label-dropped samples.

    null_gate: `learngenes` (a dropped label closes all tailors) or `true_class` (the true class's stay open); the
    paper does not say which.
    """

    num_learngenes: int
    num_tailors: int
    null_gate: str = "learngenes"

    def to_dict(self) -> dict:
        return asdict(self)


class FactorizedLinear(nn.Module):
    """A linear layer of learngenes and gated tailors.  [B, N, in] -> [B, N, out].

    Tensors: learngene_u [G, out], learngene_s [G], learngene_v [G, in]; tailor_u [C, T, out], tailor_s [C, T],
    tailor_v [C, T, in]; bias [out].
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_learngenes: int,
        num_tailors: int,
        gate: ClassGate,
        **tensor_options,
    ):
        super().__init__()
        owners = gate.num_classes

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape, **tensor_options))

        self.in_features, self.out_features = in_features, out_features
        self.num_learngenes, self.num_tailors = num_learngenes, num_tailors
        self.gate = gate
        self.learngene_u = parameter(num_learngenes, out_features)
        self.learngene_s = parameter(num_learngenes)
        self.learngene_v = parameter(num_learngenes, in_features)
        self.tailor_u = parameter(owners, num_tailors, out_features)
        self.tailor_s = parameter(owners, num_tailors)
        self.tailor_v = parameter(owners, num_tailors, in_features)
        self.bias = parameter(out_features)

    @property
    def num_components(self) -> int:
        return self.num_learngenes + self.tailor_s.numel()

    @property
    def num_active(self) -> int:
        """Components that one sample of a class uses."""
        return self.num_learngenes + self.num_tailors

    def forward(self, inputs: Tensor) -> Tensor:
        # All components with a mask cost one large product; gathering a class's rows costs many small ones, which
        # pays only where most components belong to other classes.
        if self.num_components <= 2 * self.num_active:
            return self.masked_product(inputs)
        return self.gathered_product(inputs)

    def masked_product(self, inputs: Tensor) -> Tensor:
        """y = U (g * s * V^T x) + b over all components, g the gate's 0/1 row.  [B, N, in] -> [B, N, out]."""
        directions = torch.cat([self.learngene_v, self.tailor_v.flatten(0, 1)])
        outputs = torch.cat([self.learngene_u, self.tailor_u.flatten(0, 1)])
        tailor_gains = (self.gate.mask(self.tailor_s.dtype)[:, :, None] * self.tailor_s).flatten(1)
        learngene_gains = self.learngene_s.expand(len(tailor_gains), -1)
        gains = torch.cat([learngene_gains, tailor_gains], dim=1)[:, None]
        return F.linear(F.linear(inputs, directions) * gains, outputs.T, self.bias)

    def gathered_product(self, inputs: Tensor) -> Tensor:
        """The same with only the rows that each sample's class owns.  [B, N, in] -> [B, N, out]."""
        shared = F.linear(F.linear(inputs, self.learngene_v) * self.learngene_s, self.learngene_u.T, self.bias)
        labels = self.gate.labels
        is_class = (labels < self.gate.num_classes).to(self.tailor_s.dtype)
        rows = labels.clamp(max=self.gate.num_classes - 1)
        gains = self.tailor_s[rows] * is_class[:, None]
        hidden = torch.bmm(inputs, self.tailor_v[rows].mT.to(inputs.dtype)) * gains[:, None]
        return shared + torch.bmm(hidden.to(inputs.dtype), self.tailor_u[rows].to(inputs.dtype))

    @torch.no_grad()
    def dense_weight(self, label: int | None) -> Tensor:
        """The matrix that a sample of this class sees; None: learngenes alone.  [out, in]."""
        weight = (self.learngene_u.T * self.learngene_s) @ self.learngene_v
        if label is not None:
            weight = weight + (self.tailor_u[label].T * self.tailor_s[label]) @ self.tailor_v[label]
        return weight


def factorized_layers(model: nn.Module) -> Iterator[tuple[str, FactorizedLinear]]:
    """Name and layer of every factorized matrix of a model, in the model's order."""
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, FactorizedLinear))


def make_room(model: DiT, factorization: Factorization) -> DiT:
    """Replace the model's dense linears (q, k, v, o, in, out of each block) by factorized ones filled with zeros."""
    model.gate = ClassGate(model.config.num_classes)
    for block in model.transformer_blocks:
        for path in FACTORIZED.values():
            dense = block.get_submodule(path)
            options = {"dtype": dense.weight.dtype, "device": dense.weight.device}
            layer = FactorizedLinear(
                dense.in_features,
                dense.out_features,
                factorization.num_learngenes,
                factorization.num_tailors,
                model.gate,
                **options,
            )
            layer.bias = dense.bias
            block.set_submodule(path, layer)
    model.factorization = factorization
    return model


def factorize(model: DiT, factorization: Factorization, seed: int) -> DiT:
    """Turn a dense DiT into a KIND model: each matrix is replaced by the components of its SVD.

    The components of largest singular value become learngenes; the others go to the classes by a seeded
    permutation.  Components beyond the matrix's rank (an overcomplete choice of ours) are random unit directions with
    singular values drawn from the spectrum.
    """
    weights = {
        (index, path): block.get_submodule(path).weight.detach().clone()
        for index, block in enumerate(model.transformer_blocks)
        for path in FACTORIZED.values()
    }
    make_room(model, factorization)
    generator = torch.Generator().manual_seed(seed)
    for (index, path), weight in weights.items():
        layer = model.transformer_blocks[index].get_submodule(path)
        _fill(layer, *_components(weight, layer.num_components, generator), generator)
    return model


def _components(weight: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """`count` components of a matrix by falling singular value.  [out, in] -> [R, out], [R], [R, in]."""
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    u, missing = u.T, count - len(s)
    if missing > 0:
        drawn = torch.randint(len(s), (missing,), generator=generator)
        u = torch.cat([u, _random_directions(missing, u.shape[1], generator).to(u)])
        v = torch.cat([v, _random_directions(missing, v.shape[1], generator).to(v)])
        s = torch.cat([s, s[drawn]])
    return u[:count], s[:count], v[:count]


def _random_directions(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Random unit rows, orthonormal in groups of at most `size`.  [count, size]."""
    groups = [
        torch.linalg.qr(torch.randn(size, min(size, count - start), generator=generator)).Q.T
        for start in range(0, count, size)
    ]
    return torch.cat(groups)


@torch.no_grad()
def _fill(layer: FactorizedLinear, u: Tensor, s: Tensor, v: Tensor, generator: torch.Generator) -> None:
    split = layer.num_learngenes
    for parameter, rows in zip((layer.learngene_u, layer.learngene_s, layer.learngene_v), (u, s, v), strict=True):
        parameter.copy_(rows[:split])
    order = split + torch.randperm(layer.num_components - split, generator=generator)
    for parameter, rows in zip((layer.tailor_u, layer.tailor_s, layer.tailor_v), (u, s, v), strict=True):
        parameter.copy_(rows[order].reshape(parameter.shape))


@torch.no_grad()
def draw_tailors(layer: FactorizedLinear, start: str, generator: torch.Generator, gain: float = 1.0) -> None:
    """Fresh tailors for unseen classes, in place.

    start: `random` takes components of the SVD of a fresh Xavier draw of the whole matrix, as pre-training starts;
    `zero` does the same with u = 0, so that the layer's output is unchanged at first (the choices are ours).
    gain: the matrix's in DiT's initialisation.
    """
    weight = torch.empty(layer.out_features, layer.in_features)
    nn.init.xavier_uniform_(weight, gain=gain, generator=generator)
    count = layer.tailor_s.numel()
    u, s, v = _components(weight, max(count, min(weight.shape)), generator)
    chosen = torch.randperm(len(s), generator=generator)[:count]
    layer.tailor_u.copy_(u[chosen].reshape(layer.tailor_u.shape) if start == "random" else torch.zeros(()))
    layer.tailor_s.copy_(s[chosen].reshape(layer.tailor_s.shape))
    layer.tailor_v.copy_(v[chosen].reshape(layer.tailor_v.shape))
