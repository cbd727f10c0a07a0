"""The effective matrices of an adapted model, and each against the one that its method began with."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kind.analysis.matrices import drift, effective_rank, intruder_dimensions
from kind.models.adapted_linears import GatedLinear
from kind.models.dit import DiT
from kind.models.factorization import BLOCK, FACTORIZED
from kind.models.factorized import FactorizedLinear

Row = dict[str, int | str | float | None]


@torch.no_grad()
def dense_matrix(layer: nn.Module, label: int | None) -> Tensor | None:
    """The matrix that a sample of this class meets, [out, in]; None where a layer is no matrix.

    label: None leaves out what belongs to classes.
    """
    if isinstance(layer, FactorizedLinear):
        return layer.dense_weight(label)
    if isinstance(layer, GatedLinear):
        return layer.linear.weight + layer.adapters.dense_weight(label)
    return layer.weight if isinstance(layer, nn.Linear) else None


def layer_names(model: DiT) -> dict[str, tuple[int, str]]:
    """Of every adapted matrix, with its block and kind."""
    return {
        BLOCK.format(index, path): (index, kind)
        for index in range(model.config.depth)
        for kind, path in FACTORIZED.items()
    }


def reference_matrices(begun: DiT) -> dict[str, Tensor]:
    """W_0 of every adapted matrix by the layer's name: the dense backbone's, or the learngenes' without any tailor.

    begun: the start; of a method that leaves tailors the start with these attached, untrained, so that W_0 of a control
    that cuts its backbone is what it kept.
    """
    return {name: dense_matrix(begun.get_submodule(name), None).clone() for name in layer_names(begun)}


def compare_weights(model: DiT, references: dict[str, Tensor], num_vectors: int, max_cosine: float) -> list[Row]:
    """A row a matrix of an adapted, merged model: intruder dimensions, drift, effective rank of W - W_0.

    Where W depends on the class each number is the mean over the task's classes.  A layer that is no matrix
    (DiffScaler's) has no row.
    """
    labels: Sequence[int | None] = [None] if model.gate is None else range(model.gate.num_classes)
    rows = []
    for name, (index, kind) in layer_names(model).items():
        matrices = [dense_matrix(model.get_submodule(name), label) for label in labels]
        if any(matrix is None for matrix in matrices):
            continue
        reference = references[name]
        intruders = [intruder_dimensions(matrix, reference, num_vectors, max_cosine) for matrix in matrices]
        drifts = [drift(matrix, reference) for matrix in matrices]
        ranks = [effective_rank(matrix - reference) for matrix in matrices]
        rows.append({
            "block": index,
            "matrix": kind,
            "intruders": statistics.fmean(intruders),
            "drift": None if None in drifts else statistics.fmean(drifts),
            "effective_rank": statistics.fmean(ranks),
        })  # fmt: skip
    return rows
