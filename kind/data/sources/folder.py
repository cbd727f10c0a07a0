"""Anyone's images: a folder or an archive with a folder a class, a CSV of labels, or one class.  See docs/data.md."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kind.data.labelled_files import (
    FileOptions,
    Labelled,
    file_notes,
    images_in,
    labels_by_csv,
    labels_by_folder,
    make_listing,
    missing_path,
)
from kind.data.sources import Listing, Source
from kind.errors import UserError

ONE_CLASS = "image"
PUT = "put the images there, or name the place where they are as `path`"


class Options(FileOptions):
    """below: the folder in `path` where the class folders begin.

    labels: the first folder of a file's path; a column of a CSV; or one class for all, `class_name`.
    csv: a file with a row of column names; files are named as seen from `path` and `below`.
    split_column: of a CSV that says train, validation or test for each file; else `split` draws.
    """

    below: str = ""
    labels: Literal["folders", "csv", "none"] = "folders"
    class_name: Annotated[str, Field(min_length=1)] = ONE_CLASS
    csv: str | None = None
    file_column: str = "file"
    label_column: str = "label"
    split_column: str | None = None

    @model_validator(mode="after")
    def _csv_where_it_is_read(self) -> Self:
        if self.labels == "csv" and self.csv is None:
            raise ValueError("labels: csv needs the path of the table as `csv`")
        if self.labels != "csv" and (self.csv is not None or self.split_column is not None):
            raise ValueError(f"a csv is read with labels: csv only, not with labels: {self.labels}")
        if self.labels == "none" and self.classes is not None:
            raise ValueError("labels: none makes one class, named by `class_name`; leave `classes` out")
        return self


def listing(options: Options) -> Listing:
    found = images_in(options.path, options.below)
    notes = {"num_other_files": found.num_others}
    if options.labels == "csv":
        labelled = labels_by_csv(
            found.items, options.csv, options.file_column, options.label_column, options.split_column
        )
        _check_range(options, labelled)
        notes |= {"csv": file_notes(options.csv), "num_without_row": len(found.items) - len(labelled)}
    elif options.labels == "folders":
        labelled = labels_by_folder(found.items, options.path)
    else:
        labelled = [Labelled(item, options.class_name) for item in found.items]
    return make_listing(options, labelled, options.classes or sorted({entry.name for entry in labelled}), notes)


def _check_range(options: Options, labelled: list[Labelled]) -> None:
    """A CSV may hold no other labels than `classes` names: a slip of the pen would make a class of its own."""
    from kind.params.messages import nearest, some

    if options.classes is None:
        return
    other = sorted({entry.name for entry in labelled} - set(options.classes))
    if other:
        shown = (f"{name!r}{nearest(name, options.classes)}" for name in other)
        raise UserError(
            f"{options.csv}: labels that `classes` does not name: {some(shown, '')}; {some(options.classes)}",
            hint="mend the rows, or add the classes",
        )


def missing(options: Options, remedy: str = PUT) -> list[str]:
    return [*missing_path(options.path, remedy), *(missing_path(options.csv, remedy) if options.csv else [])]


def class_names(options: Options) -> tuple[str, ...] | None:
    if options.labels == "none":
        return (options.class_name,)
    return None if options.classes is None else tuple(options.classes)


def preset(name: str, options: type[Options], remedy: str) -> Source:
    """A source of its own name over the same code: `remedy` says where its images come from."""
    return Source(
        name=name,
        options=options,
        listing=listing,
        class_names=class_names,
        channels=lambda given: given.channels,
        missing=lambda given: missing(given, remedy),
    )


SOURCE = preset("folder", Options, PUT)
