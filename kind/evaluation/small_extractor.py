"""The small feature network: one per experiment, trained on the training images of all its tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kind.artifacts import load_tensors, save_tensors
from kind.errors import UserError, first_difference

KIND_OF_FILE = "small-extractor"
SMALLEST, LARGEST = 8, 32
WIDTHS = (16, 32, 64)
GRID = 4  # the spatial features are a GRID x GRID map ...
SPATIAL_CHANNELS = 3  # ... of the first channels of the middle layer, as sFID takes the first seven
WEIGHT_DECAY = 0.01
MAX_SHIFT = 1  # pixels, the augmentation
AGAIN = "delete it and run the extractor stage again, or snakemake"


class SmallNetwork(nn.Module):
    """Three 3x3 convolutions, a global average, a bottleneck and a linear classifier, GELU between them.

    uint8 [B, C, H, W] -> pooled [B, feature_dim] (the bottleneck), spatial [B, 4 * 4 * 3] in H, W, C order,
    logits [B, K].  A bottleneck on the flattened map classifies no worse, but its Fréchet distance tells noise from
    real digits less well (40 grey levels: 3 times the distance between two real sets, against 4 to 7 times here).
    Raises UserError for images outside 8x8 .. 32x32 or with other than 1 or 3 channels.
    """

    def __init__(self, image_shape: Sequence[int], class_names: Sequence[str], feature_dim: int):
        super().__init__()
        height, width, channels = image_shape
        if min(height, width) < SMALLEST or max(height, width) > LARGEST or channels not in (1, 3):
            raise UserError(
                f"the small extractor takes images of {SMALLEST}x{SMALLEST} to {LARGEST}x{LARGEST} pixels with 1 or "
                f"3 channels; got (H, W, C) = {tuple(image_shape)}",
                hint="give Inception weights by path for larger images",
            )
        if len(class_names) < 2 or len(set(class_names)) != len(class_names):
            raise UserError(f"an extractor needs two or more different class names; got {list(class_names)}")
        if feature_dim < 1:
            raise UserError(f"feature_dim must be at least 1; got {feature_dim}")
        self.image_shape = (int(height), int(width), int(channels))
        self.class_names = tuple(str(name) for name in class_names)
        self.feature_dim = int(feature_dim)
        # The middle layer halves every image; the first and last one halve the larger ones down to about 4x4.
        size = min(height, width)
        strides = (2 if size >= 24 else 1, 2, 2 if size >= 16 else 1)
        ins = (channels, *WIDTHS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(ins[i], WIDTHS[i], kernel_size=3, stride=strides[i], padding=1) for i in range(3)
        )
        self.bottleneck = nn.Linear(WIDTHS[-1], feature_dim)
        self.classifier = nn.Linear(feature_dim, len(class_names))
        self.register_buffer("pooled_scale", torch.ones(()))
        self.register_buffer("spatial_scale", torch.ones(()))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = (images.to(self.classifier.weight.dtype) - 127.5) / 127.5
        low, middle, high = self.convolutions
        middle_map = F.gelu(middle(F.gelu(low(hidden))))
        spatial = F.adaptive_avg_pool2d(middle_map[:, :SPATIAL_CHANNELS], GRID).permute(0, 2, 3, 1).flatten(1)
        pooled = F.gelu(self.bottleneck(F.gelu(high(middle_map)).mean(dim=(2, 3))))
        return pooled * self.pooled_scale, spatial * self.spatial_scale, self.classifier(pooled)

    @torch.no_grad()
    def set_scales(self, images: Tensor, batch_size: int) -> None:
        """Scales both kinds of features so that their mean square over these images is 1.

        The cubic kernel (x.y / D + 1)^3 needs features of about that size, as Inception's are: with larger ones a few
        pairs outweigh all others.  It also makes distances of two experiments' extractors alike in magnitude.
        """
        self.pooled_scale.fill_(1.0)
        self.spatial_scale.fill_(1.0)
        outputs = [self(part)[:2] for part in images.split(batch_size)]
        for scale, parts in zip((self.pooled_scale, self.spatial_scale), zip(*outputs, strict=True), strict=True):
            scale.fill_(float(torch.cat(parts).double().square().mean()) ** -0.5)


def train_extractor(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    validation_images: np.ndarray,
    validation_labels: np.ndarray,
    steps: int,
    batch_size: int,
    learning_rate: float,
    feature_dim: int = 32,
    seed: int,
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[SmallNetwork, dict[str, Any]]:
    """Cross-entropy training on the CPU (AdamW, one-cycle rate, shifts by a pixel); returns network and record.

    Images uint8 [N, H, W, C], labels index `class_names`.  Initial weights, order and shifts come from `seed`
    alone, and the global random state is left as it was.  `progress(step, steps, loss)` is called after each step.
    record: validation accuracy and loss, last training loss, counts, settings.  Raises UserError for images, labels
    or settings that do not fit, and where the loss stops being finite.
    """
    for name, value in (("steps", steps), ("batch_size", batch_size), ("learning_rate", learning_rate)):
        if not value > 0:
            raise UserError(f"{name} of the extractor must be positive; got {value}")
    inputs, targets = _as_tensors(images, labels, class_names, images.shape[1:])
    validation = _as_tensors(validation_images, validation_labels, class_names, images.shape[1:])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallNetwork(images.shape[1:], class_names, feature_dim)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=max(steps, 2))
    generator = np.random.default_rng(seed)
    network.train()
    for step in range(1, steps + 1):
        chosen = torch.from_numpy(generator.integers(0, len(inputs), size=batch_size))
        batch = _shifted(inputs[chosen], *generator.integers(0, 2 * MAX_SHIFT + 1, size=2))
        loss = F.cross_entropy(network(batch)[2], targets[chosen])
        train_loss = float(loss.detach())
        if not np.isfinite(train_loss):
            raise UserError(f"the extractor's loss is {train_loss} at step {step}", hint="lower its learning_rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step, steps, train_loss)
    network.eval()
    network.set_scales(inputs, batch_size)
    with torch.no_grad():
        logits = torch.cat([network(part)[2] for part in validation[0].split(batch_size)])
        validation_loss = float(F.cross_entropy(logits, validation[1]))
    record = {
        "validation_accuracy": float((logits.argmax(dim=1) == validation[1]).double().mean()),
        "validation_loss": validation_loss,
        "train_loss": train_loss,
        "num_train": len(inputs),
        "num_validation": len(logits),
        "num_parameters": sum(parameter.numel() for parameter in network.parameters()),
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "feature_dim": feature_dim,
        "seed": seed,
    }
    return network, record


def save_extractor(path: str | os.PathLike, network: SmallNetwork, header_extra: Mapping[str, Any]) -> None:
    """Weights and a header that rebuilds the network; put `name` and the training `record` into `header_extra`."""
    header = {
        **header_extra,
        "kind_of_file": KIND_OF_FILE,
        "image_shape": list(network.image_shape),
        "class_names": list(network.class_names),
        "feature_dim": network.feature_dim,
    }
    save_tensors(path, network.state_dict(), header)


def load_network(path: str | os.PathLike) -> tuple[SmallNetwork, dict[str, Any]]:
    """Network in evaluation mode and header of a file of `save_extractor`; raises UserError for any other file."""
    tensors, header = load_tensors(path)
    if header.get("kind_of_file") != KIND_OF_FILE:
        raise UserError(
            f"{path}: not a {KIND_OF_FILE} file; its header has the keys {', '.join(sorted(header))}", hint=AGAIN
        )
    wanted = ("image_shape", "class_names", "feature_dim")
    absent = [key for key in wanted if key not in header]
    if absent:
        raise UserError(f"{path}: its header has no {', '.join(absent)}", hint=AGAIN)
    with torch.random.fork_rng(devices=[]):
        network = SmallNetwork(*(header[key] for key in wanted))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"{path}: its weights do not fit the network its header describes: {first_difference(error)}", hint=AGAIN
        )
    return network.eval().requires_grad_(False), header


def _as_tensors(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], image_shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """uint8 [N, C, H, W] and int64 [N]."""
    labels = np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != tuple(image_shape) or len(images) == 0:
        raise UserError(f"extractor images must be uint8 [N, H, W, C] of one shape; got {images.dtype} {images.shape}")
    if labels.shape != (len(images),) or labels.min() < 0 or labels.max() >= len(class_names):
        raise UserError(f"{len(images)} images need {len(images)} labels in 0 .. {len(class_names) - 1}")
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return tensor, torch.from_numpy(labels.astype(np.int64))


def _shifted(images: Tensor, down: int, right: int) -> Tensor:
    """A window of the images with their borders repeated; (MAX_SHIFT, MAX_SHIFT) is no shift."""
    height, width = images.shape[2:]
    padded = F.pad(images.float(), (MAX_SHIFT,) * 4, mode="replicate")
    return padded[:, :, down : down + height, right : right + width]
