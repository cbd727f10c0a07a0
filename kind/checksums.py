"""SHA-256 of files.  That of a large file is remembered, since every job checks its inputs and 100 GB take minutes.

What is remembered holds for one path with one size, inode, and times of content and of status to the nanosecond: no
program can write to a file, or put another in its place, and leave all of them.  A file is remembered only when it has
rested, so that a later write cannot fall into the same tick of the clock.  Folder: ~/.cache/kind (XDG_CACHE_HOME).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

LARGE = 2**28  # bytes; less takes a fraction of a second
REST = 2.0  # seconds; the coarsest clock of a file system in use


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    if path.stat().st_size < LARGE:
        return _computed(path)
    _let_rest(path)
    before = _identity(path)
    found = _recalled(path, before)
    if found is None:
        found = _computed(path)
        _note(path, before, found)
    return found


def remember(path: Path, digest: str) -> None:
    """Note the digest of a file that was hashed under another name, and is the caller's own since."""
    if path.stat().st_size >= LARGE:
        _let_rest(path)
        _note(path, _identity(path), digest)


def move(source: Path, target: Path) -> str:
    """Give a file its place; returns its digest, which may take minutes and is taken before."""
    found = sha256(source)
    os.replace(source, target)
    remember(target, found)
    return found


def _computed(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _identity(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _let_rest(path: Path) -> None:
    time.sleep(min(REST, max(0.0, path.stat().st_ctime + REST - time.time())))


def _place(path: Path) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "kind" / "checksums" / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]}.json"


def _recalled(path: Path, identity: list[int]) -> str | None:
    try:
        known = json.loads(_place(path).read_text())
        whole = known["check"] == _check(known["identity"], known["sha256"])
        return str(known["sha256"]) if whole and known["identity"] == identity else None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):  # none, or damaged, or no home
        return None


def _note(path: Path, identity: list[int], digest: str) -> None:
    if _identity(path) != identity or time.time() - identity[-1] / 1e9 < REST:
        return
    with suppress(OSError, RuntimeError):  # a home that cannot be written to costs time only
        place = _place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_suffix(f".{os.getpid()}.tmp")
        known = {"path": str(path.resolve()), "identity": identity, "sha256": digest}
        temporary.write_text(json.dumps({**known, "check": _check(identity, digest)}))
        os.replace(temporary, place)


def _check(identity: list[int], digest: str) -> str:
    """A damaged note must not make a whole file look damaged."""
    return hashlib.sha256(json.dumps([identity, digest]).encode()).hexdigest()[:12]
