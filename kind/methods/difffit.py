"""DiffFit (Xie et al. 2023): biases and new scale factors gamma are trained, gamma = 1 at the start.

Gammas stand on the outputs of q, k and v, on the attention's output projection and on each residual branch, in the
first half of the blocks (the authors' 14 of 28).  They also train norms, of which DiT's have no weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kind.methods import Adaptation, DenseStart, Method, bitfit, fold_linears

if TYPE_CHECKING:
    from kind.models.dit import DiT


def attach(model: DiT, options: DenseStart, task: Adaptation) -> None:
    from kind.models.adapted_linears import ScaledLinear

    for block in model.transformer_blocks[: scaled_blocks(model)]:
        for path in ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.2"):
            block.set_submodule(path, ScaledLinear(block.get_submodule(path)))
        # to_out.0 ends a residual branch too, which has a factor of its own
        block.set_submodule("attn1.to_out.0", ScaledLinear(block.get_submodule("attn1.to_out.0")))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith((".bias", ".gamma")))


def scaled_blocks(model: DiT) -> int:
    return -(-model.config.depth // 2)


def trainable_parameters(model: DiT, options: DenseStart, task: Adaptation) -> int:
    """BitFit's, and 6 D in each of the first ceil(depth / 2) blocks."""
    return bitfit.trainable_parameters(model, options, task) + 6 * model.config.width * scaled_blocks(model)


METHOD = Method(
    name="difffit",
    title="DiffFit",
    source="Xie et al. 2023",
    trains="biases and scale factors of the first half of the blocks",
    formula="BitFit's + 6 D ceil(depth / 2)",
    options=DenseStart,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    merge=fold_linears,
)
