"""The prepared folder, as all stages read it:

`images.npy`     uint8 [N, H, W, C], all splits, in the order of the source: a memory map reads rows as they are needed
`index.npz`      labels int64 [N], positions in the class map; splits int8 [N], positions in SPLITS; -1 where the row is
                 not used
`manifest.json`  written last: the class map, counts, checksums, options and provenance

One file of rows, and not one a split: where an image belongs depends on which others are its copies and which files are
damaged, which is known when all are decoded, and by then 100 GB would have to be written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind.artifacts import REMAKE as DAMAGED
from kind.artifacts import load_arrays, read_json, sha256
from kind.errors import UserError
from kind.layout import SPLITS
from kind.params.messages import nearest, some
from kind.spaces import PIXELS, Latents, Pixels

if TYPE_CHECKING:
    import numpy as np

FORMAT = "kind-prepared-2"
IMAGES, INDEX, MANIFEST = "images.npy", "index.npz", "manifest.json"
REMAKE = "run the prepare stage of this data set again"


class StoredImages:
    """Some rows of an array on disk, images or latents: what is indexed is read, into an array of its own."""

    def __init__(self, stored: np.ndarray, rows: np.ndarray):
        self.stored, self.rows = stored, rows
        self.shape, self.dtype, self.nbytes = (
            (len(rows), *stored.shape[1:]),
            stored.dtype,
            len(rows) * stored[:1].nbytes,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: np.ndarray | slice) -> np.ndarray:
        import numpy as np

        return np.asarray(self.stored[self.rows[chosen]])

    def take(self, indices: np.ndarray, axis: int = 0) -> StoredImages:
        """These of them, unread: what `ndarray.take` does."""
        return StoredImages(self.stored, self.rows[indices])


@dataclass(frozen=True)
class LabelledImages:
    """rows: uint8 [N, H, W, C] (latents: see `kind.spaces`), in memory or stored; labels: int64 [N], positions in
    class_names; space: what rows are to a model."""

    rows: np.ndarray | StoredImages
    labels: np.ndarray
    class_names: tuple[str, ...]
    space: Pixels | Latents = PIXELS

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def images(self) -> np.ndarray:
        """All of them in memory: for sets that are small, or have been cut to what is needed."""
        return self.rows[:]

    def take(self, indices: np.ndarray) -> LabelledImages:
        """These images in this order, with the same classes."""
        return replace(self, rows=self.rows.take(indices, axis=0), labels=self.labels[indices])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of what a model sees."""
        return self.space.shape_of(self.rows.shape[1:])


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a prepared folder; raises UserError if it is of another format or not whole."""
    path = Path(folder) / MANIFEST
    manifest = read_json(path)
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: format {found!r}, but this code reads {FORMAT!r}", hint=REMAKE)
    wrong = [
        key
        for key, kind in (("classes", list), ("counts", dict), ("sha256", dict))
        if not isinstance(manifest.get(key), kind)
    ]
    if wrong:
        raise UserError(f"{path}: has no {', '.join(wrong)}, or not of the right kind", hint=REMAKE)
    return manifest


def load_split(folder: str | Path, split: str, classes: Sequence[str] | None = None) -> LabelledImages:
    """One split, or `all` one after the other; with `classes`, only those, relabelled to their order in the list.

    Images are stored ones, unread.  Raises UserError if a file is not the one that the manifest describes (a large one
    is hashed once, see `kind.checksums`), or for a class that is not in it.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_sum(folder / IMAGES, manifest)
    return split_of(folder, manifest, open_images(folder / IMAGES), split, classes)


def check_sum(path: Path, manifest: Mapping[str, Any], name: str = MANIFEST, remake: str = REMAKE) -> None:
    """Raises UserError for a file that the manifest of this name beside it does not describe."""
    if sha256(path) != manifest["sha256"].get(path.name):
        raise UserError(f"{path}: is not the file that {name} beside it describes (sha256 differs)", hint=remake)


