"""Smaller and larger models from whole ones: any classes of a model, and classes of several that share learngenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from kind.errors import UserError
from kind.models.dit import LABEL_TABLE, DiT
from kind.models.factorized import Factorization, LayerRanks, factorized_layers
from kind.models.learngene import Parts, assemble, take_apart
from kind.models.soft_classes import keep_shares, require_owners


def keep(model: DiT, labels: Sequence[int]) -> DiT:
    """The learngenes and the tailors of these classes, whose labels are their order here; none: learngenes alone.

    On these classes and on the null label the output is the whole model's.  Raises UserError for a dense model.
    Of a model with a soft gate, one class alone comes out as an ordinary KIND model, see `keep_shares`.
    """
    _require_components(model)
    labels = [int(label) for label in labels]
    if len(set(labels)) < len(labels) or not all(0 <= label < model.config.num_classes for label in labels):
        raise UserError(
            f"labels {labels} cannot be kept: each must be one of 0 to {model.config.num_classes - 1}, once"
        )
    if model.gate.soft:
        return keep_shares(model, labels)
    parts, factorization = take_apart(model), model.factorization
    groups = [parts.groups[index] for index in factorization.kept_groups(labels)]
    classes = [parts.classes[label] for label in labels]
    kept = assemble(model.config, factorization.select(labels), parts.shared, classes, groups)
    return kept.train(model.training)


def combine(models: Sequence[DiT], null_row_of: int | None = None) -> DiT:
    """One model of the classes of several that share learngenes; labels run through the models in their order.

    null_row_of: the model whose null label row is taken, where the rows differ (tuning for a task trains it): the null
    forward is then that model's, and guidance of the others' classes changes with it.
    Raises UserError, naming tensors and shapes, where the models differ in anything else that classes share.
    """
    if not models:
        raise UserError("there is nothing to combine", hint="give at least one model")
    if null_row_of is not None and not 0 <= null_row_of < len(models):
        raise UserError(f"null_row_of {null_row_of}: there are {len(models)} models, counted from 0")
    for model in models:
        _require_components(model)
        require_owners(model, "combined")
    apart = [take_apart(model) for model in models]
    for index in range(1, len(models)):
        _check_same_architecture(models[0], models[index], index)
        _check_same_shared_part(apart[0], apart[index], index, null_row_of)
    shared = dict(apart[0].shared)
    if null_row_of is not None:
        shared[LABEL_TABLE] = apart[null_row_of].shared[LABEL_TABLE]
    return assemble(
        models[0].config,
        _joint_factorization(models),
        shared,
        [part for parts in apart for part in parts.classes],
        [part for parts in apart for part in parts.groups],
    ).train(models[0].training)


def _require_components(model: DiT) -> None:
    if model.gate is None:
        raise UserError("a dense model has no learngenes and no tailors", hint="give a model of form `kind`")


def _joint_factorization(models: Sequence[DiT]) -> Factorization:
    """With explicit ranks, unless one number of learngenes and one of tailors a class say the same."""
    ranks, groups, start = {}, [], 0
    for name, layer in factorized_layers(models[0]):
        own, shared = [], []
        for model in models:
            counts = model.get_submodule(name).ranks.tailor_counts
            own += counts[: model.config.num_classes]
            shared += counts[model.config.num_classes :]
        ranks[name] = LayerRanks(layer.num_learngenes, (*own, *shared))
    for model in models:
        groups += [(tuple(start + label for label in members), count) for members, count in model.factorization.groups]
        start += model.config.num_classes
    counts = {(one.num_learngenes, *one.tailor_counts[:start]) for one in ranks.values()}
    first = models[0].factorization
    overcomplete = any(model.factorization.overcomplete for model in models)
    joint = replace(first, groups=tuple(groups), ranks=ranks, overcomplete=overcomplete)
    if len(counts) == 1:
        learngenes, *tailors = counts.pop()
        common = tailors[0] if len(set(tailors)) == 1 else tuple(tailors)
        plain = replace(joint, num_learngenes=learngenes, num_tailors=common, ranks=None)
        if all(plain.layer_ranks(name, start) == ranks[name] for name in ranks):
            return plain
    return joint


def _check_same_architecture(first: DiT, other: DiT, index: int) -> None:
    ours, theirs = (replace(model.config, num_classes=0).to_dict() for model in (first, other))
    for model, into in ((first, ours), (other, theirs)):
        into |= {"matrices": model.factorization.matrices, "null_gate": model.factorization.null_gate}
    different = [f"{key} {theirs[key]}, where the first has {ours[key]}" for key in ours if ours[key] != theirs[key]]
    if different:
        raise UserError(
            f"model {index + 1} does not fit the first: {'; '.join(different)}",
            hint="combine models that were adapted from the same learngenes",
        )


def _check_same_shared_part(first: Parts, other: Parts, index: int, null_row_of: int | None) -> None:
    for name, tensor in first.shared.items():
        theirs = other.shared[name]
        if theirs.shape != tensor.shape:
            raise UserError(
                f"model {index + 1} does not fit the first: {name} is {list(theirs.shape)}, where the first has "
                f"{list(tensor.shape)}",
                hint="combine models that were adapted from the same learngenes",
            )
        if torch.equal(theirs, tensor) or (name == LABEL_TABLE and null_row_of is not None):
            continue
        if name == LABEL_TABLE:
            raise UserError(
                f"model {index + 1} has another null label row than the first: tuning for a task trains it",
                hint="choose whose row is taken (null_row_of, --null-row-of); guidance of the others' classes changes",
            )
        raise UserError(
            f"model {index + 1} does not share what all classes use with the first: {name} {list(tensor.shape)} "
            f"differs by up to {(theirs - tensor).abs().max():.2g}",
            hint="combine models that were adapted from the same learngenes, with learngenes and dense layers frozen",
        )
