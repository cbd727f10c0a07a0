"""DiT (Peebles & Xie 2023) from diffusers' blocks, wired and initialised as the paper has it.

diffusers' `DiTTransformer2DModel` holds one timestep-and-label embedder in every block, drops labels in each of them
on its own, and starts from torch's default initialisation.  Here one embedder serves all blocks and the final layer
(evaluated once per forward), labels are dropped before the model, and the weights start as DiT's do.  Kept from
diffusers, so that its stock class loads our exports: the timestep frequencies (`downscale_freq_shift=1`; DiT has 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kind.diffusers_parts import DiTTransformer2DModel
from kind.models.gate import ClassGate
from kind.spaces import Latents

EMBEDDER = "transformer_blocks.{}.norm1.emb."
FUSED_IN_DIT = ("to_q", "to_k", "to_v")
FUSED_GAIN = 2**-0.5  # Xavier's bound sqrt(6 / (D + 3 D)) of the fused matrix over its own sqrt(6 / (D + D))
LABEL_TABLE = "embedder.class_embedder.embedding_table.weight"


@dataclass(frozen=True)
class DiTConfig:
    """What defines a DiT's shape; `num_classes` excludes the null class, which is row `num_classes`.

    latents: whose they are, for a model that sees latents and no pixels.
    """

    depth: int
    width: int
    num_heads: int
    patch_size: int
    image_size: int
    channels: int
    num_classes: int
    learned_variance: bool = False
    latents: Latents | None = None

    def __post_init__(self) -> None:
        if isinstance(self.latents, dict):  # from the header of a file
            object.__setattr__(self, "latents", Latents(**self.latents))

    @property
    def out_channels(self) -> int:
        return self.channels * (2 if self.learned_variance else 1)

    @property
    def num_tokens(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    def stock_arguments(self) -> dict:
        """Arguments of `DiTTransformer2DModel` for this shape (`norm_eps` 1e-6 as in DiT, diffusers has 1e-5)."""
        return {
            "num_attention_heads": self.num_heads,
            "attention_head_dim": self.width // self.num_heads,
            "in_channels": self.channels,
            "out_channels": self.out_channels,
            "num_layers": self.depth,
            "sample_size": self.image_size,
            "patch_size": self.patch_size,
            "num_embeds_ada_norm": self.num_classes,
            "norm_eps": 1e-6,
        }

    def to_dict(self) -> dict:
        """For headers; those of pixels do not speak of latents."""
        return {key: value for key, value in asdict(self).items() if (key, value) != ("latents", None)}


class DiT(nn.Module):
    """A class-conditional diffusion transformer whose blocks may hold factorized linears behind a class gate.

    Parameter names are diffusers', but for the one embedder, which is `embedder.*` here.
    `gate` is None for an ordinary (dense) model.  recompute_blocks: only the inputs of blocks are kept for the backward
    pass (gradient checkpointing).
    """

    def __init__(self, config: DiTConfig):
        super().__init__()
        stock = DiTTransformer2DModel(**config.stock_arguments())
        self.config = config
        self.gate: ClassGate | None = None
        self.recompute_blocks = False
        self.embedder = stock.transformer_blocks[0].norm1.emb
        self.embedder.class_embedder.dropout_prob = 0.0  # labels are dropped once, by the training objective
        self.pos_embed = stock.pos_embed
        self.transformer_blocks = stock.transformer_blocks
        for block in self.transformer_blocks:
            block.norm1.emb = GivenConditioning()
        self.norm_out, self.proj_out_1, self.proj_out_2 = stock.norm_out, stock.proj_out_1, stock.proj_out_2
        initialise_as_dit(self)

    def forward(self, images: Tensor, timesteps: Tensor, labels: Tensor, gate_labels: Tensor | None = None) -> Tensor:
        """Prediction for noisy images.  [B, C, H, W], [B], [B] -> [B, C or 2C, H, W].

        labels: 0..num_classes, where num_classes is the null class.  gate_labels: whose tailors are used, if that
        differs from `labels` (null gate policy `true_class`).
        """
        if self.gate is None:
            return self._predict(images, timesteps, labels)
        opened = labels if gate_labels is None else gate_labels
        if images.device.type != "cpu" or torch.compiler.is_compiling() or bool((opened[1:] >= opened[:-1]).all()):
            self.gate.open(opened.to(images.device))
            return self._predict(images, timesteps, labels)
        order = opened.argsort(stable=True)  # classes together: see kind/models/gated_product.py
        self.gate.open(opened[order])
        sorted_output = self._predict(images[order], timesteps[order], labels[order])
        return torch.empty_like(sorted_output).index_copy(0, order, sorted_output)

    def _predict(self, images: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        hidden = self.pos_embed(images)
        conditioning = self.embedder(timesteps, labels, hidden_dtype=hidden.dtype)
        recompute = self.recompute_blocks and torch.is_grad_enabled()
        for block in self.transformer_blocks:
            hidden = (
                self._checkpointed(block, hidden, conditioning) if recompute else block(hidden, timestep=conditioning)
            )
        shift, scale = self.proj_out_1(F.silu(conditioning)).chunk(2, dim=1)
        hidden = self.norm_out(hidden) * (1 + scale[:, None]) + shift[:, None]
        return self._unpatchify(self.proj_out_2(hidden))

    def _checkpointed(self, block: nn.Module, hidden: Tensor, conditioning: Tensor) -> Tensor:
        """The block's output, with its inside computed again in the backward pass, behind the same gate."""
        gate, opened = self.gate, self.gate and self.gate.opened

        def run(hidden: Tensor, conditioning: Tensor) -> Tensor:
            with nullcontext() if gate is None else gate.reopened(opened):
                return block(hidden, timestep=conditioning)

        return checkpoint(run, hidden, conditioning, use_reentrant=False)

    def _unpatchify(self, tokens: Tensor) -> Tensor:
        """[B, N, P * P * C] -> [B, C, H, W]."""
        side, patch, channels = self.config.image_size // self.config.patch_size, self.config.patch_size, -1
        grid = tokens.unflatten(1, (side, side)).unflatten(3, (patch, patch, channels))
        return grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    @property
    def label_table(self) -> nn.Parameter:
        """[num_classes + 1, width]; the last row is the null class."""
        return self.embedder.class_embedder.embedding_table.weight


