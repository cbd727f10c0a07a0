"""The records of jobs that say what a file was when it was written; see `kind.stages.job`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from kind.artifacts import read_json, sha256
from kind.errors import UserError

FORMAT = 1
BEGINS = f'{{\n  "format": {FORMAT},\n  "recipe": {{'.encode()


def check_recorded(path: Path, found: str | None = None, apart: Sequence[Path] = ()) -> None:
    """Raises UserError for a file that is not what the record of its job describes; one without a record passes.

    found: its checksum, where it is known already.  apart: records that may lie elsewhere than beside it.
    """
    for record, stage, written in _records_of(path, apart):
        found = found or sha256(path)
        if written != found:
            raise UserError(
                f"{path}: not the file that {record} describes (sha256 {found[:12]}, expected {written[:12]})",
                hint="cut off or changed after it was written: delete it, then run snakemake, or the stage "
                f"{stage}, again",
            )


def _records_of(path: Path, apart: Sequence[Path]) -> Iterator[tuple[Path, str, str]]:
    """The records that list this file as an output: record, its stage, the checksum.  They lie at most two folders up,
    or are named; a damaged one says nothing, and its own job is done again."""
    beside = [record for folder in list(path.parents)[:3] for record in sorted(folder.glob("*.json"))]
    for record in dict.fromkeys([*beside, *(record for record in apart if record.is_file())]):
        with open(record, "rb") as handle:
            if handle.read(len(BEGINS)) != BEGINS:
                continue
        try:
            content = read_json(record)
            written = content["outputs"].get(os.path.relpath(path, record.parent))
            if written is not None:
                yield record, str(content["recipe"]["stage"]), str(written)
        except (UserError, KeyError, TypeError, AttributeError):
            continue
