"""Vectors that stand for classes, known for unseen ones too: for soft gates, and to find the nearest seen class.

Which they are is our choice (`embedding` in a params file): a class's mean training image, or vectors of a file that
the user names, for instance CLIP's of the class names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kind.artifacts import load_arrays
from kind.data.prepared import LabelledImages
from kind.errors import UserError
from kind.models.soft_gate import spread_of
from kind.params.messages import some

ROWS = 1000  # images read at a time
REWRITE = "write it again: one vector of numbers for each class, under the name of the class"


def mean_images(data: LabelledImages, side: int) -> Tensor:
    """Mean image of each class in [-1, 1], averaged down to at most side x side for each channel.  [C, E]."""
    members = (np.flatnonzero(data.labels == label) for label in range(len(data.class_names)))
    means = [_mean(data, chosen) for chosen in members]
    images = torch.from_numpy(np.stack(means)).permute(0, 3, 1, 2) / 127.5 - 1
    return F.adaptive_avg_pool2d(images, min(side, *images.shape[2:])).flatten(1).float()


def _mean(data: LabelledImages, chosen: np.ndarray) -> np.ndarray:
    """Of these images, float64 [H, W, C].  Sums of whole numbers are exact, so that it is the same in any pieces."""
    total = np.zeros(data.rows.shape[1:])
    for start in range(0, len(chosen), ROWS):
        total += data.rows[chosen[start : start + ROWS]].sum(0, dtype=np.float64)
    return total / len(chosen)


def file_vectors(path: Path, data: str, classes: Sequence[str]) -> Tensor:
    """Rows of an npz or safetensors file that holds one vector a class, under `DATA/CLASS` or `CLASS`.  [C, E].

    Raises UserError for classes that it lacks, and for what are no vectors of one length.
    """
    found = _read(path)
    names = {name: next((key for key in (f"{data}/{name}", name) if key in found), None) for name in classes}
    absent = [name for name, key in names.items() if key is None]
    if absent:
        raise UserError(
            f"{path}: has no vector of {some(map(repr, absent), 'class ')} of {data}; it has {some(found, '')}",
            hint=f"add them, each under the name of its class or as {data}/CLASS, or leave embedding.path out",
        )
    vectors = {name: found[key] for name, key in names.items()}
    wrong = [name for name, vector in vectors.items() if not _is_vector(vector)]
    sizes = {vector.shape for vector in vectors.values()}
    if wrong or len(sizes) > 1:
        shown = {name: f"{vector.dtype} {list(vector.shape)}" for name, vector in vectors.items()}
        which = wrong or list(classes)
        raise UserError(
            f"{path}: expected finite numbers, one row of one length a class; found "
            f"{some((f'{name} {shown[name]}' for name in which), '')}",
            hint="write one vector of numbers for each class, all of one length",
        )
    return torch.from_numpy(np.stack([vector.astype(np.float32) for vector in vectors.values()]))


def nearest_seen(own: Tensor, seen: Tensor) -> list[int]:
    """For each class of a task the seen class of least Euclidean distance, the embeddings standardised by those of the
    seen classes.  [C', E], [C, E] -> C' positions; of equal ones the first."""
    if own.shape[1] != seen.shape[1]:
        raise UserError(
            f"class embeddings of {own.shape[1]} numbers, where those of the pre-training classes have "
            f"{seen.shape[1]}: their images differ in size or channels",
            hint="name a file of vectors for all classes (embedding.path), or another start of the tailors",
        )
    return torch.cdist(own / (spread := spread_of(seen)), seen / spread).argmin(1).tolist()


def _read(path: Path) -> Mapping[str, np.ndarray]:
    if path.suffix != ".safetensors":
        return load_arrays(path, remake=REWRITE)
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file of plain arrays ({error})", hint=REWRITE)


def _is_vector(found: np.ndarray) -> bool:
    return found.ndim == 1 and len(found) > 0 and found.dtype.kind in "fiu" and bool(np.isfinite(found).all())
