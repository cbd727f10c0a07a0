"""Sets of images to be measured, read block by block: arrays, ADM-format npz files, folders of images.

Whatever the source, images are uint8 [N, H, W, C] of one shape, in one order; so generated and real images go the
same way from here on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kind.errors import UserError

if TYPE_CHECKING:
    from kind.data.prepared import StoredImages

ROWS = 1000  # of an array, read at a time


@dataclass(frozen=True)
class ImageSet:
    """name: what messages call it.  shape: (H, W, C).  labels: int64 [N], or None.  class_names: what they index.

    parts: calls that each give an iterator over blocks of images, uint8 [n, H, W, C]; together all N, in order.
    """

    name: str
    count: int
    shape: tuple[int, int, int]
    parts: tuple[Callable[[], Iterator[np.ndarray]], ...]
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    decoding: str = "as stored"

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """All images in blocks of `size` (the last may be shorter), wherever one file ends and the next begins."""
        waiting: list[np.ndarray] = []
        held = 0
        for piece in (piece for part in self.parts for piece in part()):
            while len(piece):
                taken = piece[: size - held]
                waiting.append(taken)
                held, piece = held + len(taken), piece[len(taken) :]
                if held == size:
                    yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
                    waiting, held = [], 0
        if held:
            yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)

    def read_all(self) -> np.ndarray:
        """All images at once."""
        images, start = np.empty((self.count, *self.shape), np.uint8), 0
        for piece in (piece for part in self.parts for piece in part()):
            images[start : start + len(piece)] = piece
            start += len(piece)
        return images

    def first(self, count: int) -> ImageSet:
        """The first `count` images alone; raises UserError where there are fewer."""
        if count > self.count:
            raise UserError(f"{self.name}: {count} images asked, it holds {self.count}")

        def cut() -> Iterator[np.ndarray]:
            left = count
            for block in self.blocks(min(count, 1024)):
                yield block[:left]
                left -= len(block)
                if left <= 0:
                    return

        labels = None if self.labels is None else self.labels[:count]
        return replace(self, count=count, parts=(cut,), labels=labels)

    def check_shape(self, shape: Sequence[int], whose: str, hint: str | None = None) -> None:
        """Raises UserError unless images are of this (H, W, C)."""
        if self.shape != tuple(shape):
            raise UserError(f"{self.name}: images of (H, W, C) {self.shape}, but {whose} are {tuple(shape)}", hint=hint)


def from_arrays(
    images: np.ndarray | StoredImages,
    labels: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    name: str = "images",
) -> ImageSet:
    """uint8 [N, H, W, C], also a memory map or stored, and int [N]; raises UserError for others."""
    if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise UserError(f"{name} must be uint8 [N, H, W, C] with C = 1 or 3; got {images.dtype} {images.shape}")
    if labels is not None:
        labels = checked_labels(name, labels, len(images))

    def read() -> Iterator[np.ndarray]:
        for start in range(0, len(images), ROWS):
            yield images[start : start + ROWS]

    names = None if class_names is None else tuple(str(entry) for entry in class_names)
    return ImageSet(name, len(images), tuple(images.shape[1:]), (read,), labels, names)


def open_images(path: str | os.PathLike, size: int | None = None) -> ImageSet:
    """Images of an npz file, of a folder of npz shards (of a run's steps the last), or of a folder of image files.

    size: see `from_folder`; npz files are taken as they are.  Raises UserError where it is none of them.
    """
    from kind.evaluation.image_folders import from_folder
    from kind.evaluation.image_npz import from_npz

    path = Path(path)
    if path.is_file():
        if path.suffix != ".npz":
            raise UserError(f"{path}: not an npz file; images are given as an npz file or as a folder")
        found = from_npz([path])
    elif not path.is_dir():
        raise UserError(f"{path}: no such file or folder")
    elif shards := sample_shards(path):
        found = from_npz(shards, str(path))
    else:
        return from_folder(path, size)
    if size is not None and found.shape[:2] != (size, size):
        raise UserError(
            f"{path}: images of (H, W, C) {found.shape}, but a size of {size} is asked",
            hint="npz files are taken as they are: leave the size out, or give the folder of images they come from",
        )
    return found


def sample_shards(folder: Path) -> list[Path]:
    """The npz files of a folder, or of the last of its folders `step_*`, by name."""
    steps = sorted(entry for entry in folder.glob("step_*") if entry.is_dir())
    return sorted((steps[-1] if steps else folder).glob("*.npz"))


def checked_labels(name: str, labels: np.ndarray, count: int) -> np.ndarray:
    """int64 [count]; raises UserError for other shapes and for what is no integer."""
    labels = np.asarray(labels)
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{name}: {count} images need {count} integer labels; got {labels.dtype} {labels.shape}")
    return labels.astype(np.int64)
