"""Whether a model is what its description says: a DiT, with factorized matrices where it has a class gate."""

from __future__ import annotations

import torch

from kind.errors import UserError
from kind.models.dit import DiT
from kind.models.factorized import make_room


def is_plain(model: DiT) -> bool:
    """Names and shapes are those of `DiT(config)`, with room for the components of `factorization`."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # no weights are drawn, and no random state is used
        described = DiT(model.config)
        if model.gate is not None:
            make_room(described, model.factorization)
    found, wanted = ({name: tensor.shape for name, tensor in one.state_dict().items()} for one in (model, described))
    return found == wanted


def require_plain(model: DiT, what: str) -> DiT:
    """The model itself.  what: what is asked of it, for the message.  Raises UserError where it is not plain."""
    if not is_plain(model):
        raise UserError(
            f"the model cannot be {what}: it holds layers that no plain matrix computes",
            hint="sample from it and count it; to be taken apart, saved or exported a model must be a plain DiT or a "
            "KIND model, which not every method of adaptation leaves (diffscaler and gated-lora do not)",
        )
    return model
