"""A dense DiT in fewer numbers: in the place of a matrix stand two thin ones, the largest part of its SVD.

    W = sum_i u_i s_i v_i^T  ->  sum_{i <= k} u_i s_i v_i^T = (U_k diag(s_k)) V_k^T

is the best approximation of W of rank k (Eckart & Young 1936), takes k (in + out) numbers, and loses the energy
sum_{i > k} s_i^2 of |W|^2 = sum_i s_i^2 (squared Frobenius norm).
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kind.models.dit import DiT
from kind.models.factorization import BLOCK, MATRICES


@torch.no_grad()
def prune(model: DiT, kinds: Sequence[str], numbers: int, *, relative: bool = True) -> DiT:
    """Cut the matrices of these kinds to at most `numbers` numbers in all, in place; nothing where they have no more.

    Components of least energy go first, as in `kind.budget.cut`; relative: as shares of their matrix's.  A matrix that
    two thin ones would not make smaller stays whole.  SVDs are float64, whatever the model is.
    """
    names = [BLOCK.format(block, MATRICES[kind]) for block in range(model.config.depth) for kind in kinds]
    weights = {name: model.get_submodule(name).weight for name in names}
    if sum(weight.numel() for weight in weights.values()) <= numbers:
        return model
    parts = {name: torch.linalg.svd(weight.double(), full_matrices=False) for name, weight in weights.items()}
    spectra = {name: s.cpu().numpy() for name, (_, s, _) in parts.items()}
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name, rank in ranks_within(spectra, shapes, numbers, relative=relative).items():
        if rank is not None:
            u, s, v = parts[name]
            linear = model.get_submodule(name)
            model.set_submodule(name, _thin(u[:, :rank] * s[:rank], v[:rank], linear.bias).to(linear.weight))
    return model


def ranks_within(
    spectra: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, int]], numbers: int, *, relative: bool
) -> dict[str, int | None]:
    """Components that are left of each matrix, so that all take at most `numbers` numbers; None: the matrix is whole.

    spectra: falling singular values; shapes: (out, in).
    """
    names = list(spectra)
    scales = [float(np.square(s).sum()) or 1.0 if relative else 1.0 for s in spectra.values()]
    energies = [np.square(s) / scale for s, scale in zip(spectra.values(), scales, strict=True)]
    owners = np.repeat(np.arange(len(names)), [len(s) for s in energies])
    ranks = {name: len(s) for name, s in spectra.items()}

    def taken(name: str) -> int:
        """A whole matrix costs no more than its entries, so that the first components to go save nothing."""
        outputs, inputs = shapes[name]
        return min(ranks[name] * (outputs + inputs), outputs * inputs)

    held = sum(map(taken, names))
    for place in np.argsort(np.concatenate(energies), kind="stable"):
        if held <= numbers:
            break
        name = names[owners[place]]
        held -= taken(name)
        ranks[name] -= 1
        held += taken(name)
    return {name: rank if rank * sum(shapes[name]) < np.prod(shapes[name]) else None for name, rank in ranks.items()}


def _thin(up: Tensor, down: Tensor, bias: Tensor) -> nn.Sequential:
    """x -> up (down x) + bias.  up: [out, k]; down: [k, in]."""
    (outputs, rank), inputs = up.shape, down.shape[1]
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # torch draws weights and says so where there are none to draw
        layers = OrderedDict(down=nn.Linear(inputs, rank, bias=False), up=nn.Linear(rank, outputs))
    layers["down"].weight, layers["up"].weight = nn.Parameter(down.contiguous()), nn.Parameter(up.contiguous())
    layers["up"].bias = nn.Parameter(bias.detach().clone())
    return nn.Sequential(layers)
