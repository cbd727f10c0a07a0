"""Linear layers as sums of rank-1 components behind a class gate: KIND's factorized matrix.

    W = sum_i u_i s_i v_i^T                                                     (KIND, figure 3)

The first components are shared by all classes (learngenes); every class, or group of classes, owns a few more (its
tailors).  For a sample of class c only the learngenes and the tailors that c uses exist:

    y = U_G (s_G * V_G^T x) + U_c (s_c * V_c^T x) + b

Components are stored one a row, by owner, so that taking a model apart is slicing.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kind.models.dit import DiT
from kind.models.factorization import FACTORIZED, MATRICES, Factorization, LayerRanks
from kind.models.gate import ClassGate
from kind.models.gated_product import chunked_product, gathered_product
from kind.models.soft_gate import ClassShares, SoftGate

__all__ = ["FACTORIZED", "MATRICES", "Factorization", "LayerRanks"]  # and what is defined here
LEARNGENE_TENSORS = ("learngene_u", "learngene_s", "learngene_v")
TAILOR_TENSORS = ("tailor_u", "tailor_s", "tailor_v")


class FactorizedLinear(nn.Module):
    """A linear layer of learngenes and gated tailors.  [B, ..., in] -> [B, ..., out].

    Tensors: learngene_u [G, out], learngene_s [G], learngene_v [G, in]; tailor_u [K, out], tailor_s [K],
    tailor_v [K, in], where K counts the tailors of all owners, stored by owner; bias [out].
    """

    def __init__(self, in_features: int, out_features: int, ranks: LayerRanks, gate: ClassGate, **tensor_options):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.gate = gate

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape, **tensor_options))

        self.learngene_u = parameter(ranks.num_learngenes, out_features)
        self.learngene_s = parameter(ranks.num_learngenes)
        self.learngene_v = parameter(ranks.num_learngenes, in_features)
        self.bias = parameter(out_features)
        self.renew_tailors(ranks)

    def renew_tailors(self, ranks: LayerRanks) -> None:
        """Room, filled with zeros, for the tailors of the gate's owners."""
        assert len(ranks.tailor_counts) == self.gate.num_owners, "a number of tailors for each owner"
        self.ranks = ranks
        for name, shape in zip(TAILOR_TENSORS, ((self.out_features,), (), (self.in_features,)), strict=True):
            rows = torch.zeros(ranks.num_tailors, *shape, dtype=self.bias.dtype, device=self.bias.device)
            setattr(self, name, nn.Parameter(rows))

    @property
    def num_learngenes(self) -> int:
        return self.ranks.num_learngenes

    @property
    def num_components(self) -> int:
        return self.ranks.num_learngenes + self.ranks.num_tailors

    def num_active(self, label: int | None) -> int:
        """Components that a sample of this class uses; None: learngenes alone."""
        return self.num_learngenes + sum(self.ranks.tailor_counts[owner] for owner in self.gate.owners_of(label))

    def rows_of_owner(self, owner: int) -> slice:
        return self.ranks.rows_of_owner(owner)

    def rows_of(self, label: int | None) -> list[slice]:
        """Rows of the tailors that a class uses: its own, then its groups'; none for the null class and None."""
        return [self.rows_of_owner(owner) for owner in self.gate.owners_of(label)]

    def components_of(self, label: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """The tailors (u, s, v) that a class uses.  [k, out], [k], [k, in]."""
        rows = self.rows_of(label) or [slice(0, 0)]
        u, s, v = (torch.cat([getattr(self, name)[own] for own in rows]) for name in TAILOR_TENSORS)
        return u, s, v

    def share_of(self, label: int) -> float | Tensor:
        """What a class multiplies the tailors by that it uses; 1 behind a binary gate."""
        return 1.0

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.device.type == "cpu" and not torch.compiler.is_compiling():
            return chunked_product(self, inputs)
        return gathered_product(self, inputs)

    def masked_product(self, inputs: Tensor) -> Tensor:
        """y = U (g * s * V^T x) + b over all components, g the gate's 0/1 row: the form that defines the others."""
        directions = torch.cat([self.learngene_v, self.tailor_v])
        outputs = torch.cat([self.learngene_u, self.tailor_u])
        owners = [owner for owner, count in enumerate(self.ranks.tailor_counts) for _ in range(count)]
        mask = self.gate.mask(self.tailor_s.dtype)[:, torch.tensor(owners, dtype=torch.long, device=inputs.device)]
        gains = torch.cat([self.learngene_s.expand(len(mask), -1), mask * self.tailor_s], dim=1)
        gains = gains.unflatten(0, (-1, *[1] * (inputs.dim() - 2)))
        return F.linear(F.linear(inputs, directions) * gains, outputs.T, self.bias)

    @torch.no_grad()
    def dense_weight(self, label: int | None) -> Tensor:
        """The matrix that a sample of this class sees; None: learngenes alone.  [out, in]."""
        u, s, v = self.components_of(label)
        return (self.learngene_u.T * self.learngene_s) @ self.learngene_v + (u.T * s) @ v


class SoftLinear(FactorizedLinear):
    """A linear layer of learngenes and tailors that every class uses in shares of its own (a soft gate).

    y = U_G (s_G * V_G^T x) + U_T ((alpha * s_T) * V_T^T x) + b, alpha the sample's row of the gate; a class's shares
    fold into s, so that `components_of` and `dense_weight` are those of the function.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        return self.masked_product(inputs)

    def masked_product(self, inputs: Tensor) -> Tensor:
        """As written above, all components in one product."""
        shares = self.gate.shares.to(self.tailor_s)
        directions = torch.cat([self.learngene_v * self.learngene_s[:, None], self.tailor_v * self.tailor_s[:, None]])
        outputs = torch.cat([self.learngene_u, self.tailor_u])
        gains = torch.cat([shares.new_ones(len(shares), self.num_learngenes), shares], dim=1)
        gains = gains.unflatten(0, (-1, *[1] * (inputs.dim() - 2)))
        hidden = F.linear(inputs, directions)
        return F.linear(hidden * gains.to(hidden.dtype), outputs.T, self.bias)

    def components_of(self, label: int | None) -> tuple[Tensor, Tensor, Tensor]:
        u, s, v = super().components_of(label)
        return u, s * self.share_of(label) if len(s) else s, v

    def share_of(self, label: int) -> Tensor:
        return self.gate.share_of(label).to(self.tailor_s)


def factorized_layers(model: nn.Module) -> Iterator[tuple[str, FactorizedLinear]]:
    """Name and layer of every factorized matrix of a model, in the model's order."""
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, FactorizedLinear))


