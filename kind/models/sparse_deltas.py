"""Sparse changes of a dense model's weights: K entries anywhere in them, one number each (SaRA, LT-SFT)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kind.errors import UserError
from kind.models.dit import LABEL_TABLE, DiT

DELTAS = "deltas"


class SparseDeltas(nn.Module):
    """values [K] are added to the entries at positions [K], which count through all covered weights in turn.

    values: trained, 0 at the start.  positions: int64, rising.  learned: whether training chooses the positions, so
    that they are saved; otherwise they follow from the backbone.  in_use: False while all are 0 and stay so.
    """

    def __init__(self, shapes: Sequence[torch.Size], count: int, learned: bool, device: torch.device):
        super().__init__()
        # of each weight among all: where it begins, and behind the last one where it ends
        self.starts = [0, *accumulate(shape.numel() for shape in shapes)]
        self.values = nn.Parameter(torch.zeros(count, device=device))
        self.register_buffer("positions", torch.arange(count, device=device), persistent=learned)
        self.learned_buffers = ("positions",) if learned else ()
        self.in_use = True
        self._ends: list[int] | None = None

    def put(self, positions: Tensor) -> None:
        """Other entries, whose positions rise."""
        self.positions.copy_(positions)
        self.filled()

    def filled(self) -> None:
        """Where each weight's entries lie has to be found again.  Raises UserError for positions that cannot be."""
        rise = self.positions.diff()
        if not (bool((rise > 0).all()) and self.positions[0] >= 0 and self.positions[-1] < self.starts[-1]):
            raise UserError(
                f"positions of sparse changes do not rise from 0 to below {self.starts[-1]}, the number of weights",
                hint="the file was changed after it was written: delete it and run the stage that writes it again",
            )
        self._ends = None

    def of(self, index: int) -> tuple[Tensor, slice]:
        """Of the weight number `index`: flat positions inside it, and where its entries are among all."""
        if self._ends is None:
            starts = torch.tensor(self.starts, device=self.positions.device)
            self._ends = torch.searchsorted(self.positions, starts).tolist()
        own = slice(self._ends[index], self._ends[index + 1])
        return self.positions[own] - self.starts[index], own


class AddDeltas(nn.Module):
    """W -> W with the deltas of the weight number `index` added; a parametrisation of its layer."""

    def __init__(self, deltas: SparseDeltas, index: int):
        super().__init__()
        self.index, self._deltas = index, (deltas,)  # in a tuple, so that it is a part of the model once only

    def forward(self, weight: Tensor) -> Tensor:
        deltas = self._deltas[0]
        if not deltas.in_use:  # a copy of every weight is saved for the backward pass otherwise
            return weight
        within, own = deltas.of(self.index)
        if own.start == own.stop:
            return weight
        return weight.flatten().index_add(0, within, deltas.values[own].to(weight.dtype)).view_as(weight)


def weights_of(model: DiT, least_dim: int) -> dict[str, nn.Parameter]:
    """The weights of at least so many dimensions, by name, but for the label table, which every method trains whole."""
    return {name: p for name, p in model.named_parameters() if name != LABEL_TABLE and p.dim() >= least_dim}


def add_deltas(model: DiT, weights: dict[str, nn.Parameter], count: int, learned: bool) -> SparseDeltas:
    """Room for `count` deltas over these weights of the model, in place; only they are trained."""
    device = next(iter(weights.values())).device
    deltas = SparseDeltas([p.shape for p in weights.values()], count, learned, device)
    for index, name in enumerate(weights):
        owner, _, own_name = name.rpartition(".")
        parametrize.register_parametrization(
            model.get_submodule(owner), own_name, AddDeltas(deltas, index), unsafe=True
        )
    model.add_module(DELTAS, deltas)
    return deltas


def base_weights(model: DiT) -> list[nn.Parameter]:
    """The weights that deltas are added to, in the order of their positions."""
    found = {}
    for module in model.modules():
        for parametrized in getattr(module, "parametrizations", {}).values():
            found[parametrized[0].index] = parametrized.original
    return [found[index] for index in range(len(found))]


@torch.no_grad()
def fold_deltas(model: DiT) -> DiT:
    """The same function with plain weights, in place."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    delattr(model, DELTAS)
    return model


def smallest(weights: Sequence[Tensor], count: int) -> Tensor:
    """Positions [count], rising, of the entries of smallest magnitude.

    Of equal entries the first: the positions are not saved, and must come out alike everywhere.
    """
    magnitudes = torch.cat([weight.detach().abs().flatten() for weight in weights])
    threshold = magnitudes.kthvalue(count).values
    below = (magnitudes < threshold).nonzero()[:, 0]
    equal = (magnitudes == threshold).nonzero()[: count - len(below), 0]
    return torch.cat([below, equal]).sort().values


def largest(changes: Sequence[Tensor], count: int) -> tuple[Tensor, Tensor]:
    """Positions [count], rising, of the entries that changed most, and by how much."""
    flat = torch.cat([change.flatten() for change in changes])
    positions = flat.abs().topk(count).indices.sort().values
    return positions, flat[positions]
