"""Pictures that two data sets both hold.

Copies within a data set go into one split (`kind.data.preparing`); each data set is split by itself, so that of two
that hold a picture one may train on it and the other test with it.  A picture is known by its pixels as they are
stored, as it is within a data set; they are read where they lie, so that folders prepared long ago can be asked, too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
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


class Part(NamedTuple):
    """Some classes of some splits of a prepared folder."""

    folder: Path
    classes: Sequence[str]
    splits: Sequence[str] = SPLITS


def find_copies(one: Part, other: Part) -> list[Copy]:
    """Each picture of `other` that `one` holds, beside the first such one.

    Of 197 kB that a picture of 256 x 256 takes a strip is read; those whose strips differ are no copies, and only the
    few others are read whole.  Raises UserError for a folder that is not whole; checksums of images are left to jobs
    that have them for inputs.
    """
    (pictures, held), (others, held_there) = _read(one), _read(other)
    strips = set(_strips(others))
    found = {position: strip for position, strip in enumerate(_strips(pictures)) if strip in strips}
    first: dict[bytes, int] = {}
    for position in found:
        first.setdefault(_digest(pictures[position]), position)
    strips = set(found.values())
    likely = [position for position, strip in enumerate(_strips(others)) if strip in strips] if strips else []
    pairs = ((first.get(_digest(others[position])), position) for position in likely)
    return [Copy(held[here], held_there[there]) for here, there in pairs if here is not None]


def _read(part: Part) -> tuple[StoredImages, list[Held]]:
    """Pictures in the order of their rows, and what each is."""
    import numpy as np

    manifest, stored = read_manifest(part.folder), open_images(part.folder / IMAGES)
    held = []
    for split in part.splits:
        images = split_of(part.folder, manifest, stored, split, part.classes)
        labels = (images.class_names[label] for label in images.labels)
        held += [Held(int(row), label, split) for row, label in zip(images.rows.rows, labels, strict=True)]
    held.sort()
    return StoredImages(stored, np.array([each.row for each in held], dtype=np.int64)), held


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
