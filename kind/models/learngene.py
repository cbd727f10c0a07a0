"""Taking a KIND model apart into learngenes and tailors, and putting parts together (KIND, figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kind.models.dit import FUSED_GAIN, FUSED_IN_DIT, LABEL_TABLE, DiT, DiTConfig
from kind.models.factorized import TAILOR_TENSORS, Factorization, draw_tailors, factorized_layers, make_room

Tensors = dict[str, Tensor]


def take_apart(model: DiT) -> tuple[Tensors, list[Tensors]]:
    """Shared part and one part a class.

    The shared part holds learngenes, dense layers, biases and the null label's row [1, width]; a class's part holds its
    tailors ([T, out], [T], [T, in] for each matrix) and its label's row [width].
    """
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    owned = [name for name in state if name.rsplit(".", 1)[-1] in TAILOR_TENSORS]
    shared = {name: tensor for name, tensor in state.items() if name not in owned and name != LABEL_TABLE}
    shared[LABEL_TABLE] = state[LABEL_TABLE][-1:]
    parts = [{name: state[name][row] for name in (*owned, LABEL_TABLE)} for row in range(model.config.num_classes)]
    return shared, parts


def assemble(
    config: DiTConfig, factorization: Factorization, shared: Mapping[str, Tensor], parts: Sequence[Mapping[str, Tensor]]
) -> DiT:
    """A model of the shared part and any classes' parts, whose labels are the parts' order.

    With no parts the model is learngenes alone and knows only the null label.  Raises RuntimeError naming tensors
    that are missing, unknown or of another shape.
    """
    num_tailors = factorization.num_tailors if parts else 0
    model = DiT(replace(config, num_classes=len(parts)))
    make_room(model, replace(factorization, num_tailors=num_tailors))
    owned = [f"{name}.{tensor}" for name, _ in factorized_layers(model) for tensor in TAILOR_TENSORS]
    wanted = {name: model.get_parameter(name).shape[1:] for name in (*owned, LABEL_TABLE)}
    for position, part in enumerate(parts):
        _check_part(part, wanted, position)
    state = {name: model.get_parameter(name).detach() for name in owned} | dict(shared)
    if parts:
        state |= {name: torch.stack([part[name] for part in parts]) for name in wanted}
        state[LABEL_TABLE] = torch.cat([state[LABEL_TABLE], shared[LABEL_TABLE]])
    model.load_state_dict(state)
    return model


def _check_part(part: Mapping[str, Tensor], wanted: Mapping[str, torch.Size], position: int) -> None:
    for name in sorted(wanted.keys() | part.keys()):
        found = list(part[name].shape) if name in part else "nothing"
        needed = list(wanted[name]) if name in wanted else "nothing"
        if found != needed:
            raise RuntimeError(f"part {position} does not fit the model: {name} is {found}, where {needed} is needed")


def add_fresh_tailors(model: DiT, num_classes: int, num_tailors: int, start: str, seed: int) -> DiT:
    """Give a model of learngenes alone freshly drawn tailors for `num_classes` unseen classes.

    The label table must already have the new classes' rows.  start: see `draw_tailors`.
    """
    gate = model.gate
    gate.num_classes = num_classes
    model.factorization = replace(model.factorization, num_tailors=num_tailors)
    generator = torch.Generator().manual_seed(seed)
    for path, layer in factorized_layers(model):
        layer.num_tailors = num_tailors
        for name, shape in zip(TAILOR_TENSORS, ((layer.out_features,), (), (layer.in_features,)), strict=True):
            rows = torch.zeros(num_classes, num_tailors, *shape, dtype=layer.bias.dtype, device=layer.bias.device)
            setattr(layer, name, torch.nn.Parameter(rows))
        draw_tailors(layer, start, generator, FUSED_GAIN if path.endswith(FUSED_IN_DIT) else 1.0)
    return model
