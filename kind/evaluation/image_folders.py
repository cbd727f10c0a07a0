"""Images from folders of files, decoded by all cores; folders in a folder are classes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from kind.errors import UserError
from kind.evaluation.image_sets import ImageSet
from kind.images import SUFFIXES, BadImage, decode_image

IMAGES_AT_ONCE = 256
SHOWN = 20


def from_folder(folder: str | os.PathLike, size: int | None = None) -> ImageSet:
    """All images of a folder, by name; where it holds folders, each is a class.

    Classes are numbered in the order of their names as text, as torchvision's ImageFolder does, and take turns, so that
    any stretch of the images has its share of each.  size: every image is cropped and resized as
    `kind.images.centre_crop` does; None takes them as they are, and then they must be of one size.  Images are grey
    where all files are.  All bad images of a block are named at once.
    """
    folder = Path(folder)
    paths, labels, names = _list_images(folder)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        channels = 1 if all(pool.map(_is_grey, paths)) else 3
    shape = decode_image(paths[0].read_bytes(), channels=channels, size=size, name=str(paths[0])).shape

    def decode(path: Path) -> np.ndarray | str:
        try:
            image = decode_image(path.read_bytes(), channels=channels, size=size, name=str(path))
        except BadImage as error:
            return f"{error.name}: {error.reason}"
        if image.shape != shape:
            return f"{path}: {image.shape[0]} x {image.shape[1]}, but {paths[0].name} is {shape[0]} x {shape[1]}"
        return image

    def read() -> Iterator[np.ndarray]:
        left = iter(paths)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without Python's lock
            while chosen := list(islice(left, IMAGES_AT_ONCE)):
                found = list(pool.map(decode, chosen))
                problems = [entry for entry in found if isinstance(entry, str)]
                if problems:
                    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
                    raise UserError(
                        "\n  ".join([f"{folder}: images that cannot be used:", *problems[:SHOWN], *more]),
                        hint="mend or remove them; --size N crops and resizes all to one size",
                    )
                yield np.stack(found)

    how = "as stored" if size is None else f"centre crop and resize to {size} x {size}"
    return ImageSet(str(folder), len(paths), shape, (read,), labels, names, how)


def _list_images(folder: Path) -> tuple[list[Path], np.ndarray | None, tuple[str, ...] | None]:
    """Paths, and labels and class names where the folder holds folders; raises UserError for neither or both."""
    here = _images_in(folder)
    classes = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and entry.name[0] != "."]
    if here and classes:
        raise UserError(
            f"{folder}: holds images and folders ({here[0].name}, {classes[0].name}/, ...): which are meant?",
            hint="give a folder of images, or one with a folder per class",
        )
    if not classes:
        if not here:
            raise UserError(
                f"{folder}: no images in it", hint=f"images end in {', '.join(SUFFIXES)}; samples in shards in .npz"
            )
        return here, None, None
    found = [_images_in(entry) for entry in classes]
    empty = [entry.name for entry, paths in zip(classes, found, strict=True) if not paths]
    if empty:
        raise UserError(f"{folder}: classes without an image: {', '.join(empty[:SHOWN])}", hint="remove these folders")
    turns = [(place, label, path) for label, paths in enumerate(found) for place, path in enumerate(paths)]
    turns.sort(key=lambda turn: turn[:2])
    labels = np.array([label for _, label, _ in turns], dtype=np.int64)
    return [path for _, _, path in turns], labels, tuple(entry.name for entry in classes)


def _is_grey(path: Path) -> bool:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.mode in ("1", "L", "LA") or image.mode.startswith("I;16")
    except (UnidentifiedImageError, OSError):
        return False  # decoding says what is wrong with it


def _images_in(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES), key=_natural)


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """2.png before 10.png."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name)]
