"""Images from npz files in ADM's format, read as they are asked for."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kind.artifacts import DAMAGED_NPZ, require_all_members, require_end
from kind.errors import UserError
from kind.evaluation.image_sets import ImageSet

BLOCK_BYTES = 2**24  # of a file that is read at a time


def from_npz(paths: Sequence[str | os.PathLike], name: str | None = None, hint: str | None = None) -> ImageSet:
    """ADM's sample format: `arr_0` uint8 [N, H, W, C] and, where the file has them, labels `arr_1` int [N].

    Images are read as they are asked for, so that 50,000 of them need not fit into memory.  hint: what to do about a
    damaged file.  Raises UserError, naming file and content, for other arrays and for files that disagree.
    Source: openai/guided-diffusion, evaluations/README.md.
    """
    if not paths:
        raise UserError("no sample files given", hint=hint)
    files = [_open_npz(Path(path), hint) for path in paths]
    for path, (shape, _) in zip(paths, files, strict=True):
        if shape[1:] != files[0][0][1:]:
            raise UserError(f"{path}: images of (H, W, C) {shape[1:]}, but {paths[0]} has {files[0][0][1:]}", hint=hint)
    labels = [found for _, found in files]
    with_labels = [found for found in labels if found is not None]
    if with_labels and len(with_labels) < len(labels):
        lacking = next(path for path, found in zip(paths, labels, strict=True) if found is None)
        raise UserError(f"{lacking}: has no labels (arr_1), other files of the set have", hint=hint)
    return ImageSet(
        name or (str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"),
        sum(shape[0] for shape, _ in files),
        files[0][0][1:],
        tuple(_npz_reader(Path(path), hint) for path in paths),
        np.concatenate(with_labels) if with_labels else None,
    )


def _open_npz(path: Path, hint: str | None) -> tuple[tuple[int, ...], np.ndarray | None]:
    """Shape of `arr_0` and the labels, checked, without reading an image."""
    if not path.is_file():
        raise UserError(f"{path}: no such file", hint=hint)
    with _reading(path, hint), zipfile.ZipFile(path) as archive:
        require_all_members(archive)
        found = {}
        for member in archive.namelist():
            with archive.open(member) as stream:
                found[member.removesuffix(".npy")] = _read_header(stream)
        held = ", ".join(f"{key} {dtype} {list(shape)}" for key, (shape, _, dtype) in sorted(found.items()))
        if "arr_0" not in found:
            raise UserError(f"{path}: has no array arr_0; it holds {held or 'nothing'}", hint=hint)
        shape, fortran, dtype = found["arr_0"]
        if fortran or dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape:
            raise UserError(
                f"{path}: arr_0 must be uint8 [N, H, W, C] with C = 1 or 3; the file holds {held}", hint=hint
            )
        if "arr_1" not in found:
            return shape, None
        with archive.open("arr_1.npy") as stream:
            labels = np.lib.format.read_array(stream, allow_pickle=False)
            require_end(stream)
        if not np.issubdtype(labels.dtype, np.integer) or labels.shape != shape[:1]:
            raise UserError(f"{path}: arr_1 must be {shape[0]} integer labels; the file holds {held}", hint=hint)
        return shape, labels.astype(np.int64)


def _npz_reader(path: Path, hint: str | None) -> Callable[[], Iterator[np.ndarray]]:
    def read() -> Iterator[np.ndarray]:
        with _reading(path, hint), zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as stream:
            shape, _, _ = _read_header(stream)
            bytes_each = int(np.prod(shape[1:]))
            left, rows = shape[0], max(1, BLOCK_BYTES // bytes_each)
            while left:
                images = np.empty((min(rows, left), *shape[1:]), np.uint8)
                if not _fill(images, stream):
                    raise EOFError(f"it ends after {shape[0] - left} of {shape[0]} images")
                left -= len(images)
                yield images
            require_end(stream)

    return read


def _fill(array: np.ndarray, stream: zipfile.ZipExtFile) -> bool:
    """Whether there was enough to read."""
    waiting = memoryview(array).cast("B")
    while waiting:
        count = stream.readinto(waiting)
        if not count:
            return False
        waiting = waiting[count:]
    return True


def _read_header(stream: zipfile.ZipExtFile) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"an array of format {version}")


@contextmanager
def _reading(path: Path, hint: str | None) -> Iterator[None]:
    """Whatever numpy and zipfile say of a damaged file, as one message that names it."""
    try:
        yield
    except DAMAGED_NPZ as error:
        found = "it holds pickled objects, which are not read" if "pickle" in str(error) else error
        raise UserError(f"{path}: not a whole npz file of plain arrays ({found})", hint=hint)
