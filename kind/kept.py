"""What a job keeps for when it is run again, each thing with a checksum of its own: no record describes it yet.

Whatever is damaged counts as not done, and is made again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kind.artifacts import digest, sha256, write_text


def keep(path: Path) -> None:
    """Note the checksum of a file that has been written."""
    write_text(_sum_of(path), sha256(path) + "\n")


def is_kept(path: Path) -> bool:
    """Whether the file is there as `keep` found it; one that is damaged is named and deleted."""
    if not path.is_file():
        return False
    noted = _sum_of(path)
    if noted.is_file() and noted.read_bytes() == f"{sha256(path)}\n".encode():
        return True
    print(f"{path}: cut off or changed after it was written: it is made again", file=sys.stderr)
    path.unlink()
    return False


def _sum_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def as_line(entry: Mapping[str, Any]) -> str:
    """A line of a log that says what is done."""
    return json.dumps({**entry, "check": digest(entry)}) + "\n"


def of_line(line: str) -> dict[str, Any] | None:
    """The entry; None for a line that was cut off or changed."""
    try:
        entry = json.loads(line)
        check = entry.pop("check")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return entry if isinstance(entry, dict) and digest(entry) == check else None
