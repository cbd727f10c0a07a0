"""What sources of image files share: their options, and which file is of which class."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from kind.data.class_sets import resolved
from kind.data.files import Found, Item, find_images
from kind.data.sources import Listing, SourceOptions
from kind.errors import UserError
from kind.images import SUFFIXES, WHITE
from kind.layout import SPLITS

# Numbers may name classes here as in the sections of the params that use them (kind.params.types imports this package).
Name = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value), Field(min_length=1)]
ClassNames = Annotated[list[Name], BeforeValidator(resolved), Field(min_length=1)]


SHOWN = 20  # wrong rows in a message


class FileOptions(SourceOptions):
    """path: a folder, a tar or a zip.  size: side in pixels; pictures are cropped as ADM does it.

    classes: those to take, in this order; None: all, by code point.  images_per_class: at most so many, drawn by seed.
    bad_images: files that cannot be decoded end the stage, after all are listed, or are left out and counted.
    background: the grey that shows through transparent pixels; white is our choice.
    """

    path: Annotated[str, Field(min_length=1)]
    size: Annotated[int, Field(ge=4, le=2048)]
    channels: Literal[1, 3] = 3
    classes: ClassNames | None = None
    images_per_class: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    bad_images: Literal["fail", "skip"] = "fail"
    background: Annotated[int, Field(ge=0, le=255)] = WHITE


class Labelled(NamedTuple):
    """An image file, the name of its class, and its split where that is fixed."""

    item: Item
    name: str
    split: int | None = None


def missing_path(path: str, remedy: str) -> list[str]:
    return [] if Path(path).exists() else [f"{path} does not exist; {remedy}"]


def images_in(path: str, below: str = "") -> Found:
    """`find_images` of a path that must hold some; `below`: the folder in it where keys begin."""
    found = find_images(path)
    start = f"{below.strip('/')}/" if below.strip("/") else ""
    items = [item._replace(key=item.key[len(start) :]) for item in found.items if item.key.startswith(start)]
    if not items:
        where = f" below {below!r}" if start and found.items else ""
        raise UserError(
            f"{path}: holds no images{where} ({found.num_others} other files)",
            hint=f"images are files {', '.join(SUFFIXES)}, also in .tar and .zip",
        )
    return Found(items, found.num_others)


def labels_by_folder(items: Iterable[Item], path: str) -> list[Labelled]:
    """The class is the first folder of a key."""
    from kind.params.messages import some

    items = list(items)
    loose = [item.key for item in items if "/" not in item.key]
    if loose:
        raise UserError(
            f"{path}: {some(map(repr, loose), '')} in no class folder",
            hint="put each class into a folder of its own, name the folder they lie in as `below`, or say "
            "`labels: csv` or `labels: none`",
        )
    return [Labelled(item, item.key.split("/", 1)[0]) for item in items]


def labels_by_csv(
    items: Iterable[Item], table: str, file_column: str, label_column: str, split_column: str | None
) -> list[Labelled]:
    """Files and classes by the rows of a CSV file; images that no row names are left out.

    Raises UserError that lists rows with no label, files that are not there or named twice, and unknown splits.
    """
    from kind.params.messages import nearest

    by_key = {item.key: item for item in items}
    columns = [file_column, label_column, *([split_column] if split_column else [])]
    labelled, problems = [], []
    for row, line in _rows(table, columns):
        key, label = row[file_column].strip().removeprefix("./"), row[label_column].strip()
        split = row[split_column].strip() if split_column else None
        if key not in by_key:
            close = nearest(key, by_key) if len(by_key) < 10_000 and len(problems) < SHOWN else ""  # it takes long
            problems.append(f"line {line}: no image {key!r}{close}")
        elif not label:
            problems.append(f"line {line}: {key!r} has no label")
        elif split is not None and split not in SPLITS:
            problems.append(f"line {line}: {split!r} is no split; allowed: {', '.join(SPLITS)}")
        else:
            labelled.append(Labelled(by_key[key], label, None if split is None else SPLITS.index(split)))
    problems += [f"{key!r} is named twice" for key in repeated(entry.item.key for entry in labelled)]
    if problems:
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        lines = "\n  ".join(problems[:SHOWN])
        raise UserError(f"{table}:\n  {lines}{more}", hint="mend these rows; files are named as seen from `path`")
    return sorted(labelled, key=lambda entry: entry.item.key)


def _rows(table: str, columns: Sequence[str]) -> Iterable[tuple[dict[str, str], int]]:
    try:
        with open(table, encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, restval="")
            absent = [name for name in columns if name not in (reader.fieldnames or [])]
            if absent:
                raise UserError(
                    f"{table}: has no column {', '.join(map(repr, absent))}; it has "
                    f"{', '.join(map(repr, reader.fieldnames or [])) or 'none'}",
                    hint="the first row names the columns; say which they are as file_column, label_column and "
                    "split_column",
                )
            return [(row, reader.line_num) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: not a CSV file in UTF-8 ({error})", hint="save it as CSV in UTF-8")


def repeated(names: Iterable[str]) -> list[str]:
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    return [name for name, count in seen.items() if count > 1]


def make_listing(options: FileOptions, labelled: Sequence[Labelled], names: Sequence[str], notes: Mapping) -> Listing:
    """The listing of these files, capped as the options say.

    Raises UserError for classes without a file.  Files of classes that are not in `names` are left out.
    """
    import numpy as np

    from kind.data.splits import cap_per_class
    from kind.params.messages import some

    label_of = {name: label for label, name in enumerate(names)}
    if twice := repeated(names):
        raise UserError(f"{options.path}: {some(map(repr, twice), 'class ')} named twice in `classes`")
    chosen = [entry for entry in labelled if entry.name in label_of]
    labels = np.array([label_of[entry.name] for entry in chosen], dtype=np.int64)
    counts = np.bincount(labels, minlength=len(names))
    if empty := [name for name, count in zip(names, counts, strict=True) if count == 0]:
        there = sorted({entry.name for entry in labelled})
        raise UserError(
            f"{options.path}: no images of {some(map(repr, empty), 'class ')}; {some(there, 'there are: ')}",
            hint="add images, or leave these classes out of `classes`",
        )
    if options.images_per_class is not None:
        kept = cap_per_class(labels, names, options.images_per_class, options.seed)
        chosen, labels = [chosen[i] for i in kept], labels[kept]
    items = [entry.item for entry in chosen]
    return Listing(
        items=items,
        labels=labels,
        class_names=tuple(names),
        size=options.size,
        channels=options.channels,
        background=options.background,
        skip_bad=options.bad_images == "skip",
        splits=None if chosen[0].split is None else np.array([entry.split for entry in chosen], dtype=np.int8),
        notes={
            "num_files": len(labelled),
            "num_left_out": len(labelled) - len(items),
            "files_sha256": hashlib.sha256("\0".join(item.key for item in items).encode()).hexdigest(),
            **notes,
        },
    )


def file_notes(path: str) -> dict[str, str | int]:
    """What the manifest says of a file that decided something."""
    content = Path(path).read_bytes()
    return {"file": path, "sha256": hashlib.sha256(content).hexdigest()}
