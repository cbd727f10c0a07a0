"""What models see of the rows of a data set: pixels, or latents of a VAE, with what is drawn anew at each step.

Draws depend on the seed and the step alone, on the CPU, so that devices, ranks and resumed runs agree.  Importing this
imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Part(NamedTuple):
    """`rows` of a batch of `count`: what is drawn is drawn for all of a batch, whoever computes which part of it."""

    count: int
    rows: slice

    @classmethod
    def whole(cls, rows: Sized) -> Part:
        return cls(len(rows), slice(None))


@dataclass(frozen=True)
class Pixels:
    """Rows are uint8 [N, H, W, C].  flips: whether an image is mirrored in half of the steps, at random."""

    flips: bool = False

    def shape_of(self, row: Sequence[int]) -> tuple[int, int, int]:
        """(height, width, channels) of what a model sees."""
        return tuple(row)

    def arranged(self, rows: Tensor) -> Tensor:
        """Rows as torch has them, uint8 [B, C, H, W]."""
        return rows.permute(0, 3, 1, 2).contiguous()

    def seen(self, images: Tensor, seed: int, step: int | str, part: Part | None = None) -> Tensor:
        """Arranged rows -> float32 in [-1, 1], [B, C, H, W].  part: of a batch, which the rows are."""
        import torch

        from kind.images import to_model_range

        if self.flips:
            mirrored = _flips(part or Part.whole(images), seed, step).to(images.device)[:, None, None, None]
            images = torch.where(mirrored, images.flip(-1), images)
        return to_model_range(images)

    def held_out(self, images: Tensor) -> Tensor:
        """The same of what is not trained on: not mirrored, and small as it is stored."""
        return images


PIXELS = Pixels()


@dataclass(frozen=True)
class Latents:
    """Rows are posteriors of an AutoencoderKL, fp16 [N, F, 2, C, h, w]: mean and standard deviation of the image and,
    for F = 2, of the mirrored image.

    A model sees scale (mean + deviation e), with e from N(0, 1) and one of F, both drawn anew at each step: EDM2 stores
    and draws so (Karras et al. 2024); DiT's code encodes and draws at each step.  vae: sha256 of the weights.
    """

    vae: str
    scale: float

    def shape_of(self, row: Sequence[int]) -> tuple[int, int, int]:
        """(height, width, channels) of what a model sees."""
        channels, height, width = row[2:]
        return height, width, channels

    def arranged(self, rows: Tensor) -> Tensor:
        """Rows as torch has them: as they are."""
        return rows

    def seen(self, posteriors: Tensor, seed: int, step: int | str, part: Part | None = None) -> Tensor:
        """Rows -> float32 [B, C, h, w].  Halves become float32 without rounding, before anything is computed.

        part: of a batch, which the rows are.
        """
        import torch

        from kind.random_streams import stream

        part, chosen = part or Part.whole(posteriors), posteriors[:, 0]
        if posteriors.shape[1] == 2:
            mirrored = _flips(part, seed, step).to(posteriors.device)
            chosen = torch.where(mirrored[:, None, None, None, None], posteriors[:, 1], chosen)
        mean, deviation = chosen.float().unbind(1)
        drawn = torch.randn((part.count, *mean.shape[1:]), generator=stream(seed, "posterior", step))[part.rows]
        return (mean + deviation * drawn.to(mean.device)) * self.scale

    def held_out(self, posteriors: Tensor) -> Tensor:
        """The same of what is not trained on: one draw for all models, not mirrored."""
        return self.seen(posteriors[:, :1], 0, "held out")


def _flips(part: Part, seed: int, step: int | str) -> Tensor:
    """Which of a batch's part are mirrored."""
    import torch

    from kind.random_streams import stream

    return (torch.rand(part.count, generator=stream(seed, "flips", step)) < 0.5)[part.rows]
