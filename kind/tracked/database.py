"""The sqlite file of MLflow's store: opened by one process at a time, then read and written by many."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NETWORK_DISKS = ("nfs", "lustre", "gpfs", "beegfs", "cifs", "smb", "ceph", "fuse", "9p", "afs")


def database_file(uri: str) -> Path | None:
    """The file of an sqlite store; None for a server."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix)).absolute() if uri.startswith(prefix) else None


@contextmanager
def one_at_a_time(path: Path | None) -> Iterator[None]:
    """One process at a time opens an sqlite store: several that make its tables at once fail."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f"{path.name}.lock"), "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def keep_readers_apart(path: Path) -> None:
    """A reader, such as the UI, then holds up no writer.  Kept in the file."""
    if not _on_network(path):
        database = sqlite3.connect(path)
        database.execute("PRAGMA journal_mode=WAL")
        database.close()


def _on_network(path: Path) -> bool:
    """Write-ahead logs need shared memory, which network file systems lack."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    places = [(place, kind) for _, place, kind, *_ in mounts if path.is_relative_to(place)]
    return max(places, key=lambda found: len(found[0]))[1].startswith(NETWORK_DISKS) if places else False
