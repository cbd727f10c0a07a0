"""Cutting a KIND model to a budget: the components of least energy are dropped first.

Conventions.  Parameters are those of the deployed model: everything in it, the tailors of all its classes and the label
table too.  MACs are those of one conditional forward pass of one image, of the class that costs most (as
`kind.evaluation.complexity` counts them).  Rank is the number of components that one sample uses in a matrix.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from kind.errors import UserError
from kind.evaluation.complexity import count_macs, count_parameters, products_per_image
from kind.models.canonical import Components, KeptEnergy, canonical_energy, canonical_form, kept_energy
from kind.models.dit import DiT
from kind.models.factorized import FactorizedLinear, LayerRanks, factorized_layers, make_room
from kind.models.soft_classes import require_owners

KINDS = ("parameters", "macs", "rank")
WHOLE = {"parameters": "parameters", "macs": "MACs", "rank": "components a sample and matrix"}


@dataclass(frozen=True)
class Budget:
    """At most `amount` of `kind`.  An amount of type float is a share of the model's own, in (0, 1]."""

    kind: str
    amount: int | float

    def __post_init__(self):
        if self.kind not in KINDS:
            raise UserError(f"no budget of kind {self.kind!r}; there are {', '.join(KINDS)}")
        if isinstance(self.amount, bool) or not isinstance(self.amount, int | float | np.integer):
            raise UserError(f"budget of {WHOLE[self.kind]}: {self.amount!r} given, where a number is needed")
        if isinstance(self.amount, float) and not (0 < self.amount <= 1 and self.kind != "rank"):
            allowed = "a whole number" if self.kind == "rank" else "a whole number, or a share in (0, 1]"
            raise UserError(f"budget of {WHOLE[self.kind]}: {self.amount} given, where {allowed} is needed")

    def of(self, whole: int) -> int:
        """The amount as a number, for a model that has `whole`."""
        return int(self.amount * whole) if isinstance(self.amount, float) else self.amount


class Kept(NamedTuple):
    """What one class (None: learngenes alone) keeps of one matrix: components it uses, before and after; how many of
    them are tailors; energy."""

    layer: str
    label: int | None
    before: int
    after: int
    tailors_before: int
    tailors: int
    energy: KeptEnergy


class Summary(NamedTuple):
    """What one class (None: learngenes alone) keeps: components left in all matrices, tailors before the cut, energies
    as means over matrices, and where it loses most."""

    label: int | None
    learngenes: int
    tailors: int
    tailors_before: int
    kept: float
    lost: float
    worst: float
    worst_layer: str


def summarise(kept: Iterable[Kept]) -> list[Summary]:
    """One row a class, learngenes alone last."""
    rows: dict[int | None, list[Kept]] = {}
    for one in kept:
        rows.setdefault(one.label, []).append(one)
    return [
        Summary(
            label,
            sum(one.after - one.tailors for one in own),
            sum(one.tailors for one in own),
            sum(one.tailors_before for one in own),
            float(np.mean([one.energy.kept for one in own])),
            float(np.mean([one.energy.lost for one in own])),
            *max((one.energy.lost, one.layer) for one in own),
        )
        for label, own in rows.items()
    ]


@dataclass(frozen=True)
class Cut:
    """A smaller model, and what each class keeps of each matrix."""

    model: DiT
    kept: list[Kept]


@dataclass(frozen=True)
class Matrix:
    """A factorized matrix in canonical form: its learngenes, then the tailors of each owner."""

    name: str
    groups: list[Components]
    owners: list[tuple[int, ...]]  # of every class
    component_size: int
    component_macs: int

    def groups_of(self, label: int | None) -> list[int]:
        return [0] if label is None else [0, *(1 + owner for owner in self.owners[label])]

    def users(self, group: int, num_classes: int) -> list[int]:
        """Labels whose samples use the group; the null label, `num_classes`, uses the learngenes."""
        own = [label for label in range(num_classes) if group in self.groups_of(label)]
        return [*own, num_classes] if group == 0 else own

    def energy(self) -> float:
        """|W|^2, the mean over classes; of the learngenes where there are none."""
        labels = range(len(self.owners)) or [None]
        return float(np.mean([canonical_energy([self.groups[g] for g in self.groups_of(label)]) for label in labels]))


