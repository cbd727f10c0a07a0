"""Models with a soft gate for other classes: unseen ones, or some of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kind.errors import UserError
from kind.models.dit import LABEL_TABLE, DiT
from kind.models.factorized import TAILOR_TENSORS, factorized_layers, make_room


def require_owners(model: DiT, what: str, where: str = "the model") -> DiT:
    """The model itself.  Raises UserError where its classes own no tailors.  what: what is asked of it."""
    if model.gate is not None and model.gate.soft:
        raise UserError(
            f"{where} cannot be {what}: behind its soft gate every class uses a share of all tailors, and owns none",
            hint="keep one class first, whose shares then become part of tailors of its own: recombine --classes CLASS "
            'on the command line, .keep(["CLASS"]) in Python',
        )
    return model


def give_classes(model: DiT, num_classes: int, embeddings: Tensor | None) -> DiT:
    """The same tailors and gate for other classes, in place; their label rows must be there already.

    embeddings: as they come, [num_classes, E]; None: zeros, to be filled in from a file.
    """
    ((_, num_tailors),) = model.factorization.groups
    model.factorization = replace(model.factorization, groups=((tuple(range(num_classes)), num_tailors),))
    model.gate.renew(num_classes, model.factorization.group_classes)
    model.class_shares.make_room(num_classes)
    if embeddings is not None:
        needed = model.factorization.soft.embedding_size
        if embeddings.shape[1] != needed:
            raise UserError(
                f"class embeddings of {embeddings.shape[1]} numbers, but the backbone's gate takes {needed}",
                hint="give the task's classes embeddings of the kind that the backbone was pre-trained with",
            )
        model.class_shares.know(embeddings)
    for name, layer in factorized_layers(model):
        layer.ranks = model.factorization.layer_ranks(name, num_classes)
    return model


@torch.no_grad()
def keep_shares(model: DiT, labels: Sequence[int]) -> DiT:
    """These classes of a model with a soft gate; none: learngenes alone.

    One class has one row of shares, which folds into s: it comes out as an ordinary KIND model of one class that owns
    all tailors, which can be cut, taken apart and exported.
    """
    factorization = model.factorization.select(labels)
    if len(labels) == 1:
        ((_, num_tailors),) = factorization.groups
        factorization = replace(factorization, num_tailors=num_tailors, groups=(), soft=None)
    kept = make_room(DiT(replace(model.config, num_classes=len(labels))), factorization).to(model.label_table)
    wanted = kept.state_dict()
    state = {name: tensor for name, tensor in model.state_dict().items() if name in wanted}
    state[LABEL_TABLE] = model.label_table[[*labels, -1]]
    if factorization.soft is not None:
        state["class_shares.embeddings"] = model.class_shares.embeddings[list(labels)]
    for name, layer in factorized_layers(model) if len(labels) < 2 else ():
        components = layer.components_of(labels[0] if labels else None)
        state |= {f"{name}.{key}": tensor for key, tensor in zip(TAILOR_TENSORS, components, strict=True)}
    kept.load_state_dict(state)
    return kept.train(model.training)
