"""From a source to a prepared folder: images into rows, copies found, rows dealt out to the splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from kind import checksums
from kind.artifacts import atomic_file, provenance, save_arrays, sha256, write_csv, write_json
from kind.data.decoding import decode_files, write_header
from kind.data.prepared import FORMAT, IMAGES, INDEX, MANIFEST
from kind.data.sources import SOURCES, Listing, RawData, SourceOptions
from kind.data.splits import stratified_split
from kind.errors import UserError
from kind.layout import SPLITS
from kind.params.messages import describe_errors, nearest, some

if TYPE_CHECKING:
    import numpy as np

SHOWN = 20  # bad files, or pairs of copies, in a message; in a manifest too


class SplitOptions(Protocol):
    """Fractions of the three splits and the seed: `kind.params.Split` is one."""

    train: float
    validation: float
    test: float
    seed: int


@dataclass(frozen=True)
class _Rows:
    """What is known of the rows of images.npy, [H, W, C] each.  labels: int64 [N], -1 for a row without an image.

    names: of the rows, for messages.  splits: where the source fixes them.  facts: for the manifest.
    """

    image_shape: Sequence[int]
    labels: np.ndarray
    digests: Sequence[str | None]
    class_names: tuple[str, ...]
    names: Sequence[str]
    splits: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def prepare(
    source_name: str,
    options: Mapping[str, Any],
    split: SplitOptions,
    folder: str | Path,
    *,
    state: str | Path | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Load a source, split it, write the prepared folder; returns the manifest.

    The fractions apply to distinct pictures: exact copies of a picture go where its first copy goes, so that none is
    both trained on and tested on.  A source without copies is split exactly.  Where the source fixes the splits, copies
    across them are refused.  state: where files are decoded to by `workers` processes, and found again after a kill.
    """
    checked_options = _check_options(source_name, options)
    source, folder = SOURCES[source_name], Path(folder)
    missing = source.missing(checked_options)
    if missing:
        lines = "\n".join(missing)
        raise UserError(
            f"the data source {source_name} lacks what it needs on this machine:\n{lines}",
            hint="then run the same command again",
        )
    work = _Work(Path(state or folder))
    if source.listing is not None:
        print(f"prepare {source_name}: looking for image files", flush=True)
        raw, rows = None, _decode(source.listing(checked_options), work, workers, source_name)
    else:
        raw = source.load(checked_options)
        _check_promises(raw, source_name)
        rows = _of_arrays(raw)
    fractions = {name: getattr(split, name) for name in SPLITS}
    splits, copies = _deal_out(rows, fractions, split.seed)

    manifest_path = folder / MANIFEST
    manifest_path.unlink(missing_ok=True)  # while files change there is no manifest
    save_arrays(folder / INDEX, labels=rows.labels, splits=splits)
    image_sum = checksums.move(work.images, folder / IMAGES) if raw is None else _save(folder / IMAGES, raw.images)
    manifest = {
        "format": FORMAT,
        "source": source_name,
        "options": checked_options.model_dump(mode="json"),
        "split": {**fractions, "seed": split.seed} if rows.splits is None else "fixed by the source",
        "classes": list(rows.class_names),
        "image_shape": list(rows.image_shape),
        "counts": {name: _count(rows, splits == number) for number, name in enumerate(SPLITS)},
        **copies,
        **rows.facts,
        "sha256": {IMAGES: image_sum, INDEX: sha256(folder / INDEX)},
        "provenance": provenance(),
    }
    write_json(manifest_path, manifest)
    work.clear()
    return manifest


class _Work:
    """What a killed stage leaves in its folder and finds there again."""

    def __init__(self, folder: Path):
        self.images, self.log, self.bad = (folder / name for name in (f".{IMAGES}", f".{IMAGES}.log", "bad_images.csv"))

    def clear(self) -> None:
        for path in (self.log, self.bad):
            path.unlink(missing_ok=True)


def _save(path: Path, images: np.ndarray) -> str:
    import numpy as np

    with atomic_file(path) as handle:
        write_header(handle, images.shape)
        handle.write(np.ascontiguousarray(images).data)  # numpy's own writing hides a full disk
    return sha256(path)


def _decode(listing: Listing, work: _Work, workers: int, source: str) -> _Rows:
    """Raises UserError that lists the bad files, where they are not to be skipped."""
    import numpy as np
    import PIL
    from PIL import features

    decoded = decode_files(listing, work.images, work.log, workers, f"prepare {source}")
    names = [item.key for item in listing.items]
    bad = {names[row]: reason for row, reason in decoded.bad.items()}
    shown = dict(islice(bad.items(), SHOWN))
    if bad and not listing.skip_bad:
        write_csv(work.bad, [{"file": name, "reason": reason} for name, reason in bad.items()])
        lines = "\n  ".join(f"{name}: {reason}" for name, reason in shown.items())
        raise UserError(
            f"{len(bad)} of {len(names)} image files cannot be decoded (all of them: {work.bad}):\n  {lines}",
            hint="mend or remove them and run the same command again, which goes on where it stopped; or leave them "
            "out with `bad_images: skip` in the options of this data set",
        )
    labels = np.array(listing.labels, dtype=np.int64)
    labels[list(decoded.bad)] = -1
    facts = {"num_bad": len(bad), "bad": shown, "num_upscaled": decoded.upscaled}
    facts["notes"] = {**listing.notes, "pillow": PIL.__version__, "libjpeg-turbo": features.version("libjpeg_turbo")}
    shape = (listing.size, listing.size, listing.channels)
    return _Rows(shape, labels, decoded.digests, listing.class_names, names, listing.splits, facts)


