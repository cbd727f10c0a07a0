"""ImageNet-1K (ILSVRC 2012) with similar classes merged into 611, from a folder of JPEGs by wnid or the original tar.

The paper's list is not public; ours is one rule over WordNet 3.0, which gives exactly 611
(kind/data/wordnet_merge.py).  Any other mapping may take its place.  Classes are named
by the wnid of what they were merged into.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from kind.data.class_sets import seen_and_novel
from kind.data.labelled_files import FileOptions, Labelled, file_notes, images_in, make_listing, missing_path, repeated
from kind.data.sources import Listing, Source
from kind.errors import UserError

NUM_SEEN = 150  # for pre-training, as in the paper; of the 611 of our rule 461 are novel
TABLE = Path(__file__).parents[1] / "tables" / "imagenet_611.tsv"
COLUMNS = ("wnid", "merged_id")
REMEDY = (
    "get ILSVRC 2012 from image-net.org (free for research, after registration) and name the folder of its 1,000 "
    "training folders, or ILSVRC2012_img_train.tar, as `path`"
)
MEND = "write a table with tabs between columns, whose first row names them; see kind/data/tables/imagenet_611.tsv"


class Options(FileOptions):
    """mapping: a TSV with the columns wnid and merged_id, one row a folder that is used; None: the 611 of our rule.

    classes: merged ids; None: all, in the order of the table.  images_per_class: of a merged class, so that those of
    many members do not outweigh the others.  split_seed: which classes are seen and which novel.
    """

    size: Annotated[int, Field(ge=4, le=2048)] = 256
    mapping: str | None = None
    split_seed: Annotated[int, Field(ge=0)] = 0


def listing(options: Options) -> Listing:
    """Raises UserError where a member of a class that is used has no images."""
    from kind.params.messages import some

    table = options.mapping or str(TABLE)
    merged = read_mapping(table)
    names = options.classes or list(dict.fromkeys(merged.values()))
    if unknown := [name for name in names if name not in merged.values()]:
        raise UserError(f"{table}: has no merged_id {some(map(repr, unknown), '')}", hint="mend `classes`")
    found = images_in(options.path)
    by_member: dict[str, list] = {wnid: [] for wnid in merged}
    for item in found.items:
        by_member.get(item.key.split("/", 1)[0], []).append(item)
    empty = [wnid for wnid, items in by_member.items() if not items and merged[wnid] in names]
    if empty:
        raise UserError(
            f"{options.path}: no images of {some(empty, '')}, which {table} names",
            hint="complete the images, name the folder in which the wnid folders lie as `path`, or give a mapping "
            "without these rows",
        )
    labelled = [Labelled(item, merged[wnid]) for wnid, items in by_member.items() for item in items]
    labelled.sort(key=lambda entry: entry.item.key)
    members = {name: [wnid for wnid, merged_id in merged.items() if merged_id == name] for name in names}
    notes = {
        "mapping": file_notes(table) | ({"file": TABLE.name} if options.mapping is None else {}),
        "members": {name: wnids for name, wnids in members.items() if wnids != [name]},
        "num_outside_the_mapping": len(found.items) - len(labelled),
    }
    return make_listing(options, labelled, names, notes)


@lru_cache(maxsize=8)
def read_mapping(table: str) -> Mapping[str, str]:
    """Merged id of each wnid, in the order of the table.  Raises UserError for what is no such table."""
    from kind.params.messages import some

    rows = read_table(table)
    absent = [name for name in COLUMNS if not rows or name not in rows[0]]
    if absent:
        found = ", ".join(rows[0]) if rows else "nothing"
        raise UserError(f"{table}: has no column {', '.join(absent)}; it has {found}", hint=MEND)
    problems = [f"{wnid} is there twice" for wnid in repeated(row["wnid"] for row in rows)]
    problems += [
        f"line {line}: no {name}"
        for line, row in enumerate(rows, 2)
        for name in COLUMNS
        if not (row[name] or "").strip()
    ]
    if problems:
        raise UserError(f"{table}: {some(problems, '')}", hint=MEND)
    return {row["wnid"].strip(): row["merged_id"].strip() for row in rows}


def read_table(table: str | Path) -> list[dict[str, str]]:
    try:
        with open(table, encoding="utf-8", newline="") as handle:
            return list(csv.DictReader(handle, delimiter="\t"))
    except UnicodeDecodeError as error:
        raise UserError(f"{table}: not a table in UTF-8 ({error})", hint=MEND)


def missing(options: Options) -> list[str]:
    lines = missing_path(options.path, REMEDY)
    return [*lines, *(missing_path(options.mapping, MEND) if options.mapping else [])]


def class_names(options: Options) -> tuple[str, ...] | None:
    if options.classes is not None:
        return tuple(options.classes)
    if options.mapping is not None and not Path(options.mapping).is_file():
        return None
    return tuple(dict.fromkeys(read_mapping(options.mapping or str(TABLE)).values()))


def class_sets(options: Options) -> Mapping[str, tuple[str, ...]]:
    """`all`, `seen` (150) and `novel`, stratified by the number of wnids in a class: of the whole mapping, whatever
    `classes` takes of it.  Nothing where the mapping cannot be read yet; `all` alone where it leaves no novel ones."""
    if options.mapping is not None and not Path(options.mapping).is_file():
        return {}
    sizes = Counter(read_mapping(options.mapping or str(TABLE)).values())  # in the order of the table
    sets = seen_and_novel(sizes, NUM_SEEN, options.split_seed) if len(sizes) > NUM_SEEN else {"all": tuple(sizes)}
    taken = set(options.classes or sizes)
    kept = {name: tuple(one for one in names if one in taken) for name, names in sets.items()}
    return {name: names for name, names in kept.items() if names}


SOURCE = Source(
    name="imagenet611",
    options=Options,
    listing=listing,
    class_names=class_names,
    class_sets=class_sets,
    drawn_from=lambda options: options.mapping,  # wherever the images lie, classes of one mapping are the same
    channels=lambda options: options.channels,
    missing=missing,
)
