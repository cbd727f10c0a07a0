"""Fresh tailors that begin with what the seen classes' tailors are (our choices; the paper draws them at random)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kind.models.canonical import Components, canonical_form
from kind.models.dit import DiT
from kind.models.factorized import FactorizedLinear, factorized_layers

LEAST_SHARE = 1e-6  # of the largest singular value: what is less comes from rounding, and has no direction


@torch.no_grad()
def begin_with_mean(model: DiT, seen: DiT) -> None:
    """Every class's first tailors are the top components of the mean of the seen classes' products, in place:

    (1 / C) sum_c U_c S_c V_c.  Components have no common order among classes, so that the mean is one of matrices.
    What the mean has no components for keeps its draw.  seen: the same learngenes with all seen classes' tailors.
    """
    num_seen = seen.gate.num_classes
    for name, layer in factorized_layers(model):
        tailors = [Components(*seen.get_submodule(name).components_of(label)) for label in range(num_seen)]
        joint = Components(*map(torch.cat, zip(*tailors, strict=True)))
        mean = canonical_form(joint._replace(s=joint.s / num_seen))
        rank = int((mean.s > LEAST_SHARE * mean.s.max()).sum()) if mean.count else 0
        for label in range(model.gate.num_classes):
            _put(layer, label, mean.first(rank))


@torch.no_grad()
def begin_with_nearest(model: DiT, seen: DiT, nearest: Sequence[int]) -> None:
    """Class i begins with the tailors of seen class nearest[i], its groups' too, in place: where that has more of them
    than are needed, with those of largest energy s |u| |v|; where it has fewer, the others keep their draw."""
    for name, layer in factorized_layers(model):
        for label, other in enumerate(nearest):
            found = Components(*seen.get_submodule(name).components_of(other))
            energy = found.s.abs() * found.u.norm(dim=1) * found.v.norm(dim=1)
            order = energy.argsort(descending=True, stable=True)
            _put(layer, label, Components(*(tensor[order] for tensor in found)))


def _put(layer: FactorizedLinear, label: int, found: Components) -> None:
    """The first of these components as the first tailors of a class."""
    own = layer.rows_of_owner(label)
    count = min(found.count, own.stop - own.start)
    for rows, new in zip((layer.tailor_u, layer.tailor_s, layer.tailor_v), found.first(count), strict=True):
        rows[own.start : own.start + count] = new
