"""How far a tuned matrix is from the one it began as, and in what way."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def intruder_dimensions(tuned: Tensor, reference: Tensor, num_vectors: int, max_cosine: float) -> int:
    """Of the `num_vectors` left singular vectors y_j of `tuned` with the largest singular values, those with

        max_i |cos(y_j, x_i)| < max_cosine,   x_i all left singular vectors of `reference`

    (Shuttleworth et al. 2024).  [out, in], [out, in] -> a count.  Computed in float64.

    Ours, for matrices that lack rank, such as learngenes alone: a vector whose singular value is zero in float32 is an
    arbitrary one of a whole space, so neither x_i nor y_j is any of these.
    """
    chosen = _left_vectors(tuned)[:, :num_vectors]
    known = _left_vectors(reference)
    if not chosen.shape[1] or not known.shape[1]:
        return chosen.shape[1]
    return int(((known.T @ chosen).abs().amax(0) < max_cosine).sum())


def _left_vectors(matrix: Tensor) -> Tensor:
    """By falling singular value, those that are not zero in float32.  [out, in] -> [out, rank]."""
    u, s, _ = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u[:, s > s[0] * max(matrix.shape) * torch.finfo(torch.float32).eps]


@torch.no_grad()
def drift(tuned: Tensor, reference: Tensor) -> float | None:
    """|W - W_0| / |W_0| in Frobenius norms; None where W_0 is zero."""
    size = torch.linalg.matrix_norm(reference.double())
    return float(torch.linalg.matrix_norm(tuned.double() - reference.double()) / size) if size > 0 else None


@torch.no_grad()
def effective_rank(matrix: Tensor) -> float:
    """exp(H(p)) with p_i = s_i / sum s, the entropy of the singular values (Roy & Vetterli 2007); 0 for zeros."""
    s = torch.linalg.svdvals(matrix.double())
    if s[0] == 0:
        return 0.0
    shares = s / s.sum()
    return float(torch.special.entr(shares).sum().exp())
