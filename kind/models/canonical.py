"""The canonical form of a group of components, in which s means energy.

U and V are trained freely, so that a component's s alone says nothing: components of one group overlap, and their
lengths hide in u and v.  The same product has one form with orthonormal directions,

    sum_i u_i s_i v_i^T = Q_u (R_u diag(s) R_v^T) Q_v^T = (Q_u P) diag(s') (Q_v Z)^T,

with the QR decompositions U = Q_u R_u and V = Q_v R_v and the singular value decomposition P diag(s') Z^T of the small
core in brackets (the standard route to the SVD of a low-rank product, e.g. Golub & Van Loan, section 8.6).  There
s'^2 is what a component gives to the energy |W|^2 (squared Frobenius norm) of its group.  Groups (the learngenes; the
tailors of each owner) are treated apart, for each is kept or left out by itself; energies of a class's product, which
is a sum of groups, therefore have cross terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor


class Components(NamedTuple):
    """Rank-1 pieces of one matrix, one a row: u [k, out], s [k], v [k, in]."""

    u: Tensor
    s: Tensor
    v: Tensor

    @property
    def count(self) -> int:
        return len(self.s)

    def first(self, count: int) -> Components:
        return Components(self.u[:count], self.s[:count], self.v[:count])

    def after(self, count: int) -> Components:
        return Components(self.u[count:], self.s[count:], self.v[count:])


@torch.no_grad()
def canonical_form(group: Components) -> Components:
    """The same product with orthonormal u, orthonormal v and s >= 0 falling.  k components -> min(k, out, in).

    Computed in float64, given back in the dtype of `group`.  The sign of a pair (u, v) is free: the entry of u that is
    largest in absolute value is made positive, so that the form does not depend on the library.
    """
    if group.count == 0:
        return group
    outputs, outputs_core = torch.linalg.qr(group.u.double().T)
    inputs, inputs_core = torch.linalg.qr(group.v.double().T)
    left, s, right = torch.linalg.svd((outputs_core * group.s.double()) @ inputs_core.T, full_matrices=False)
    u, v = (outputs @ left).T, right @ inputs.T
    largest = u.gather(1, u.abs().argmax(1, keepdim=True))
    signs = torch.where(largest < 0, -1.0, 1.0).to(u)
    return Components(*(tensor.to(group.s.dtype).contiguous() for tensor in (u * signs, s, v * signs)))


@torch.no_grad()
def inner_product(first: Components, second: Components) -> float:
    """<A, B> = tr(A^T B) = sum_ij s_i t_j (u_i . u_j) (v_i . v_j) of two products of one shape, in float64.

    Costs k_a k_b (in + out) multiplications and never forms a matrix of [out, in].
    """
    outputs = first.u.double() @ second.u.double().T
    inputs = first.v.double() @ second.v.double().T
    return float(first.s.double() @ (outputs * inputs) @ second.s.double())


def canonical_energy(groups: Sequence[Components]) -> float:
    """|W|^2 (squared Frobenius norm) of the sum of groups in canonical form: sum of s^2, plus twice the products
    between groups."""
    own = sum(float(group.s.double().square().sum()) for group in groups)
    return own + 2 * sum(inner_product(*pair) for pair in combinations(groups, 2))


class KeptEnergy(NamedTuple):
    """kept: |W_kept|^2 / |W|^2, which may exceed 1, for groups overlap and may have cancelled one another.
    lost: |W - W_kept|^2 / |W|^2, the squared relative error, zero only where nothing is lost."""

    kept: float
    lost: float


def kept_energy(groups: Sequence[Components], counts: Sequence[int]) -> KeptEnergy:
    """Of a sum of groups in canonical form, of which the first `counts` components stay; kept is 1 where W is zero."""
    total = canonical_energy(groups)
    if total <= 0:
        return KeptEnergy(1.0, 0.0)
    pairs = list(zip(groups, counts, strict=True))
    stays = canonical_energy([group.first(count) for group, count in pairs])
    goes = canonical_energy([group.after(count) for group, count in pairs])
    return KeptEnergy(stays / total, goes / total)