def split_of(
    folder: Path, manifest: Mapping[str, Any], stored: np.ndarray, split: str, classes: Sequence[str] | None
) -> LabelledImages:
    """`load_split` of an array whose rows are those of the images."""
    import numpy as np

    assert split in (*SPLITS, "all"), f"split {split!r} is none of {', '.join(SPLITS)}, all"
    check_sum(folder / INDEX, manifest)
    index = load_arrays(folder / INDEX, ("labels", "splits"))
    _check_index(folder / INDEX, index, len(stored), manifest)
    wanted = SPLITS if split == "all" else (split,)
    rows = np.concatenate([np.flatnonzero(index["splits"] == SPLITS.index(name)) for name in wanted])
    labels, names = index["labels"][rows], tuple(manifest["classes"])
    if classes is None:
        return LabelledImages(StoredImages(stored, rows), labels, names)

    new_label = np.full(len(names), -1, dtype=np.int64)
    new_label[_positions(classes, names, folder)] = np.arange(len(classes))
    labels = new_label[labels]
    return LabelledImages(StoredImages(stored, rows[labels >= 0]), labels[labels >= 0], tuple(classes))


def open_images(path: Path) -> np.ndarray:
    return open_rows(path, "uint8", 4, "images uint8 [N, H, W, C]", REMAKE)


def open_rows(path: Path, dtype: str, num_axes: int, expected: str, remake: str) -> np.ndarray:
    """A memory map; raises UserError for what is no array of this dtype and so many axes."""
    import numpy as np

    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, TypeError) as error:  # what damaged headers come to
        raise UserError(f"{path}: not a whole npy file of plain numbers ({error})", hint=DAMAGED)
    if not isinstance(stored, np.ndarray) or stored.dtype != dtype or stored.ndim != num_axes:
        found = f"{stored.dtype} {list(stored.shape)}" if isinstance(stored, np.ndarray) else "several arrays"
        raise UserError(f"{path}: expected {expected}; the file holds {found}", hint=remake)
    return stored


def _check_index(path: Path, index: Mapping[str, np.ndarray], num_rows: int, manifest: Mapping[str, Any]) -> None:
    """Raises UserError for other dtypes, lengths, labels or counts than images and manifest say."""
    import numpy as np

    labels, splits, names = index["labels"], index["splits"], manifest["classes"]
    found = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in sorted(index.items()))
    if (labels.dtype, splits.dtype) != (np.int64, np.int8) or not labels.shape == splits.shape == (num_rows,):
        raise UserError(
            f"{path}: expected labels int64 [{num_rows}] and splits int8 [{num_rows}]; the file holds {found}",
            hint=REMAKE,
        )
    used = labels[splits >= 0]
    if len(used) and not 0 <= used.min() <= used.max() < len(names):
        raise UserError(
            f"{path}: labels from {used.min()} to {used.max()}, but manifest.json has {len(names)} classes", hint=REMAKE
        )
    for number, split in enumerate(SPLITS):
        told, counted = manifest["counts"].get(split), np.bincount(labels[splits == number], minlength=len(names))
        if not isinstance(told, dict) or [told.get(name) for name in names] != counted.tolist():
            shown = list(told.values()) if isinstance(told, dict) else told
            raise UserError(
                f"{path}: holds {split} images {some(map(str, counted.tolist()), '')} of the classes "
                f"{some(names, '')}; manifest.json says {shown}",
                hint=REMAKE,
            )


def _positions(classes: Sequence[str], names: tuple[str, ...], folder: Path) -> list[int]:
    problems = [f"no class {name!r}{nearest(name, names)}" for name in classes if name not in names]
    problems += [f"class {name!r} is named twice" for name in dict.fromkeys(classes) if list(classes).count(name) > 1]
    problems += [] if classes else ["no classes named"]
    if problems:
        raise UserError(f"{folder}: {'; '.join(problems)}; {some(names)}")
    return [names.index(name) for name in classes]
