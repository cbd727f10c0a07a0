"""What one training step is about: images, labels, noise and timesteps, which depend on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kind.images import to_model_range
from kind.random_streams import batch_indices, stream
from kind.read_ahead import ReadAhead
from kind.spaces import PIXELS, Latents, Part, Pixels


class Batch(NamedTuple):
    """images: in [-1, 1], [B, C, H, W], as noise.  timesteps: [B].  labels: what the model is told, null where they
    were dropped; gate_labels: whose tailors are used, on the CPU.  all_gate_labels: the same of the whole batch,
    of which this may be a part.  weights: of each sample's loss, None: 1."""

    images: Tensor
    noise: Tensor
    timesteps: Tensor
    labels: Tensor
    gate_labels: Tensor
    all_gate_labels: Tensor
    weights: Tensor | None = None

    def parts(self, count: int) -> Iterator[Batch]:
        """It in so many parts, or in as many as it has samples."""
        size, count = len(self.images), min(count, len(self.images))
        for number in range(count):
            own = slice(size * number // count, size * (number + 1) // count)
            mine = {name: tensor[own] for name, tensor in self._asdict().items() if tensor is not None}
            yield Batch(**mine | {"all_gate_labels": self.all_gate_labels})


@dataclass(frozen=True)
class Replay:
    """Diff-Tuning (Zhong et al. 2024): samples of the source model are trained on beside the task's images, so that
    what it knew of small timesteps is retained while what it knew of large ones is adapted.

    images: uint8 [M, C, H, W], or latents as models see them.  share: of a batch that they are.  weight: of their loss.
    They have the null label, for which a class gate is closed: of KIND and gated LoRA as they come they train the label
    table's null row alone.  Of T timesteps, t (from 0) is drawn in proportion to t + 1 for images of the task, to T - t
    for replayed ones.
    """

    images: Tensor
    share: float
    weight: float


class Batches:
    """Batches of images, uint8 [N, C, H, W] on a device or read for one, with labels [N] below num_classes.

    space: what is drawn to make of them what a model sees; rows that are no pixels are as it says.
    label_dropout: share of labels that become the null label.  keep_gates: whether its tailors stay in use then.
    share: of each batch, what is returned; None: all.  All is drawn for whole batches, whoever trains on which part.
    """

    def __init__(
        self,
        images: Tensor | ReadAhead,
        labels: Tensor,
        *,
        size: int,
        seed: int,
        num_classes: int,
        num_timesteps: int,
        label_dropout: float,
        keep_gates: bool,
        replay: Replay | None = None,
        space: Pixels | Latents = PIXELS,
        share: slice | None = None,
    ):
        # labels stay on the CPU: what the gate does with them is decided there, without waiting for the device
        self.images, self.labels, self.device, self.space = images, labels, images.device, space
        self.seed, self.num_classes, self.num_timesteps = seed, num_classes, num_timesteps
        self.label_dropout, self.keep_gates, self.replay = label_dropout, keep_gates, replay
        self.num_replayed = 0 if replay is None else min(size - 1, max(1, round(replay.share * size)))
        self.size, self.num_own = size, size - self.num_replayed
        self.share = slice(0, size) if share is None else share
        self.own = slice(min(self.share.start, self.num_own), min(self.share.stop, self.num_own))
        self.replayed = self.weights = None
        if replay is not None:
            self.replayed = replay.images.to(self.device)
            self.weights = torch.ones(size, device=self.device)
            self.weights[self.num_own :] = replay.weight
            self.weights = self.weights[self.share]

    def indices(self, step: int) -> list[int]:
        """Of the images of the task, in this order; replayed ones follow them in the batch."""
        return self._chosen(step).tolist()

    def at(self, step: int) -> Batch:
        chosen = self._chosen(step)
        labels = self.labels[chosen]
        if isinstance(self.images, ReadAhead):
            images = self.images.read(chosen[self.own], self._chosen(step + 1)[self.own])
        else:
            images = self.images[chosen[self.own].to(self.device)]
        images = self.space.seen(images, self.seed, step, Part(self.num_own, self.own))
        if self.replay is not None:
            again = batch_indices(len(self.replayed), self.num_replayed, step, f"{self.seed}/replay")
            start, stop = (max(0, end - self.num_own) for end in (self.share.start, self.share.stop))
            images = torch.cat([images, to_model_range(self.replayed[again[start:stop].to(self.device)])])
            labels = torch.cat([labels, torch.full((self.num_replayed,), self.num_classes)])
        noise, timesteps, dropped = self._draw(images.shape[1:], step)
        seen = torch.where(dropped, self.num_classes, labels)
        gate_labels = labels if self.keep_gates else seen
        return Batch(
            images,
            noise[self.share].to(self.device),
            timesteps[self.share].to(self.device),
            seen[self.share].to(self.device),
            gate_labels[self.share],
            gate_labels,
            self.weights,
        )

    def _chosen(self, step: int) -> Tensor:
        return batch_indices(len(self.images), self.num_own, step, self.seed)

    def _draw(self, shape: torch.Size, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Noise, timesteps and which labels are dropped, of the whole batch: on the CPU, so that devices agree."""
        generator = stream(self.seed, "diffusion", step)
        noise = torch.randn((self.size, *shape), generator=generator)
        if self.replay is None:
            timesteps = torch.randint(self.num_timesteps, (self.size,), generator=generator)
        else:
            rising = torch.arange(1, self.num_timesteps + 1, dtype=torch.float64)
            counts = ((rising, self.num_own), (rising.flip(0), self.num_replayed))
            drawn = [torch.multinomial(w, count, replacement=True, generator=generator) for w, count in counts]
            timesteps = torch.cat(drawn)
        dropped = torch.rand(self.size, generator=generator) < self.label_dropout
        return noise, timesteps, dropped