class GivenConditioning(nn.Module):
    """Stands where diffusers has a block's own embedder: hands on the conditioning that the model computed once."""

    def forward(
        self, conditioning: Tensor, class_labels: None = None, hidden_dtype: torch.dtype | None = None
    ) -> Tensor:
        return conditioning


def initialise_as_dit(model: DiT) -> None:
    """DiT's `initialize_weights`: Xavier linears, normal(0.02) embedders, zero AdaLN and output layers.

    DiT draws q, k and v as one [3 D, D] matrix; apart, Xavier's bound is that of the fused one (gain 1/sqrt 2).
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for block in model.transformer_blocks:
        for name in FUSED_IN_DIT:
            nn.init.xavier_uniform_(block.attn1.get_submodule(name).weight, gain=FUSED_GAIN)
        nn.init.zeros_(block.norm1.linear.weight)
    nn.init.xavier_uniform_(model.pos_embed.proj.weight.flatten(1))
    nn.init.zeros_(model.pos_embed.proj.bias)
    nn.init.normal_(model.label_table, std=0.02)
    nn.init.normal_(model.embedder.timestep_embedder.linear_1.weight, std=0.02)
    nn.init.normal_(model.embedder.timestep_embedder.linear_2.weight, std=0.02)
    for layer in (model.proj_out_1, model.proj_out_2):
        nn.init.zeros_(layer.weight)


def build_dit(config: DiTConfig, seed: int) -> DiT:
    """A freshly initialised DiT; the same seed gives the same weights whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DiT(config)


def renew_label_table(model: DiT, num_classes: int, seed: int, start: str) -> DiT:
    """Give the model rows for `num_classes` new classes and keep its null row.

    start: `random` draws rows as DiT's initialisation does, `null` copies the null row.
    """
    old_null = model.label_table.detach()[-1:]
    rows = old_null.expand(num_classes, -1)
    if start == "random":
        generator = torch.Generator().manual_seed(seed)
        rows = 0.02 * torch.randn(num_classes, old_null.shape[1], generator=generator).to(old_null)
    return _with_label_rows(model, rows)


def keep_label_rows(model: DiT, labels: Sequence[int]) -> DiT:
    """Only these classes' rows, in this order, and the null row, in place: for a model without a gate."""
    return _with_label_rows(model, model.label_table.detach()[list(labels)])


def _with_label_rows(model: DiT, rows: Tensor) -> DiT:
    """rows: of all classes, [num_classes, width]; the null row stays."""
    class_embedder, num_classes = model.embedder.class_embedder, len(rows)
    table = torch.cat([rows, model.label_table.detach()[-1:]])
    class_embedder.embedding_table = nn.Embedding.from_pretrained(table, freeze=False)
    class_embedder.num_classes = num_classes
    model.config = replace(model.config, num_classes=num_classes)
    return model


def to_diffusers(model: DiT) -> DiTTransformer2DModel:
    """The same function as diffusers' stock class, for a model whose linears are all dense."""
    if model.gate is not None:
        raise ValueError("a model with a class gate has no plain dense form")
    stock = DiTTransformer2DModel(**model.config.stock_arguments()).eval()
    weights = model.state_dict()
    embedder = {name: weights.pop(name) for name in list(weights) if name.startswith("embedder.")}
    for index in range(model.config.depth):
        weights |= {EMBEDDER.format(index) + name.removeprefix("embedder."): value for name, value in embedder.items()}
    stock.load_state_dict(weights)
    return stock