def cut(model: DiT, budget: Budget, *, relative: bool = True) -> Cut:
    """The model in canonical form without the components of least energy s^2, so that it is within the budget.

    relative: energies are divided by that of their matrix, |W|^2 (the mean over classes), before matrices are compared.
    A component is passed over where dropping it helps no class that is above the budget (MACs, rank).  Explicit ranks
    say what is left of each matrix.  Raises UserError for a dense model, and for a budget below what is not factorized.
    """
    matrices = _canonical_matrices(model)
    counts = _chosen_counts(model, matrices, budget, relative)
    kept = [_kept(matrix, counts[matrix.name], label) for matrix in matrices for label in _labels(model)]
    return Cut(_rebuilt(model, matrices, counts), kept)


def canonicalised(model: DiT) -> DiT:
    """The same function with every group of components in canonical form: orthonormal, by falling s.

    A group of more components than its matrix has rows or columns keeps as many as those.  Raises UserError for a dense
    model.
    """
    matrices = _canonical_matrices(model)
    return _rebuilt(model, matrices, {matrix.name: [group.count for group in matrix.groups] for matrix in matrices})


def _canonical_matrices(model: DiT) -> list[Matrix]:
    if model.gate is None:
        raise UserError(
            "a dense model has no components to drop or to order",
            hint="cut a model of form `kind`, or factorize this one first",
        )
    require_owners(model, "cut or brought to canonical form")
    gate, matrices = model.gate, []
    for name, layer in factorized_layers(model):
        groups = [Components(layer.learngene_u, layer.learngene_s, layer.learngene_v)]
        for owner in range(gate.num_owners):
            own = layer.rows_of_owner(owner)
            groups.append(Components(layer.tailor_u[own], layer.tailor_s[own], layer.tailor_v[own]))
        size = layer.in_features + layer.out_features + 1
        matrix = Matrix(
            name,
            [canonical_form(Components(*(tensor.detach() for tensor in group))) for group in groups],
            [gate.owners_of(label) for label in range(gate.num_classes)],
            size,
            size * products_per_image(model.config, name),
        )
        matrices.append(matrix)
    return matrices


def _labels(model: DiT) -> list[int | None]:
    return [*range(model.config.num_classes), None]


def _chosen_counts(model: DiT, matrices: list[Matrix], budget: Budget, relative: bool) -> dict[str, list[int]]:
    """How many components of each group of each matrix stay.

    What is counted is a table of accounts, each with an excess over the budget; dropping a component relieves those
    accounts that it counts against: one of the whole model (parameters), one a label (MACs), or one a matrix and
    label (rank).
    """
    num_classes = model.config.num_classes
    excess, accounts, relief = _accounts(model, matrices, budget)
    energies, places = [], []
    for index, matrix in enumerate(matrices):
        scale = matrix.energy() if relative else 1.0
        for group, components in enumerate(matrix.groups):
            energies.append(components.s.double().square().cpu().numpy() / (scale or 1.0))
            places += [(index, group)] * components.count
    counts = {matrix.name: [group.count for group in matrix.groups] for matrix in matrices}
    users = [matrices[0].users(group, num_classes) for group in range(len(matrices[0].groups))]  # one gate for all
    # Within a group the last component has the least energy, so that what stays is always its first `count`.
    for position in np.argsort(np.concatenate(energies), kind="stable"):
        index, group = places[position]
        affected = accounts(index, users[group])
        if (excess[affected] > 0).any():
            excess[affected] -= relief(matrices[index])
            counts[matrices[index].name][group] -= 1
            if not (excess > 0).any():
                break
    return counts


