"""Pictures that two data sets both hold.

Copies within a data set go into one split (`kind.data.preparing`); each data set is split by itself, so that of two
that hold a picture one may train on it and the other test with it.  A picture is known by its pixels as they are
stored, as it is within a data set; they are read where they lie, so that folders prepared long ago can be asked, too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kind.data.prepared import IMAGES, StoredImages, open_images, read_manifest, split_of
from kind.layout import SPLITS

if TYPE_CHECKING:
    import numpy as np

STRIP = 192  # bytes from the middle of a picture


class Held(NamedTuple):
    """A picture of a data set: its row, the name of its class, and its split."""

    row: int
    label: str
    split: str


class Copy(NamedTuple):
    """The same picture in the one and in the other."""

    one: Held
    other: Held


@dataclass(frozen=True)
class Pictures:
    """Some of a prepared folder, in the order of their rows: what each is, and a strip of its bytes."""

    images: StoredImages
    held: Sequence[Held]
    strips: Sequence[bytes]


def read_pictures(folder: Path, classes: Sequence[str], splits: Sequence[str] = SPLITS) -> Pictures:
    """Those of these classes and splits.  Of 197 kB that a picture of 256 x 256 takes a strip is read.

    Raises UserError for a folder that is not whole; checksums of images are left to jobs that have them for inputs.
    """
    import numpy as np

    manifest, stored = read_manifest(folder), open_images(folder / IMAGES)
    found = split_of(folder, manifest, stored, "all", classes)
    counts = [sum(manifest["counts"][split][name] for name in classes) for split in SPLITS]  # as they were checked
    split_names = np.repeat(SPLITS, counts).tolist()  # `all` is one split after the other
    labels = [found.class_names[label] for label in found.labels]
    held = [Held(*each) for each in zip(found.rows.rows.tolist(), labels, split_names, strict=True)]
    held = sorted(each for each in held if each.split in splits)
    images = StoredImages(stored, np.array([each.row for each in held], dtype=np.int64))
    return Pictures(images, held, list(_strips(images)))


def find_copies(one: Pictures, other: Pictures) -> list[Copy]:
    """Each picture of `other` that `one` holds, beside the first such one.

    Those whose strips differ are no copies, and only the few others are read whole.
    """
    there = set(other.strips)
    likely = [position for position, strip in enumerate(one.strips) if strip in there]
    first: dict[bytes, int] = {}
    for position in likely:
        first.setdefault(_digest(one.images[position]), position)
    here = {one.strips[position] for position in likely}
    found = []
    for position, strip in enumerate(other.strips):
        same = first.get(_digest(other.images[position])) if strip in here else None
        if same is not None:
            found.append(Copy(one.held[same], other.held[position]))
    return found


def _strips(images: StoredImages) -> Iterator[bytes]:
    """Of each picture.  Not through the memory map, which would read much around each of them."""
    stored = images.stored
    size = stored[:1].nbytes
    length = min(size, STRIP)
    start = stored.offset + (size - length) // 2
    with open(stored.filename, "rb", buffering=0) as handle:
        for row in images.rows.tolist():
            yield os.pread(handle.fileno(), length, start + row * size)


def _digest(picture: np.ndarray) -> bytes:
    return hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
