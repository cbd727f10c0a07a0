"""Many denoising steps of one batch: what does not change between steps is computed once.

Sampling asks a model for the same labels at a known list of timesteps.  `DiT.forward` cannot know that, and in every
step embeds labels and timesteps anew for each row, applies every block's AdaLN to each row, and finds out whose tailors
each row uses.  Here conditioning and modulations are computed once for each distinct label, for many steps at once;
rows stand sorted by whose tailors they use; and each class's factors are joined to the learngenes once a batch, or
multiplied out where the dense matrix is the cheaper product.  Outputs are those of `DiT.forward` to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kind.diffusers_parts import AdaLayerNormZero, Attention, BasicTransformerBlock, FeedForward
from kind.models.dit import DiT, GivenConditioning
from kind.models.factorized import FactorizedLinear, factorized_layers

MODULATION_BYTES = 2**26  # of modulations that are kept at a time
FACTOR_BYTES = 2**29  # of all classes' joined factors; a batch that needs more uses the layers as they are
MOST_RUNS = 16  # of one class each: products of many small runs cost more than they save


class Denoiser:
    """`model(images, timesteps[step], labels, gate_labels)` for one batch of labels and a list of timesteps.

    timesteps: [S].  labels, gate_labels: [R] for R rows, R a multiple of the number of images: row r is about image
    r modulo B, so that both halves of guidance share the patch embedding.  The model must not change meanwhile.
    """

    def __init__(self, model: DiT, timesteps: Tensor, labels: Tensor, gate_labels: Tensor | None = None):
        self.model, self.timesteps = model, timesteps
        gates = labels if gate_labels is None else gate_labels
        pairs, row_pairs = torch.unique(torch.stack([gates, labels], dim=1), dim=0, return_inverse=True)
        self.pairs, self.order = pairs, row_pairs.argsort(stable=True)  # by gate, then label
        self.row_pairs, self.back = row_pairs[self.order], self.order.argsort()
        self.gates = gates[self.order]
        self.first, self.modulations, self.final = 0, [], None
        self.products = self._prepare_products() if model.gate is not None else {}

    @staticmethod
    def fits(model: nn.Module) -> bool:
        """Whether this is a DiT built as ours is: methods may put other modules into a model, or hooks."""
        if not isinstance(model, DiT) or any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()):
            return False
        return all(
            type(block) is BasicTransformerBlock
            and type(block.norm1) is AdaLayerNormZero
            and type(block.norm1.emb) is GivenConditioning
            and type(block.attn1) is Attention
            and type(block.ff) is FeedForward
            for block in model.transformer_blocks
        )

    def __call__(self, images: Tensor, step: int) -> Tensor:
        """[B, C, H, W] -> [R, C or 2 C, H, W] at timesteps[step]."""
        model = self.model
        if not self.first <= step < self.first + (0 if self.final is None else len(self.final)):
            self._modulate_from(step)
        if model.gate is not None and len(self.products) < sum(1 for _ in factorized_layers(model)):
            model.gate.open(self.gates)
        hidden = model.pos_embed(images)[self.order % len(images)]
        for index, block in enumerate(model.transformer_blocks):
            hidden = self._block(
                f"transformer_blocks.{index}", block, hidden, self._rows(self.modulations[index], step)
            )
        shift, scale = self._rows(self.final, step).chunk(2, dim=2)
        hidden = torch.addcmul(shift, model.norm_out(hidden), 1 + scale)
        return model._unpatchify(model.proj_out_2(hidden))[self.back]

    def _block(self, name: str, block: BasicTransformerBlock, hidden: Tensor, modulation: Tensor) -> Tensor:
        """diffusers' BasicTransformerBlock, AdaLN's modulations given.  [R, N, D], [R, 1, 6 D] -> [R, N, D]."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation.chunk(6, dim=2)
        attention = block.attn1

        def product(path: str, inputs: Tensor) -> Tensor:
            full = f"{name}.{path}"
            chosen = self.products.get(full)
            return block.get_submodule(path)(inputs) if chosen is None else chosen(inputs)

        normed = torch.addcmul(shift_1, block.norm1.norm(hidden), 1 + scale_1)
        queries, keys, values = (
            product(f"attn1.{path}", normed).unflatten(2, (attention.heads, -1)).transpose(1, 2)
            for path in ("to_q", "to_k", "to_v")
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        hidden = torch.addcmul(hidden, gate_1, product("attn1.to_out.0", mixed))
        normed = torch.addcmul(shift_2, block.norm3(hidden), 1 + scale_2)
        inner = block.ff.net[0].gelu(product("ff.net.0.proj", normed))
        return torch.addcmul(hidden, gate_2, product("ff.net.2", inner))

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

    def _prepare_products(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """A product for each factorized matrix whose factors do not take too much memory, by name; else none."""
        labels, counts = torch.unique_consecutive(self.gates, return_counts=True)
        edges = [0, *counts.cumsum(0).tolist()]
        runs = list(zip(labels.tolist(), pairwise(edges), strict=True))
        layers = {name: layer for name, layer in factorized_layers(self.model) if ".norm1." not in name}
        size = sum(4 * _cheapest(layer, label)[1] for label, _ in runs for layer in layers.values())
        if len(runs) > MOST_RUNS or size > FACTOR_BYTES:
            return {}
        return {name: Product(layer, runs) for name, layer in layers.items()}


class Product:
    """A factorized matrix for rows that stand sorted by whose tailors they use.  [R, N, in] -> [R, N, out].

    runs: label and (first, last + 1) row of each run of rows with one label.
    """

    def __init__(self, layer: FactorizedLinear, runs: list[tuple[int, tuple[int, int]]]):
        self.bias, self.runs = layer.bias, [(*rows, _matrices(layer, label)) for label, rows in runs]

    def __call__(self, inputs: Tensor) -> Tensor:
        outputs = []
        for first, last, matrices in self.runs:
            part = inputs[first:last] if len(self.runs) > 1 else inputs
            for matrix in matrices[:-1]:
                part = F.linear(part, matrix)
            outputs.append(F.linear(part, matrices[-1], self.bias))
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0]


def _cheapest(layer: FactorizedLinear, label: int) -> tuple[bool, int]:
    """Whether the dense matrix of a class is a cheaper product than its factors, and how many numbers it reads."""
    dense = layer.in_features * layer.out_features
    factors = layer.num_active(label) * (layer.in_features + layer.out_features)
    return dense <= factors, min(dense, factors)


@torch.no_grad()
def _matrices(layer: FactorizedLinear, label: int) -> list[Tensor]:
    """W [out, in], or diag(s) V [R, in] and U^T [out, R], whichever is the cheaper product; in autocast's dtype."""
    if _cheapest(layer, label)[0]:
        matrices = [layer.dense_weight(label)]
    else:
        u, s, v = layer.components_of(label)
        u, s, v = (
            torch.cat([layer.learngene_u, u]),
            torch.cat([layer.learngene_s, s]),
            torch.cat([layer.learngene_v, v]),
        )
        matrices = [v * s[:, None], u.T.contiguous()]
    device = layer.bias.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else layer.bias.dtype
    return [matrix.to(dtype) for matrix in matrices]
