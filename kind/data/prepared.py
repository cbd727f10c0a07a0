"""The prepared folder: `train.npz`, `validation.npz`, `test.npz` (images uint8 [N, H, W, C], labels int64 [N]) and
`manifest.json`, which is written last and holds the class map, counts, checksums, options and provenance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from kind.artifacts import load_arrays, provenance, read_json, save_arrays, sha256, write_json
from kind.data.sources import SOURCES, RawData, SourceOptions
from kind.data.splits import stratified_split
from kind.errors import UserError
from kind.params.messages import describe_errors, nearest, some

if TYPE_CHECKING:
    import numpy as np

FORMAT = "kind-prepared-1"
SPLITS = ("train", "validation", "test")
REMAKE = "run the prepare stage of this data set again"


class SplitOptions(Protocol):
    """Fractions of the three splits and the seed: `kind.params.Split` is one."""

    train: float
    validation: float
    test: float
    seed: int


@dataclass(frozen=True)
class LabelledImages:
    """images: uint8 [N, H, W, C]; labels: int64 [N], positions in class_names."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> LabelledImages:
        """These images in this order, with the same classes."""
        return LabelledImages(self.images[indices], self.labels[indices], self.class_names)


def prepare(source_name: str, options: Mapping[str, Any], split: SplitOptions, folder: str | Path) -> dict[str, Any]:
    """Load a source, split it, write the prepared folder; returns the manifest.

    The fractions apply to distinct pictures: exact copies of a picture go where its first copy goes, so that none is
    both trained on and tested on.  A source without copies is split exactly.
    """
    import numpy as np

    checked_options = _check_options(source_name, options)
    raw = _load(source_name, checked_options)
    first, picture_of = _distinct(raw.images)
    fractions = {name: getattr(split, name) for name in SPLITS}
    pieces = stratified_split(raw.labels[first], fractions, split.seed, raw.class_names)
    indices = {name: np.flatnonzero(np.isin(picture_of, pictures)) for name, pictures in pieces.items()}

    folder = Path(folder)
    manifest_path = folder / "manifest.json"
    manifest_path.unlink(missing_ok=True)  # while files change there is no manifest
    for name, chosen in indices.items():
        save_arrays(folder / f"{name}.npz", images=raw.images[chosen], labels=raw.labels[chosen])
    manifest = {
        "format": FORMAT,
        "source": source_name,
        "options": checked_options.model_dump(mode="json"),
        "split": {**fractions, "seed": split.seed},
        "classes": list(raw.class_names),
        "image_shape": list(raw.images.shape[1:]),
        "counts": {name: _count(raw, chosen) for name, chosen in indices.items()},
        "num_copies": len(raw.images) - len(first),
        "num_copies_with_another_label": int((raw.labels != raw.labels[first][picture_of]).sum()),
        "sha256": {f"{name}.npz": sha256(folder / f"{name}.npz") for name in SPLITS},
        "notes": raw.notes,
        "provenance": provenance(),
    }
    write_json(manifest_path, manifest)
    return manifest


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a prepared folder; raises UserError if it is of another format or not whole."""
    path = Path(folder) / "manifest.json"
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
    """One split; with `classes`, only those, relabelled to their order in the list.

    Raises UserError if the file is not the one that the manifest describes, or for a class that is not in it.
    """
    import numpy as np

    assert split in SPLITS, f"split {split!r} is none of {', '.join(SPLITS)}"
    manifest = read_manifest(folder)
    path = Path(folder) / f"{split}.npz"
    if sha256(path) != manifest["sha256"].get(path.name):
        raise UserError(f"{path}: is not the file that manifest.json beside it describes (sha256 differs)", hint=REMAKE)
    arrays = load_arrays(path, ("images", "labels"))
    _check_arrays(path, arrays, manifest)
    images, labels, names = arrays["images"], arrays["labels"], tuple(manifest["classes"])
    if classes is None:
        return LabelledImages(images, labels, names)

    new_label = np.full(len(names), -1, dtype=np.int64)
    new_label[_positions(classes, names, Path(folder))] = np.arange(len(classes))
    labels = new_label[labels]
    return LabelledImages(images[labels >= 0], labels[labels >= 0], tuple(classes))


def _check_arrays(path: Path, arrays: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> None:
    """Raises UserError for other dtypes, shapes or labels than the manifest says."""
    import numpy as np

    images, labels, names = arrays["images"], arrays["labels"], manifest["classes"]
    found = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in sorted(arrays.items()))
    if images.dtype != np.uint8 or images.ndim != 4 or labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise UserError(
            f"{path}: expected images uint8 [N, H, W, C] and labels int64 [N]; the file holds {found}", hint=REMAKE
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
        raise UserError(
            f"{path}: labels from {labels.min()} to {labels.max()}, but manifest.json has {len(names)} classes",
            hint=REMAKE,
        )
    told, counted = manifest["counts"].get(path.stem), np.bincount(labels, minlength=len(names)).tolist()
    if not isinstance(told, dict) or [told.get(name) for name in names] != counted:
        raise UserError(
            f"{path}: holds {some(map(str, counted), '')} images of the classes {some(names, '')}; manifest.json says "
            f"{some(map(str, told.values()), '') if isinstance(told, dict) else told}",
            hint=REMAKE,
        )


def _check_options(source_name: str, options: Mapping[str, Any]) -> SourceOptions:
    if source_name not in SOURCES:
        raise UserError(f"no data source {source_name!r}{nearest(source_name, SOURCES)}; sources: {', '.join(SOURCES)}")
    model = SOURCES[source_name].options
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise UserError("\n".join(describe_errors(error, (source_name,), model)))


def _load(source_name: str, options: SourceOptions) -> RawData:
    missing = SOURCES[source_name].missing(options)
    if missing:
        raise UserError("\n".join((f"the data source {source_name} lacks what it needs on this machine:", *missing)))
    raw = SOURCES[source_name].load(options)
    _check_promises(raw, source_name)
    return raw


def _check_promises(raw: RawData, source: str) -> None:
    """What every source promises; a failure is a mistake in the source, not in the params."""
    images, labels, names = raw.images, raw.labels, raw.class_names
    assert str(images.dtype) == "uint8" and images.ndim == 4, f"{source}: images are {images.dtype} {images.shape}"
    assert str(labels.dtype) == "int64" and labels.shape == images.shape[:1], f"{source}: labels {labels.shape}"
    assert all(isinstance(name, str) and name for name in names), f"{source}: class names {names} are not all texts"
    assert len(set(names)) == len(names), f"{source}: class names {names} hold one twice"
    assert len(labels) and labels.min() >= 0 and labels.max() < len(names), f"{source}: labels outside the class map"


def _count(raw: RawData, chosen: np.ndarray) -> dict[str, int]:
    labels = raw.labels[chosen]
    return {name: int((labels == label).sum()) for label, name in enumerate(raw.class_names)}


def _distinct(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the first copy of each distinct picture, ascending, and the number of the picture of each image."""
    import hashlib

    import numpy as np

    numbers: dict[bytes, int] = {}
    first: list[int] = []
    picture_of = np.empty(len(images), dtype=np.int64)
    for index, image in enumerate(images):
        key = hashlib.sha256(image.tobytes()).digest()
        if key not in numbers:
            numbers[key] = len(first)
            first.append(index)
        picture_of[index] = numbers[key]
    return np.array(first, dtype=np.int64), picture_of


def _positions(classes: Sequence[str], names: tuple[str, ...], folder: Path) -> list[int]:
    problems = [f"no class {name!r}{nearest(name, names)}" for name in classes if name not in names]
    problems += [f"class {name!r} is named twice" for name in dict.fromkeys(classes) if list(classes).count(name) > 1]
    problems += [] if classes else ["no classes named"]
    if problems:
        raise UserError(f"{folder}: {'; '.join(problems)}; {some(names)}")
    return [names.index(name) for name in classes]
