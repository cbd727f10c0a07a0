"""Training state on disk: written whole or not at all, checked before it is unpickled, with the one before it beside.

A file is one line of text, with the length and the SHA-256 of what follows, then what `torch.save` writes.  Whatever
byte is cut off or flipped, the line no longer describes the rest (or is none), and the file is not used.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from kind.artifacts import atomic_file
from kind.errors import UserError

STATE_FORMAT = 4


def _header(size: int, sha256: str) -> bytes:
    return f"kind training state {STATE_FORMAT}, {size:020d} bytes, sha256 {sha256}\n".encode()


HEADER_PATTERN = re.compile(rb"kind training state %d, (\d{20}) bytes, sha256 ([0-9a-f]{64})\n" % STATE_FORMAT)
HEADER_SIZE = len(_header(0, "0" * 64))
PIECE = 2**24  # bytes that are read at once


@dataclass
class State:
    """Where training is; random numbers need none of this (they depend on seed and step alone).

    losses, norms: of each step since the last row of the log; last_loss: of the step of that row.
    """

    step: int = 0
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    log: list[dict[str, float]] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    last_loss: float | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    resumes: int = 0


class StateFiles:
    """A training run's state at `path`, and the state before it beside, in `older.<name>`.

    label: of the run, for messages.
    """

    def __init__(self, path: Path, label: str):
        self.path, self.older, self.label = path, path.with_name(f"older.{path.name}"), label
        self._keep_newest = False  # known to be whole and of this run, so that it may take the older one's place

    def save(self, content: Mapping[str, Any]) -> None:
        """Tensors and plain values.  Until the new file is whole on the disk, the one before it keeps its name."""
        with atomic_file(self.path) as handle:
            handle.write(b" " * HEADER_SIZE)
            hashed = _Hashed(handle)
            torch.save(dict(content), hashed)
            handle.seek(0)
            handle.write(_header(hashed.size, hashed.sha256.hexdigest()))
            handle.flush()
            os.fsync(handle.fileno())
            if self._keep_newest and self.path.is_file():
                os.replace(self.path, self.older)
        self._keep_newest = True

    def load(self, recipe: str, device: torch.device, take: Callable[[Mapping[str, Any]], None]) -> bool:
        """Hand the newest state that is whole and whose entry `recipe` is this one to `take`; False: there is none.

        Raises UserError for a whole file that holds something else than what this run saves.
        """
        damaged = False
        for path in (self.path, self.older):
            if not path.is_file():
                continue
            if problem := _damage(path):
                print(f"{self.label}: note: {path}: {problem}: not used", flush=True)
                damaged = True
                continue
            with _naming(path, self.label):
                content = _unpickled(path, device)
                if content["recipe"] == recipe:
                    take(content)
                    self._keep_newest = path == self.path
                    return True
            print(f"{self.label}: note: {path}: state of another recipe: not used", flush=True)
        if damaged:
            print(f"{self.label}: warning: no whole state of this run is left: starting over", flush=True)
        return False


@contextmanager
def _naming(path: Path, label: str) -> Iterator[None]:
    try:
        yield
    except (MemoryError, OSError, torch.OutOfMemoryError, torch.AcceleratorError):  # say nothing of the file's content
        raise
    except Exception as error:  # noqa: BLE001  torch raises many types, some a page long
        raise UserError(
            f"{path}: unreadable training state ({type(error).__name__}); expected what {label} saved",
            hint="not of this version of the program: move it away and run the same command again, to start over",
        )


class _Hashed:
    """A file that is written to, with length and checksum of what was."""

    def __init__(self, handle: BinaryIO):
        self.handle, self.size, self.sha256 = handle, 0, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.sha256.update(content)
        self.size += len(content)
        return self.handle.write(content)

    def flush(self) -> None:
        self.handle.flush()


def _damage(path: Path) -> str | None:
    """What is wrong with the file's bytes; None where they are as they were written."""
    with open(path, "rb") as handle:
        header = handle.read(HEADER_SIZE)
        found = HEADER_PATTERN.fullmatch(header)
        if found is None:
            return "cut off or changed after it was written, or of another version"
        size, wanted, sha256 = int(found[1]), found[2].decode(), hashlib.sha256()
        left = os.fstat(handle.fileno()).st_size - HEADER_SIZE
        if left != size:
            return f"cut off or changed after it was written ({left} bytes of content, expected {size})"
        while piece := handle.read(PIECE):
            sha256.update(piece)
    if sha256.hexdigest() != wanted:
        return f"changed after it was written (sha256 {sha256.hexdigest()[:12]}, expected {wanted[:12]})"
    return None


def _unpickled(path: Path, device: torch.device) -> Mapping[str, Any]:
    with open(path, "rb") as handle, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickles of others, which are refused
        handle.seek(HEADER_SIZE)
        return torch.load(handle, map_location=device, weights_only=True)
