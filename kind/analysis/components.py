"""Learngenes and tailors as matrices: how large they are, and how alike those of two classes are."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch import Tensor

from kind.models.dit import DiT
from kind.models.factorized import FactorizedLinear

Row = dict[str, Any]


@torch.no_grad()
def learngene_energy(layer: FactorizedLinear) -> float:
    """|U_G diag(s_G) V_G^T|_F^2, the squared Frobenius norm of the learngenes' sum, in float64."""
    return float(_products(layer.learngene_u, layer.learngene_s, layer.learngene_v).sum())


@torch.no_grad()
def tailor_products(layer: FactorizedLinear) -> Tensor:
    """<T_a, T_b>_F for all classes a, b, with T_c = U_c diag(s_c) V_c^T the sum of the tailors that class c uses.

    [C, C] float64.  Its diagonal is the classes' energy.  Tailors of a group count for each of its classes.
    """
    products = _products(layer.tailor_u, layer.tailor_s, layer.tailor_v)
    users = torch.zeros(layer.gate.num_classes, len(products), dtype=torch.float64)
    for label in range(layer.gate.num_classes):
        for rows in layer.rows_of(label):
            users[label, rows] = 1
    return users @ products @ users.T


def _products(u: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """<s_i u_i v_i^T, s_j u_j v_j^T>_F = s_i s_j (u_i . u_j) (v_i . v_j) without a matrix of the layer's size.

    [K, out], [K], [K, in] -> [K, K] float64.
    """
    u, s, v = (each.detach().cpu().double() for each in (u, s, v))
    u = u * s[:, None]
    return (u @ u.T) * (v @ v.T)


def energy_rows(model: DiT) -> list[Row]:
    """A row a factorized matrix: energy of the learngenes; mean and sample standard deviation over classes of that of a
    class's tailors; and tailor_share = tailors / (learngenes + tailors) of the means.

    The two parts are not orthogonal, so that their energies need not add up to that of the matrix.
    """
    rows = []
    for name, kind in model.factorization.layers(model.config.depth):
        layer = model.get_submodule(name)
        shared, own = learngene_energy(layer), tailor_products(layer).diagonal().tolist()
        tailors = statistics.fmean(own)
        rows.append({
            "block": block_of(name),
            "matrix": kind,
            "learngene_energy": shared,
            "tailor_energy_mean": tailors,
            "tailor_energy_std": statistics.stdev(own) if len(own) > 1 else None,
            "tailor_share": tailors / (shared + tailors) if shared + tailors > 0 else None,
        })  # fmt: skip
    return rows


def products_by_block(model: DiT) -> Tensor:
    """The same products, summed over the factorized matrices of each block.  [depth, C, C] float64."""
    total = torch.zeros(model.config.depth, *2 * [model.config.num_classes], dtype=torch.float64)
    for name, _ in model.factorization.layers(model.config.depth):
        total[block_of(name)] += tailor_products(model.get_submodule(name))
    return total


def cosines(products: Tensor) -> Tensor:
    """Inner products of vectors -> cosines; NaN where a vector is zero.  [..., C, C] -> [..., C, C]."""
    sizes = products.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    return products / (sizes[..., :, None] * sizes[..., None, :])


def centred_cosines(means: Tensor) -> Tensor:
    """Cosines of vectors from which their common mean is taken.  [C, F] -> [C, C] float64."""
    centred = means.double() - means.double().mean(0)
    return cosines(centred @ centred.T)


def block_of(name: str) -> int:
    """Of the name of a layer."""
    return int(name.split(".")[1])