def _of_arrays(raw: RawData) -> _Rows:
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in raw.images]
    names = range(len(digests))
    return _Rows(raw.images.shape[1:], raw.labels, digests, raw.class_names, names, None, {"notes": raw.notes})


def _deal_out(rows: _Rows, fractions: Mapping[str, float], seed: int) -> tuple[np.ndarray, dict[str, int]]:
    """Split of each row, int8 [N], -1 for none; and what the manifest says of copies."""
    import numpy as np

    there = np.flatnonzero(rows.labels >= 0)
    labels = rows.labels[there]
    first, picture_of = _distinct([rows.digests[row] for row in there])
    splits = np.full(len(rows.labels), -1, dtype=np.int8)
    if rows.splits is not None:
        splits[there] = np.asarray(rows.splits)[there]
        _check_fixed(rows, there, splits[there], first[picture_of])
    else:
        pieces = stratified_split(labels[first], fractions, seed, rows.class_names)
        for number, name in enumerate(SPLITS):
            splits[there[np.isin(picture_of, pieces[name])]] = number
    return splits, {
        "num_copies": len(there) - len(first),
        "num_copies_with_another_label": int((labels != labels[first][picture_of]).sum()),
    }


def _check_fixed(rows: _Rows, there: np.ndarray, splits: np.ndarray, first: np.ndarray) -> None:
    """Of splits that the source fixes.  first: position of the first copy of each image's picture.

    Raises UserError for a picture that is in two splits, and for a class that is not in all of them.
    """
    import numpy as np

    across = np.flatnonzero(splits != splits[first])
    if len(across):
        where = [f"{rows.names[row]} ({SPLITS[split]})" for row, split in zip(there, splits, strict=True)]
        pairs = [f"{where[first[i]]} and {where[i]}" for i in across[:SHOWN]]
        more = f"\n  and {len(across) - SHOWN} more" if len(across) > SHOWN else ""
        lines = "\n  ".join(pairs)
        raise UserError(
            f"the same picture is in two splits, {len(across)} times:\n  {lines}{more}",
            hint="leave one of each pair out, or put both into one split",
        )
    for number, split in enumerate(SPLITS):
        counts = np.bincount(rows.labels[there[splits == number]], minlength=len(rows.class_names))
        if lacking := [name for name, count in zip(rows.class_names, counts, strict=True) if count == 0]:
            raise UserError(
                f"the split {split} has no images of {some(map(repr, lacking), 'class ')}",
                hint="give every class images in train, validation and test, or leave split_column out",
            )


def _check_options(source_name: str, options: Mapping[str, Any]) -> SourceOptions:
    if source_name not in SOURCES:
        raise UserError(f"no data source {source_name!r}{nearest(source_name, SOURCES)}; sources: {', '.join(SOURCES)}")
    model = SOURCES[source_name].options
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise UserError("\n".join(describe_errors(error, (source_name,), model)))


def _check_promises(raw: RawData, source: str) -> None:
    """What every source promises; a failure is a mistake in the source, not in the params."""
    images, labels, names = raw.images, raw.labels, raw.class_names
    assert str(images.dtype) == "uint8" and images.ndim == 4, f"{source}: images are {images.dtype} {images.shape}"
    assert str(labels.dtype) == "int64" and labels.shape == images.shape[:1], f"{source}: labels {labels.shape}"
    assert all(isinstance(name, str) and name for name in names), f"{source}: class names {names} are not all texts"
    assert len(set(names)) == len(names), f"{source}: class names {names} hold one twice"
    assert len(labels) and labels.min() >= 0 and labels.max() < len(names), f"{source}: labels outside the class map"


def _count(rows: _Rows, chosen: np.ndarray) -> dict[str, int]:
    import numpy as np

    counts = np.bincount(rows.labels[chosen], minlength=len(rows.class_names))
    return dict(zip(rows.class_names, counts.tolist(), strict=True))


def _distinct(digests: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Index of the first copy of each distinct picture, ascending, and the number of the picture of each image."""
    import numpy as np

    numbers: dict[str, int] = {}
    picture_of = np.array([numbers.setdefault(digest, len(numbers)) for digest in digests], dtype=np.int64)
    _, first = np.unique(picture_of, return_index=True)
    return first, picture_of
