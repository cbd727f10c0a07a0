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
    "a model file, or a folder of a backbone, of parts (what extract writes), of an export, or of a run's adapted "
    "models (the last step is taken)"
)
MODELS = f"{MODEL}; a file of learngenes may be followed by files of its tailors"
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


def add_start_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--start",
        type=Path,
        metavar="START",
        help="what an adapted MODEL was trained from: the file or folder of its learngenes or dense backbone",
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
    """One model a path, but files of tailors go with the file of learngenes before them; `start` with adapted ones."""
    from kind import api
    from kind.artifacts import read_header
    from kind.model_files import needs_start

    def is_of(path: Path, what: str) -> bool:
        return not path.is_dir() and str(read_header(path).get("format")).startswith(what)

    if start is not None and len(paths) > 1 and not any(needs_start(path) for path in paths):
        raise UserError("none of the models needs --start: only adapted models are read with what they come from")
    models, waiting = [], list(paths)
    while waiting:
        path, tailors = waiting.pop(0), []
        if is_of(path, "learngenes/"):
            while waiting and is_of(waiting[0], "tailors/"):
                tailors.append(waiting.pop(0))
        own = start if len(paths) == 1 or needs_start(path) else None
        models.append(api.load_parts(path, tailors) if tailors else api.load(path, own))
    return models


def check_output(path: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """A file that may be written: none of the inputs, not inside one, and not there unless it may be overwritten."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, where the name of a file to write is needed")
    place = path.resolve()
    for other in inputs:
        if place == other.resolve():
            raise UserError(f"{path}: is read by this command; write to another file")
        if other.is_dir() and other.resolve() in place.parents:
            raise UserError(f"{path}: lies in {other}, which this command reads; write to another folder")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: is there already", hint="name another file, or overwrite it (--overwrite)")