def _accounts(model: DiT, matrices: list[Matrix], budget: Budget):
    """Excess of each account; index of a matrix and labels -> accounts; matrix -> what one of its components counts."""
    num_classes = model.config.num_classes
    used = np.array([[_active(matrix, label) for label in _labels(model)] for matrix in matrices])
    if budget.kind == "rank":
        _check(budget, budget.amount, 1, used.max())
        excess = (used - budget.amount).ravel()
        return excess, lambda index, labels: index * (num_classes + 1) + np.array(labels), lambda matrix: 1
    if budget.kind == "parameters":
        whole = count_parameters(model)
        rest = whole - sum(
            layer.num_components * (layer.in_features + layer.out_features + 1) for _, layer in factorized_layers(model)
        )
        now = rest + sum(matrix.component_size * group.count for matrix in matrices for group in matrix.groups)
        allowed = budget.of(whole)
        _check(budget, allowed, rest, whole)
        return np.array([now - allowed]), lambda index, labels: np.array([0]), lambda matrix: matrix.component_size
    whole = count_macs(model)
    layers = dict(factorized_layers(model))
    sizes = np.array([matrix.component_macs for matrix in matrices])
    active = [
        sum(layers[matrix.name].num_active(label) * matrix.component_macs for matrix in matrices)
        for label in _labels(model)
    ]
    rest, allowed = whole - max(active), budget.of(whole)
    _check(budget, allowed, rest, whole)
    return rest + sizes @ used - allowed, lambda index, labels: np.array(labels), lambda matrix: matrix.component_macs


def _active(matrix: Matrix, label: int | None) -> int:
    return sum(matrix.groups[group].count for group in matrix.groups_of(label))


def _check(budget: Budget, allowed: int, least: int, whole: int) -> None:
    if allowed < least:
        share = "" if isinstance(budget.amount, int) else f" ({budget.amount:g} of {whole:,})"
        why = "what is not factorized takes" if budget.kind != "rank" else "the least is"
        raise UserError(
            f"a budget of {allowed:,} {WHOLE[budget.kind]}{share} cannot be met: {why} {least:,}",
            hint=f"give at least {least:,}, or keep fewer classes first",
        )


def _kept(matrix: Matrix, counts: list[int], label: int | None) -> Kept:
    chosen = matrix.groups_of(label)
    groups, left = [matrix.groups[group] for group in chosen], [counts[group] for group in chosen]
    before = [group.count for group in groups]
    tailors = sum(before[1:]), sum(left[1:])  # the learngenes come first
    return Kept(matrix.name, label, sum(before), sum(left), *tailors, kept_energy(groups, left))


@torch.no_grad()
def _rebuilt(model: DiT, matrices: list[Matrix], counts: dict[str, list[int]]) -> DiT:
    """A model of the first components of each group, with explicit ranks; everything else is copied."""
    ranks = {name: LayerRanks(learngenes, tuple(tailors)) for name, (learngenes, *tailors) in counts.items()}
    parameter = next(model.parameters())
    small = make_room(DiT(model.config), replace(model.factorization, ranks=ranks)).to(parameter)
    state = {name: tensor for name, tensor in model.state_dict().items() if name in small.state_dict()}
    for matrix in matrices:
        groups = [group.first(count) for group, count in zip(matrix.groups, counts[matrix.name], strict=True)]
        for tensor in Components._fields:
            learngenes, *tailors = (getattr(group, tensor) for group in groups)
            layer: FactorizedLinear = small.get_submodule(matrix.name)
            owned = torch.cat(tailors) if tailors else getattr(layer, f"tailor_{tensor}").detach()
            state |= {f"{matrix.name}.learngene_{tensor}": learngenes, f"{matrix.name}.tailor_{tensor}": owned}
    small.load_state_dict(state)
    return small.train(model.training)
