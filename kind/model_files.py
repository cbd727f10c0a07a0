"""Whatever holds a model: files of each format, and folders of a backbone, parts, an export or adapted models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kind import checkpoints
from kind.artifacts import read_header
from kind.checkpoints import Loaded
from kind.errors import UserError
from kind.exports import is_export
from kind.exports_reader import read_export
from kind.layout import last_step, tailor_names
from kind.methods import METHODS
from kind.records import check_recorded

LEARNGENES, MODEL = "learngenes.safetensors", "model.safetensors"


def read_model(path: Path, start: Path | None = None) -> Loaded:
    """Raises UserError for what holds no model, and for a start that is missing or not needed.  See `kind.load`."""
    if start is not None and not needs_start(path):
        raise UserError(
            f"{path}: is whole, and needs no start",
            hint="leave it out (start, --start): only an adapted model is read with what it was trained from",
        )
    if start is not None:
        _check_written([start] if start.is_file() else sorted(start.glob("*.safetensors")))
    if path.is_dir():
        return _read_folder(path, start)
    _check_written([path])
    kind = _format(path)
    if kind.startswith("learngenes/"):
        return replace(checkpoints.load_learngenes(path), classes=[])
    if kind.startswith("tailors/"):
        raise UserError(
            f"{path}: tailors alone are no model", hint="give the folder that holds them and their learngenes"
        )
    return _read_adapted(path, start) if kind.startswith("adapted/") else checkpoints.load_backbone(path)


def needs_start(path: Path) -> bool:
    """An adapted model, or a folder of them, that is read with what it was trained from."""
    path = (last_step(path) or path) if path.is_dir() else path
    return not path.is_dir() and _format(path).startswith("adapted/") and read_header(path).get("start") is not None


def write_parts(folder: Path, loaded: Loaded, *, overwrite: bool = False) -> None:
    """Learngenes and tailors, each under the name that the extract stage gives it.

    Raises UserError for a folder that holds parts already.  overwrite: they are replaced; those that the new model does
    not have go, for a reader takes all tailors that it finds.
    """
    groups = 0 if loaded.model.gate is None else len(loaded.model.gate.groups)
    learngenes, tailors = folder / LEARNGENES, folder / "tailors"
    new = [tailors / name for name in tailor_names(len(loaded.classes), groups)]
    old = [*folder.glob(LEARNGENES), *sorted(tailors.glob("*.safetensors"))]
    if old and not overwrite:
        raise UserError(f"{folder}: holds parts already", hint="name another folder, or overwrite them (--overwrite)")
    for path in old:
        if not _format(path).startswith(("learngenes/", "tailors/")):
            raise UserError(f"{path}: is none of the parts that may be overwritten", hint="name another folder")
    checkpoints.write_parts(learngenes, new, loaded, "the model")
    for path in old:
        if path not in (learngenes, *new):
            path.unlink()


def read_parts(learngenes: Path, tailors: Sequence[Path]) -> Loaded:
    _check_written([learngenes, *tailors])
    return checkpoints.recombine(learngenes, list(tailors))


def _format(path: Path) -> str:
    return str(read_header(path).get("format"))


def _read_folder(folder: Path, start: Path | None) -> Loaded:
    if is_export(folder):
        return read_export(folder)
    if (folder / MODEL).is_file():
        _check_written([folder / MODEL])
        return checkpoints.load_backbone(folder / MODEL)
    if (folder / LEARNGENES).is_file():
        return read_parts(folder / LEARNGENES, sorted((folder / "tailors").glob("*.safetensors")))
    if (path := last_step(folder)) is not None:
        _check_written([path])
        return _read_adapted(path, start)
    raise UserError(
        f"{folder}: holds no model",
        hint="give a model file, or a folder with kind.json, model.safetensors, learngenes.safetensors or step_*",
    )


def _check_written(paths: Sequence[Path]) -> None:
    """Raises UserError for a file of an experiment that is not as its job wrote it."""
    for path in paths:
        check_recorded(path, apart=_apart(path))


def _apart(path: Path) -> list[Path]:
    """The record of a run's adapted model lies in another tree: see `Layout.adapted`."""
    above = path.resolve().parents
    if len(above) < 5 or above[3].name != "adapters":
        return []
    return [above[4] / "runs" / above[0].relative_to(above[3]) / "finetune.json"]


def _read_adapted(path: Path, start: Path | None) -> Loaded:
    header = read_header(path)
    method = METHODS.get(header.get("method"))
    if start is None and header.get("start") is not None:
        raise UserError(
            f"{path}: holds only what {header.get('method')} trained",
            hint="name what it was trained from too (start, --start): the learngenes or the dense backbone",
        )
    loaded = checkpoints.load_adapted(path, start)
    model = method.merged(loaded.model)
    return replace(loaded, model=model.requires_grad_(True))
