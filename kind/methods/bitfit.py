"""BitFit (Ben Zaken et al. 2022): the biases that the backbone has are trained and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kind.methods import Adaptation, DenseStart, Method

if TYPE_CHECKING:
    from kind.models.dit import DiT


def attach(model: DiT, options: DenseStart, task: Adaptation) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith(".bias"))


def trainable_parameters(model: DiT, options: DenseStart, task: Adaptation) -> int:
    """depth (4 D attention + 5 D MLP + 6 D AdaLN) + 2 D timestep MLP + D patches + 2 D last AdaLN + last layer."""
    width, patch = model.config.width, model.config.patch_size
    return 15 * model.config.depth * width + 5 * width + patch * patch * model.config.out_channels


METHOD = Method(
    name="bitfit",
    title="BitFit",
    source="Ben Zaken et al. 2022",
    trains="biases",
    formula="(15 depth + 5) D + last layer",
    options=DenseStart,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
)
