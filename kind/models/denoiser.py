"""Many denoising steps of one batch: what does not change between steps is computed once.

Sampling asks a model for the same labels at a known list of timesteps.  `DiT.forward` cannot know that, and in every
step embeds labels and timesteps anew for each row, applies every block's AdaLN to each row, and finds out whose tailors
each row uses.  Here conditioning and modulations are computed once for each distinct label, for many steps at once;
rows stand sorted by whose tailors they use; and once a batch each class's factors are joined to the learngenes, or
multiplied out where the dense matrix is the cheaper product, or, where each class has few rows, those of all classes
are joined behind a mask.  The null half of guidance uses learngenes alone.  Outputs are `DiT.forward`'s to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kind.diffusers_parts import AdaLayerNormZero, Attention, BasicTransformerBlock, FeedForward
from kind.models.dit import DiT, GivenConditioning
from kind.models.factorized import MATRICES, FactorizedLinear, factorized_layers

MODULATION_BYTES = 2**26  # of modulations that are kept at a time
FACTOR_BYTES = 2**30  # of all classes' joined factors; a batch that needs more has its classes' tailors masked
CALL_MACS = 10**6  # what starting a product costs, in multiply-accumulates: some 10 microseconds


class Denoiser:
    """`model(images, timesteps[step], labels, gate_labels)` for one batch of labels and a list of timesteps.

    timesteps: [S].  labels, gate_labels: [R] for R rows, R a multiple of the number of images: row r is about image
    r modulo B, so that both halves of guidance share the patch embedding.  The model must not change meanwhile.
    """

    def __init__(self, model: DiT, timesteps: Tensor, labels: Tensor, gate_labels: Tensor | None = None):
        self.model, self.timesteps = model, timesteps
        gates = labels if gate_labels is None else gate_labels
        if model.gate is not None:
            gates = gates.clamp(max=model.gate.num_classes)  # what lies beyond counts as null
        pairs, row_pairs = torch.unique(torch.stack([gates, labels], dim=1), dim=0, return_inverse=True)
        self.pairs, self.order = pairs, row_pairs.argsort(stable=True)  # by gate, then label
        self.row_pairs, self.back = row_pairs[self.order], self.order.argsort()
        self.gates = gates[self.order]
        self.first, self.modulations, self.final = 0, [], None
        self.products = self._prepare_products() if model.gate is not None else {}
        self.blocks = [_prepare(index, block, self.products) for index, block in enumerate(model.transformer_blocks)]

    @staticmethod
    def fits(model: nn.Module) -> bool:
        """Whether this is a DiT built as ours is: methods may put other modules into a model, or hooks."""
        if not isinstance(model, DiT) or any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()):
            return False
        if not all(name.endswith(tuple(MATRICES.values())) for name, _ in factorized_layers(model)):
            return False  # inside something else, which opens no gate of its own
        return all(
            type(block) is BasicTransformerBlock
            and type(block.norm1) is AdaLayerNormZero
            and type(block.norm1.emb) is GivenConditioning
            and type(block.attn1) is Attention
            and type(block.ff) is FeedForward
            for block in model.transformer_blocks
        )

    @torch.no_grad()
    def __call__(self, images: Tensor, step: int) -> Tensor:
        """[B, C, H, W] -> [R, C or 2 C, H, W] at timesteps[step]."""
        model = self.model
        if not self.first <= step < self.first + (0 if self.final is None else len(self.final)):
            self._modulate_from(step)
        hidden = model.pos_embed(images)[self.order % len(images)]
        for block, modulation in zip(self.blocks, self.modulations, strict=True):
            hidden = block(hidden, self._rows(modulation, step))
        shift, scale = self._rows(self.final, step).chunk(2, dim=2)
        hidden = torch.addcmul(shift, model.norm_out(hidden), 1 + scale)
        return model._unpatchify(model.proj_out_2(hidden))[self.back]

    def _rows(self, table: Tensor, step: int) -> Tensor:
        """[S', pairs, K] -> [R, 1, K] of one step."""
        return table[step - self.first][self.row_pairs][:, None]

    def _modulate_from(self, step: int) -> None:
        """AdaLN's outputs for every distinct row and as many steps, beginning with `step`, as memory allows."""
        model, count = self.model, len(self.pairs)
        size = 4 * count * model.config.width * (6 * model.config.depth + 2)
        times = self.timesteps[step : step + max(1, MODULATION_BYTES // size)]
        gates, labels = (column.repeat(len(times)) for column in self.pairs.T)
        dtype = model.pos_embed.proj.weight.dtype
        conditioning = model.embedder(times.repeat_interleave(count), labels, hidden_dtype=dtype)
        active = F.silu(conditioning)
        if model.gate is not None:
            model.gate.open(gates)  # AdaLN may be factorized

        def table(linear: nn.Module) -> Tensor:
            return linear(active).unflatten(0, (len(times), count))

        self.modulations = [table(block.norm1.linear) for block in model.transformer_blocks]
        self.first, self.final = step, table(model.proj_out_1)

    def _prepare_products(self) -> dict[str, Product]:
        """A product for each factorized matrix of attention and feed-forward, by name."""
        labels, counts = torch.unique_consecutive(self.gates, return_counts=True)
        edges = [0, *counts.cumsum(0).tolist()]
        runs = [Run(label, *rows) for label, rows in zip(labels.tolist(), pairwise(edges), strict=True)]
        layers = {name: layer for name, layer in factorized_layers(self.model) if ".norm1." not in name}
        size = sum(4 * _cheapest(layer, run.label) for run in runs for layer in layers.values())
        tokens = self.model.config.num_tokens if size <= FACTOR_BYTES else None
        return {name: Product(layer, runs, tokens) for name, layer in layers.items()}


class Block(NamedTuple):
    """diffusers' BasicTransformerBlock with AdaLN's modulations given.  [R, N, D], [R, 1, 6 D] -> [R, N, D]."""

    norms: tuple[nn.Module, nn.Module]
    num_heads: int
    to_qkv: Callable[[Tensor], Sequence[Tensor]]
    to_out: Callable[[Tensor], Tensor]
    widen: Callable[[Tensor], Tensor]
    activation: Callable[[Tensor], Tensor]
    narrow: Callable[[Tensor], Tensor]

    def __call__(self, hidden: Tensor, modulation: Tensor) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation.chunk(6, dim=2)
        normed = torch.addcmul(shift_1, self.norms[0](hidden), 1 + scale_1)
        heads = (part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in self.to_qkv(normed))
        mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        hidden = torch.addcmul(hidden, gate_1, self.to_out(mixed))
        normed = torch.addcmul(shift_2, self.norms[1](hidden), 1 + scale_2)
        return torch.addcmul(hidden, gate_2, self.narrow(self.activation(self.widen(normed))))


def _prepare(index: int, block: BasicTransformerBlock, products: dict[str, Product]) -> Block:
    def product(path: str) -> Callable[[Tensor], Tensor]:
        return products.get(f"transformer_blocks.{index}.{path}") or block.get_submodule(path)

    apart = [product(f"attn1.{name}") for name in ("to_q", "to_k", "to_v")]

    def to_qkv(inputs: Tensor) -> list[Tensor]:
        return [one(inputs) for one in apart]

    return Block(
        norms=(block.norm1.norm, block.norm3),
        num_heads=block.attn1.heads,
        to_qkv=to_qkv,
        to_out=product("attn1.to_out.0"),
        widen=product("ff.net.0.proj"),
        activation=block.ff.net[0].gelu,
        narrow=product("ff.net.2"),
    )


class Run(NamedTuple):
    """Rows first .. last - 1 use the tailors of `label`."""

    label: int
    first: int
    last: int


class Product:
    """A factorized matrix for rows that stand sorted by whose tailors they use.  [R, N, in] -> [R, N, out].

    tokens: N, by which the cheaper form is chosen; None: classes are masked, which takes least memory.
    """

    def __init__(self, layer: FactorizedLinear, runs: list[Run], tokens: int | None):
        null = [run for run in runs if run.label == layer.gate.num_classes]
        classes = runs[: len(runs) - len(null)]  # the null label is the largest
        masked = len(classes) > 1 and (tokens is None or _masked_is_cheaper(layer, classes, tokens))
        self.parts = [_masked_part(layer, classes)] if masked else [_part(layer, run) for run in classes]
        self.parts += [_part(layer, run) for run in null]

    def __call__(self, inputs: Tensor) -> Tensor:
        outputs = None
        for part in self.parts:
            rows = inputs[part.first : part.last].to(part.bias.dtype)
            for matrix in part.matrices[:-1]:
                rows = rows @ matrix.T
            if part.mask is not None:
                rows *= part.mask
            if outputs is None:
                outputs = rows.new_empty(*inputs.shape[:2], len(part.bias))
            into = outputs[part.first : part.last].flatten(0, 1)
            torch.addmm(part.bias, rows.flatten(0, 1), part.matrices[-1].T, out=into)
        return outputs


class Part(NamedTuple):
    """Matrices that rows first .. last - 1 are multiplied by in turn, [K, in] .. [out, K'], and the bias [out].

    mask: [rows, 1, K], a row's share of the component: 1 or 0 behind a binary gate; None: all rows use all."""

    first: int
    last: int
    matrices: list[Tensor]
    bias: Tensor
    mask: Tensor | None = None


def _cheapest(layer: FactorizedLinear, label: int) -> int:
    """MACs of a token of the cheaper of a class's dense matrix and its factors; as many numbers are read."""
    dense = layer.in_features * layer.out_features
    return min(dense, layer.num_active(label) * (layer.in_features + layer.out_features))


def _masked_is_cheaper(layer: FactorizedLinear, runs: list[Run], tokens: int) -> bool:
    rank = len(torch.cat([layer.learngene_s, *(layer.tailor_s[own] for own in _owned(layer, runs))]))
    masked = (runs[-1].last - runs[0].first) * tokens * rank * (layer.in_features + layer.out_features) + 3 * CALL_MACS
    apart = sum((run.last - run.first) * tokens * _cheapest(layer, run.label) + 2 * CALL_MACS for run in runs)
    return masked < apart


def _owned(layer: FactorizedLinear, runs: list[Run]) -> list[slice]:
    """Rows of the tailors of all owners that the runs' classes use, each owner once."""
    owners = dict.fromkeys(owner for run in runs for owner in layer.gate.owners_of(run.label))
    return [layer.rows_of_owner(owner) for owner in owners]


@torch.no_grad()
def _part(layer: FactorizedLinear, run: Run) -> Part:
    """W [out, in], or diag(s) V [K, in] and U^T [out, K], whichever is the cheaper product."""
    if layer.in_features * layer.out_features == _cheapest(layer, run.label):
        return _cast(Part(run.first, run.last, [layer.dense_weight(run.label)], layer.bias))
    u, s, v = layer.components_of(run.label)
    u, s, v = torch.cat([layer.learngene_u, u]), torch.cat([layer.learngene_s, s]), torch.cat([layer.learngene_v, v])
    return _cast(Part(run.first, run.last, [v * s[:, None], u.T.contiguous()], layer.bias))


@torch.no_grad()
def _masked_part(layer: FactorizedLinear, runs: list[Run]) -> Part:
    """The components of all these classes: each row has those of its own class and the learngenes."""
    owned = _owned(layer, runs)
    u, s, v = (
        torch.cat([shared, *(tailors[own] for own in owned)])
        for shared, tailors in (
            (layer.learngene_u, layer.tailor_u),
            (layer.learngene_s, layer.tailor_s),
            (layer.learngene_v, layer.tailor_v),
        )
    )
    mask = s.new_zeros(runs[-1].last - runs[0].first, 1, len(s))
    mask[..., : layer.num_learngenes] = 1
    start = {}
    position = layer.num_learngenes
    for own in owned:
        start[own.start, own.stop] = position
        position += own.stop - own.start
    for run in runs:
        for own in layer.rows_of(run.label):
            at = start[own.start, own.stop]
            own_rows = slice(run.first - runs[0].first, run.last - runs[0].first)
            mask[own_rows, :, at : at + own.stop - own.start] = layer.share_of(run.label)
    return _cast(Part(runs[0].first, runs[-1].last, [v * s[:, None], u.T.contiguous()], layer.bias, mask))


def _cast(part: Part) -> Part:
    """In the dtype of autocast, which does not reach products that write into a given tensor."""
    device = part.bias.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else part.bias.dtype
    matrices, mask = [matrix.to(dtype) for matrix in part.matrices], None if part.mask is None else part.mask.to(dtype)
    return part._replace(matrices=matrices, bias=part.bias.detach().to(dtype), mask=mask)
