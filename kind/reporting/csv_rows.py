"""Rows of the files that analyses leave."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from kind.errors import UserError

Rows = list[dict[str, str]]


def read_rows(path: Path, columns: Sequence[str]) -> Rows:
    again = "delete it and run the analyse stage again, or snakemake"
    if not path.is_file():
        raise UserError(f"{path}: no such file", hint="run the analyse stage, or snakemake")
    with open(path, newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        absent = [name for name in columns if name not in (reader.fieldnames or ())]
        if absent:
            raise UserError(f"{path}: has no column {', '.join(absent)}", hint=again)
        return list(reader)
