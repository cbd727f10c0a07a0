"""Stored images for training: each batch is read from disk while the step before it is computed."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from kind.data.prepared import StoredImages
from kind.spaces import PIXELS, Latents, Pixels

RESIDENT_BYTES = 2**30  # images of a smaller set are read once and stay on the device


class ReadAhead:
    """Batches of stored images for a device.  One thread reads: a batch is some hundred copies out of a memory map."""

    def __init__(self, images: StoredImages, device: torch.device, space: Pixels | Latents = PIXELS):
        self.images, self.device, self.space = images, device, space
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._begun: tuple[Tensor, Future[Tensor]] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def read(self, chosen: Tensor, then: Tensor) -> Tensor:
        """The images `chosen`, uint8 [B, C, H, W] (or latents) on the device; reading those that come `then` begins."""
        if self._begun is None or not torch.equal(self._begun[0], chosen):
            self._begin(chosen)
        batch = self._begun[1].result()
        self._begin(then)
        return self.space.arranged(batch.to(self.device, non_blocking=True))

    def _begin(self, chosen: Tensor) -> None:
        self._begun = chosen, self._pool.submit(self._gather, chosen)

    def _gather(self, chosen: Tensor) -> Tensor:
        batch = torch.from_numpy(self.images[chosen.numpy()])
        return batch.pin_memory() if self.device.type == "cuda" else batch
