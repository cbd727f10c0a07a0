"""Taking a KIND model apart into learngenes and tailors, and putting parts together (KIND, figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from kind.models.dit import FUSED_GAIN, FUSED_IN_DIT, LABEL_TABLE, DiT, DiTConfig
from kind.models.factorized import (
    MATRICES,
    TAILOR_TENSORS,
    Factorization,
    draw_tailors,
    factorized_layers,
    make_room,
)

Tensors = dict[str, Tensor]


class Parts(NamedTuple):
    """A model taken apart: what all share, one part a class, one part a group of classes that shares tailors."""

    shared: Tensors
    classes: list[Tensors]
    groups: list[Tensors]


def take_apart(model: DiT) -> Parts:
    """The shared part holds learngenes, dense layers, biases and the null label's row [1, width]; a class's part holds
    its own tailors ([k, out], [k], [k, in] for each matrix) and its label's row [width]; a group's part its tailors.
    """
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    owned = set(_tailor_tensors(model))
    shared = {name: tensor for name, tensor in state.items() if name not in owned and name != LABEL_TABLE}
    shared[LABEL_TABLE] = state[LABEL_TABLE][-1:]
    owners = []
    for owner in range(model.gate.num_owners):
        part = {}
        for name, layer in factorized_layers(model):
            own = layer.rows_of_owner(owner)
            part |= {f"{name}.{tensor}": state[f"{name}.{tensor}"][own] for tensor in TAILOR_TENSORS}
        owners.append(part)
    classes, groups = owners[: model.gate.num_classes], owners[model.gate.num_classes :]
    for label, part in enumerate(classes):
        part[LABEL_TABLE] = state[LABEL_TABLE][label]
    return Parts(shared, classes, groups)


def assemble(
    config: DiTConfig,
    factorization: Factorization,
    shared: Mapping[str, Tensor],
    parts: Sequence[Mapping[str, Tensor]],
    groups: Sequence[Mapping[str, Tensor]] = (),
) -> DiT:
    """A model of the shared part and any classes' parts, whose labels are the parts' order, and its groups' parts.

    factorization: of the model that comes out (`Factorization.select` gives it where it differs between classes or
    has groups).  With no parts the model is learngenes alone and knows only the null label.  Raises RuntimeError
    naming tensors that are missing, unknown or of another shape.
    """
    if not parts:
        factorization = factorization.select(())
    model = make_room(DiT(replace(config, num_classes=len(parts))), factorization)
    layers = dict(factorized_layers(model))
    for owner, part in enumerate((*parts, *groups)):
        shapes = {}
        for name, layer in layers.items():
            sizes = ((layer.out_features,), (), (layer.in_features,))
            count = layer.ranks.tailor_counts[owner]
            shapes |= {f"{name}.{tensor}": [count, *size] for tensor, size in zip(TAILOR_TENSORS, sizes, strict=True)}
        if owner < len(parts):
            shapes[LABEL_TABLE] = [config.width]
        _check_part(part, shapes, f"part {owner}" if owner < len(parts) else f"group {owner - len(parts)}")
    state = {name: model.get_parameter(name).detach() for name in _tailor_tensors(model)} | dict(shared)
    if parts:
        state |= {name: torch.cat([part[name] for part in (*parts, *groups)]) for name in _tailor_tensors(model)}
        state[LABEL_TABLE] = torch.cat([torch.stack([part[LABEL_TABLE] for part in parts]), shared[LABEL_TABLE]])
    model.load_state_dict(state)
    return model


def _tailor_tensors(model: DiT) -> list[str]:
    return [f"{name}.{tensor}" for name, _ in factorized_layers(model) for tensor in TAILOR_TENSORS]


def _check_part(part: Mapping[str, Tensor], wanted: Mapping[str, list[int]], which: str) -> None:
    for name in sorted(wanted.keys() | part.keys()):
        found, needed = list(part[name].shape) if name in part else "nothing", wanted.get(name, "nothing")
        if found != needed:
            raise RuntimeError(f"{which} does not fit the model: {name} is {found}, where {needed} is needed")


def add_fresh_tailors(model: DiT, num_classes: int, num_tailors: int, start: str, seed: int) -> DiT:
    """Give a model of learngenes alone freshly drawn tailors for `num_classes` unseen classes.

    The label table must already have the new classes' rows.  start: see `draw_tailors`.
    """
    model.gate.renew(num_classes)
    model.factorization = model.factorization.with_tailors(num_classes, num_tailors)
    generator = torch.Generator().manual_seed(seed)
    for name, layer in factorized_layers(model):
        layer.renew_tailors(model.factorization.layer_ranks(name, num_classes))
        draw_tailors(layer, start, generator, _gain(name))
    return model


def _gain(name: str) -> float:
    """Of the matrix in DiT's initialisation, over Xavier's."""
    if name.endswith(MATRICES["adaln"]):
        return 0.0
    return FUSED_GAIN if name.endswith(FUSED_IN_DIT) else 1.0
