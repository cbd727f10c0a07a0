"""`weights.lock`: size and sha256 of every weights file at its first fetch, which later ones must have.

No publisher but torch-fidelity says a hash, so the first fetch is trusted; the file belongs in git.  Imports no torch.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from kind.artifacts import sha256, write_json
from kind.errors import UserError
from kind.weights import FOLDER, LOCK, File, Place


class Sum(NamedTuple):
    """What a file is known by."""

    bytes: int
    sha256: str


def problem(name: str, file: File, path: Path) -> str | None:
    """Why what lies at `path` is not this file of these weights, or None."""
    if wrong := _wrong_form(path, Path(file.name).suffix):
        return wrong
    found, expected = _sum(path), _read().get(name, {}).get(file.name)
    if not found.sha256.startswith(file.sha256):
        return f"its sha256 is {found.sha256}, and the published one begins with {file.sha256}"
    if expected is not None and expected != found._asdict():
        return (
            f"it has {found.bytes} bytes and sha256 {found.sha256}, but {LOCK} says {expected['bytes']} bytes and "
            f"{expected['sha256']}"
        )
    return None


def check_known(place: Place) -> None:
    """Raises UserError for a fetched file that is not the one of `weights.lock`; of others nothing is known."""
    if place.said_by is not None:
        return
    name, expected = place.weights.name, _read().get(place.weights.name, {})
    for file, path in zip(place.weights.files, place.files, strict=True):
        if file.name in expected and (wrong := problem(name, file, path)):
            raise UserError(f"{path}: {wrong}", hint=f"delete it, then run `python -m kind fetch {name}`")


def record(name: str, file: File, path: Path) -> bool:
    """What later fetches must find; whether that is new."""
    with _alone():
        content = _read()
        if file.name in content.get(name, {}):
            return False
        content.setdefault(name, {})[file.name] = _sum(path)._asdict()
        write_json(LOCK, {one: dict(sorted(content[one].items())) for one in sorted(content)})
        return True


def _sum(path: Path) -> Sum:
    return Sum(path.stat().st_size, sha256(path))


def _wrong_form(path: Path, suffix: str) -> str | None:
    """A page of a portal, or a pointer in place of a file, must not become what a first fetch is trusted with."""
    try:
        if suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif suffix == ".safetensors":
            from safetensors import SafetensorError, safe_open

            try:
                safe_open(path, framework="numpy")
            except SafetensorError as error:
                raise ValueError(error)
    except ValueError as error:
        return f"not a whole {suffix[1:]} file ({error})"
    return None


@contextmanager
def _alone() -> Iterator[None]:
    """Several names may be fetched at once, each by its own process."""
    FOLDER.mkdir(exist_ok=True)
    with open(FOLDER / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _read() -> dict[str, dict[str, dict]]:
    """name -> file -> {bytes, sha256}."""
    if not LOCK.is_file():
        return {}
    hint = "take the file of the last commit; where there is none, delete it: the next fetch is then trusted anew"
    try:
        content = json.loads(LOCK.read_text(encoding="utf-8"))
        for files in content.values():
            for entry in files.values():
                if set(entry) != set(Sum._fields):
                    raise ValueError(f"an entry with {', '.join(entry) or 'nothing'}")
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{LOCK}: expected name -> file -> bytes and sha256, in JSON ({error})", hint=hint)
    return content