def make_room(model: DiT, factorization: Factorization) -> DiT:
    """Replace the model's dense linears that are to be factorized by factorized ones filled with zeros."""
    num_classes, soft = model.config.num_classes, factorization.soft
    model.gate = ClassGate(num_classes, factorization.group_classes)
    if soft is not None:
        ((_, num_tailors),) = factorization.groups
        model.class_shares = ClassShares(num_classes, num_tailors, soft.hidden, soft.scale, soft.embedding_size)
        model.class_shares.to(model.label_table)
        model.gate = SoftGate(model.class_shares, factorization.group_classes)
    kind_of_layer = FactorizedLinear if soft is None else SoftLinear
    for name, _ in factorization.layers(model.config.depth):
        dense = model.get_submodule(name)
        options = {"dtype": dense.weight.dtype, "device": dense.weight.device}
        ranks = factorization.layer_ranks(name, num_classes)
        layer = kind_of_layer(dense.in_features, dense.out_features, ranks, model.gate, **options)
        layer.bias = dense.bias
        model.set_submodule(name, layer)
    model.factorization = factorization
    return model


def factorize(model: DiT, factorization: Factorization, seed: int) -> DiT:
    """Turn a dense DiT into a KIND model: each matrix is replaced by the components of its SVD.

    The components of largest singular value become learngenes; the others go to the owners by a seeded permutation.
    Components beyond the matrix's rank (an overcomplete choice of ours) are random unit directions with singular
    values drawn from the spectrum.
    """
    weights = {
        name: model.get_submodule(name).weight.detach().clone() for name, _ in factorization.layers(model.config.depth)
    }
    make_room(model, factorization)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in weights.items():
        layer = model.get_submodule(name)
        _fill(layer, *_components(weight, layer.num_components, generator), generator)
    if model.gate.soft:
        model.class_shares.draw(generator)
    return model


def _components(weight: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """`count` components of a matrix by falling singular value.  [out, in] -> [R, out], [R], [R, in].

    A matrix of zeros (AdaLN at the start) has no singular directions: those of a Xavier draw are taken.
    """
    if not weight.any():
        drawn = nn.init.xavier_uniform_(torch.empty(weight.shape), generator=generator).to(weight)
        u, s, v = _components(drawn, count, generator)
        return u, torch.zeros_like(s), v
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
        parameter.copy_(rows[order])


@torch.no_grad()
def draw_tailors(layer: FactorizedLinear, start: str, generator: torch.Generator, gain: float = 1.0) -> None:
    """Fresh tailors for unseen classes, in place.

    start: `random` takes components of the SVD of a fresh Xavier draw of the whole matrix, as pre-training starts;
    `zero` does the same with u = 0, so that the layer's output is unchanged at first (the choices are ours).
    gain: the matrix's in DiT's initialisation; 0 where DiT starts with zeros.
    """
    weight = torch.empty(layer.out_features, layer.in_features)
    nn.init.xavier_uniform_(weight, gain=gain, generator=generator)
    count = layer.tailor_s.numel()
    u, s, v = _components(weight, max(count, min(weight.shape)), generator)
    chosen = torch.randperm(len(s), generator=generator)[:count]
    # where s is zero the output is unchanged already, and with u = 0 too nothing would ever get a gradient
    layer.tailor_u.copy_(u[chosen] if start == "random" or not s.any() else torch.zeros(()))
    layer.tailor_s.copy_(s[chosen])
    layer.tailor_v.copy_(v[chosen])
