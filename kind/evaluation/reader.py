"""Reads sample files: ADM-format npz shards."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from kind.artifacts import load_arrays
from kind.errors import UserError

AGAIN = "delete it and run the sample stage again, or snakemake"


def read_samples(
    paths: Sequence[str | os.PathLike], image_shape: Sequence[int] | None = None, num_classes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, H, W, C] (`arr_0`) and labels int64 [N] (`arr_1`) of all shards, in the given order.

    image_shape (H, W, C) and num_classes: what the samples are to be compared with, None for any.
    Raises UserError, naming file and content, for missing arrays, other dtypes or shapes, or shards that disagree.
    Source of the format: openai/guided-diffusion, evaluations/README.md.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    if not paths:
        raise UserError("no sample files given")
    shards = [_read_shard(path) for path in paths]
    first_shape = shards[0][0].shape[1:]
    for path, (images, labels) in zip(paths, shards, strict=True):
        if image_shape is not None and images.shape[1:] != tuple(image_shape):
            raise UserError(
                f"{path}: images of (H, W, C) {images.shape[1:]}, but the reference's are {tuple(image_shape)}",
                hint=AGAIN,
            )
        if num_classes is not None and not 0 <= labels.min() <= labels.max() < num_classes:
            raise UserError(
                f"{path}: labels from {labels.min()} to {labels.max()}, but the task has {num_classes} classes, 0 to "
                f"{num_classes - 1}",
                hint=AGAIN,
            )
        if images.shape[1:] != first_shape:
            raise UserError(
                f"{path}: images of (H, W, C) {images.shape[1:]}, but {paths[0]} has {first_shape}",
                hint=f"the shards are of different runs: {AGAIN}",
            )
    images, labels = (np.concatenate(parts) for parts in zip(*shards, strict=True))
    return images, labels


def _read_shard(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    arrays = load_arrays(path, required=("arr_0", "arr_1"))
    images, labels = arrays["arr_0"], arrays["arr_1"]
    found = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in sorted(arrays.items()))
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise UserError(f"{path}: arr_0 must be uint8 [N, H, W, C] with C = 1 or 3; the file holds {found}", hint=AGAIN)
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (len(images),):
        raise UserError(f"{path}: arr_1 must be {len(images)} integer labels; the file holds {found}", hint=AGAIN)
    return images, labels.astype(np.int64)
