"""Random numbers that depend on a seed, a purpose and a position, never on what was drawn before.

A job that resumes at step 1000 draws what the undisturbed job drew at step 1000, with no generator state to save.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch
from torch import Tensor


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any parts, well mixed."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(*parts: int | str) -> torch.Generator:
    """A CPU generator for these parts.

    torch's CPU generator reads 32 bits of a seed, so that among 50,000 streams two begin alike one time in four.
    """
    return torch.Generator().manual_seed(derive_seed(*parts))


def batch_indices(num_images: int, batch_size: int, step: int, seed: int | str) -> Tensor:
    """Indices of the images of batch `step`: one endless row of shuffled epochs, cut into batches.  [batch_size]."""
    position, end, pieces = step * batch_size, (step + 1) * batch_size, []
    while position < end:
        epoch, offset = divmod(position, num_images)
        pieces.append(_epoch(num_images, epoch, seed)[offset : offset + end - position])
        position += len(pieces[-1])
    return torch.cat(pieces)


@lru_cache(maxsize=4)
def _epoch(num_images: int, epoch: int, seed: int | str) -> Tensor:
    return torch.randperm(num_images, generator=stream(seed, "order", epoch))
