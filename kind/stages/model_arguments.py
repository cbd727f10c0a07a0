"""Arguments of the commands that work on model files, without an experiment."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kind.errors import UserError

if TYPE_CHECKING:
    from kind.api import KindModel

MODEL = (
    "a model file, or a folder of a backbone, of parts (what extract writes) or of an export; a file of learngenes "
    "may be followed by files of tailors"
)
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


def add_start_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--start", type=Path, metavar="MODEL", help="what an adapted MODEL was trained from: its learngenes or backbone"
    )


def amount(text: str) -> int | float:
    """`120000`, `45.4M`, `1.2G`, or a share: `50%`, `0.5`."""
    match = re.fullmatch(r"(\d[\d_,]*\.?\d*|\.\d+)(%|[kMG]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount: give 120000, 45.4M or 1.2G, or a share as 50% or 0.5")
    number, unit = float(re.sub("[_,]", "", match[1])), match[2]
    if unit == "%":
        return number / 100
    if unit == "" and "." in match[1]:
        return number
    return round(number * UNITS[unit])


def load_models(paths: Sequence[Path], start: Path | None) -> list[KindModel]:
    """One model a path, but files of tailors go with the file of learngenes before them."""
    from kind import api
    from kind.artifacts import read_header

    def is_of(path: Path, what: str) -> bool:
        return not path.is_dir() and str(read_header(path).get("format")).startswith(what)

    models, waiting = [], list(paths)
    while waiting:
        path, tailors = waiting.pop(0), []
        if is_of(path, "learngenes/"):
            while waiting and is_of(waiting[0], "tailors/"):
                tailors.append(waiting.pop(0))
        models.append(api.load_parts(path, tailors) if tailors else api.load(path, start))
    return models


def check_output(path: Path, inputs: Sequence[Path]) -> None:
    if path.is_dir():
        raise UserError(f"{path}: is a folder, where the name of a file to write is needed")
    if path in inputs:
        raise UserError(f"{path}: is read by this command; write to another file")
