"""Pictures, tables and files of a run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind.errors import UserError
from kind.tracked.entry import Entry

if TYPE_CHECKING:
    from mlflow import MlflowClient


def log_artifacts(client: MlflowClient, run_id: str, entry: Entry, logged: Mapping[str, str]) -> dict[str, str]:
    """Logs what changed since it was logged.

    logged: artifact path -> digest of what it was made from; the answer has the same form.
    """
    now = dict(logged)
    for path, (content, make) in entry.pictures.items():
        if now.get(path) != content and (picture := _made(entry, path, make)) is not None:
            _upload(client, run_id, path, picture)
            now[path] = content
    for path, (content, source) in entry.files.items():
        if now.get(path) != content[:12]:
            _upload(client, run_id, path, source.read_bytes())
            now[path] = content[:12]
    for path, (content, rows) in entry.tables.items():
        if now.get(path) != content[:12]:
            _log_table(client, run_id, path, rows())
            now[path] = content[:12]
    return now


def _made(entry: Entry, path: str, make: Callable[[], bytes | None]) -> bytes | None:
    """A picture; None, and a word in the log, where its files cannot be read: numbers are brought in all the same."""
    try:
        return make()
    except (OSError, ValueError, KeyError, UserError) as error:
        print(f"{entry.name}: no {path}: {error}", flush=True)
        return None


def _upload(client: MlflowClient, run_id: str, path: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / Path(path).name
        local.write_bytes(content)
        inside = str(Path(path).parent)
        client.log_artifact(run_id, str(local), None if inside == "." else inside)


def _log_table(client: MlflowClient, run_id: str, path: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """log_table appends to a table that is there; such a one is written anew in the same form."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    there = {found.path for found in client.list_artifacts(run_id, str(Path(path).parent))}
    if path in there:
        data = [[row.get(name) for name in columns] for row in rows]
        _upload(client, run_id, path, json.dumps({"columns": columns, "data": data}).encode())
    else:
        client.log_table(run_id, {name: [row.get(name) for row in rows] for name in columns}, path)
