"""Feature extractors behind one interface: the experiment's own small network, Inception, or DINOv2."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kind.artifacts import sha256
from kind.errors import UserError
from kind.weights import WEIGHTS

if TYPE_CHECKING:
    from torch import nn

INCEPTION, DINOV2 = "inception", "dinov2"
INCEPTION_SHA256 = WEIGHTS[INCEPTION].files[0].sha256  # how the published file's begins


class Features(NamedTuple):
    """What an extractor says of N images, all float32: pooled [N, D], spatial [N, S] and logits [N, K].

    None stands for what a network does not have: DINOv2 has pooled features alone.
    """

    pooled: np.ndarray
    spatial: np.ndarray | None
    logits: np.ndarray | None


@dataclass(frozen=True)
class Extractor:
    """A network with what a protocol must say of it.

    name: part of metric names; `inception` and `dinov2` are kept for these.  identity: sha256 of the weights file, of
    several files that of their sha256s.
    class_names: what the logits stand for, None where that is no matter of ours.
    image_shape: the only (H, W, C) it takes, None for any.  network: uint8 [B, C, H, W] -> the three features.
    """

    name: str
    identity: str
    class_names: tuple[str, ...] | None
    image_shape: tuple[int, int, int] | None
    network: nn.Module
    device: str = "cpu"

    def extract(
        self, images: np.ndarray, batch_size: int, progress: Callable[[int, int], None] | None = None
    ) -> Features:
        """Features of uint8 [N, H, W, C], in batches of `batch_size`, float32 without TF32 or autocast.

        Images split over calls at multiples of `batch_size` give the same numbers.  `progress(done, total)` is
        called after each batch.  Raises UserError for other images and for features that are not finite.
        """
        import torch

        self._check(images, batch_size)
        parts = []
        with torch.inference_mode(), _exact_arithmetic(self.device):
            for start in range(0, len(images), batch_size):
                stop = min(start + batch_size, len(images))
                batch = torch.from_numpy(np.ascontiguousarray(images[start:stop].transpose(0, 3, 1, 2)))
                outputs = self.network(batch.to(self.device))
                parts.append([None if output is None else output.float().cpu().numpy() for output in outputs])
                for kind, output in zip(Features._fields, parts[-1], strict=True):
                    if output is not None and not np.isfinite(output).all():
                        raise UserError(
                            f"extractor {self.name}: {kind} features of images {start} to {stop - 1} are not finite",
                            hint="look at its weights file; nothing is replaced by zero here",
                        )
                if progress is not None:
                    progress(stop, len(images))
        return Features(
            *(None if outputs[0] is None else np.concatenate(outputs) for outputs in zip(*parts, strict=True))
        )

    def _check(self, images: np.ndarray, batch_size: int) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1; got {batch_size}")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or len(images) == 0:
            raise UserError(f"images must be uint8 [N, H, W, C] with C = 1 or 3; got {images.dtype} {images.shape}")
        if self.image_shape is not None and images.shape[1:] != self.image_shape:
            raise UserError(
                f"extractor {self.name} takes images of (H, W, C) = {self.image_shape}; got {images.shape[1:]}"
            )


def load_extractor(path: str | os.PathLike, name: str | None = None, device: str = "cpu") -> Extractor:
    """The extractor in a file, our safetensors (the small network) or torch-fidelity's Inception weights (.pth), or
    in a folder, DINOv2 as transformers saves it.

    `name` overrides the one in the file's header; Inception is always `inception`, DINOv2 `dinov2`, and nothing else
    may be.  Raises UserError where it is missing or none of these; random weights never stand in.
    """
    path = Path(path)
    if path.is_dir():
        return _load_dinov2(path, name, device)
    if not path.is_file():
        raise UserError(
            f"{path}: no such extractor weights",
            hint="run the extractor stage, which writes the small network; for networks that others published run "
            "`python -m kind fetch`, and give the path of what it gets",
        )
    if path.suffix == ".safetensors" or _is_safetensors(path):
        return _load_small(path, name, device)
    if name not in (None, INCEPTION):
        raise UserError(f"{path}: Inception weights are always named {INCEPTION!r}; got {name!r}")
    from kind.evaluation.inception import InceptionExtractor

    network = InceptionExtractor(path).eval().to(device)
    return Extractor(INCEPTION, sha256(path), None, None, network, device)


def _load_dinov2(folder: Path, name: str | None, device: str) -> Extractor:
    if name not in (None, DINOV2):
        raise UserError(f"{folder}: DINOv2 weights are always named {DINOV2!r}; got {name!r}")
    from kind.evaluation.dinov2 import Dinov2Extractor

    network = Dinov2Extractor(folder).eval().to(device)
    sums = [sha256(path) for path in WEIGHTS[DINOV2].place(str(folder)).files]
    return Extractor(DINOV2, hashlib.sha256("\n".join(sums).encode()).hexdigest(), None, None, network, device)


def _load_small(path: Path, name: str | None, device: str) -> Extractor:
    from kind.evaluation.small_extractor import load_network

    network, header = load_network(path)
    name = name or header.get("name")
    if not name:
        raise UserError(f"{path}: neither the file's header nor the caller names this extractor")
    if name in WEIGHTS:
        raise UserError(f"{path}: is no network that others published and cannot be named {name!r}")
    return Extractor(name, sha256(path), network.class_names, network.image_shape, network.to(device), device)


def _is_safetensors(path: Path) -> bool:
    """A safetensors file begins with a length (8 bytes) and a JSON object."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


@contextmanager
def _exact_arithmetic(device: str) -> Iterator[None]:
    """No TF32, no autocast, deterministic convolutions; the settings found are put back."""
    import torch

    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            torch.autocast(torch.device(device).type, enabled=False),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
