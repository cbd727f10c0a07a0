"""A KIND model in the ecosystem's terms: plain dense weights for diffusers, and a class's tailors as a LoRA for peft.

A class's matrix is the learngenes' product plus its tailors' product, and a LoRA adapter (Hu et al. 2022) is a base
weight plus (alpha / r) B A.  With alpha = r they are the same thing: A = V_c [r, in] and B = U_c^T diag(s_c) [out, r].
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kind.diffusers_parts import DiTTransformer2DModel
from kind.models.dit import LABEL_TABLE, DiT, to_diffusers
from kind.models.factorized import factorized_layers

NULL_ROW = 1000  # DiTPipeline has the number of the null class written into it


class Adapter(NamedTuple):
    """ranks: number of tailors of each matrix that has any, by name.  tensors: lora_A [r, in] and lora_B [out, r] of
    each, under the names that peft gives them in a file."""

    ranks: dict[str, int]
    tensors: dict[str, Tensor]

    def settings(self) -> dict[str, Any]:
        """Arguments of `peft.LoraConfig`; matrices of other ranks than the largest are listed."""
        rank = max(self.ranks.values())
        other = {name: count for name, count in self.ranks.items() if count != rank}
        return {
            "r": rank,
            "lora_alpha": rank,
            "target_modules": sorted(self.ranks),
            "rank_pattern": other,
            "alpha_pattern": dict(other),
            "inference_mode": True,
        }


def dense_form(model: DiT, label: int | None = None) -> DiT:
    """The ordinary DiT that computes what a KIND model does for one class; None: for the null label (learngenes alone).

    The label table is copied whole.  A dense model comes out as a copy of itself.
    """
    dense = DiT(model.config).to(next(model.parameters()))
    wanted = dense.state_dict()
    state = {name: tensor for name, tensor in model.state_dict().items() if name in wanted}
    state |= {f"{name}.weight": layer.dense_weight(label) for name, layer in factorized_layers(model)}
    dense.load_state_dict(state)
    return dense.train(model.training)


def stock_form(model: DiT, label: int | None = None) -> DiTTransformer2DModel:
    """`dense_form` as diffusers' own class, with 1001 label rows of which row 1000 is the null label.

    Rows that belong to no class repeat the null row.  Needs at most 1000 classes.
    """
    assert model.config.num_classes <= NULL_ROW, "the null label stands at row 1000"
    dense = dense_form(model, label)
    table = dense.label_table.detach()
    missing = table[-1:].expand(NULL_ROW - model.config.num_classes, -1)
    wide = DiT(replace(model.config, num_classes=NULL_ROW)).to(table)
    wide.load_state_dict({**dense.state_dict(), LABEL_TABLE: torch.cat([table[:-1], missing, table[-1:]])})
    return to_diffusers(wide)


@torch.no_grad()
def adapter_of(model: DiT, label: int) -> Adapter | None:
    """The tailors that a class uses, its groups' too, as a LoRA on the learngenes' product; None: it has no tailors."""
    ranks, tensors = {}, {}
    for name, layer in factorized_layers(model):
        u, s, v = (tensor.detach() for tensor in layer.components_of(label))
        if len(s):
            ranks[name] = len(s)
            tensors[f"base_model.model.{name}.lora_A.weight"] = v.clone()
            tensors[f"base_model.model.{name}.lora_B.weight"] = (u.T * s).contiguous()
    return Adapter(ranks, tensors) if ranks else None
