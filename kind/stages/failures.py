"""What is kept of a job that a retry would end as before, so that the retry ends at once."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from kind.artifacts import read_json, write_json
from kind.errors import DeadEnd, UserError

FORMAT = 1
NAME = "failed.json"


def keep_failure(state: Path, identity: str, recipe: dict[str, Any], error: DeadEnd) -> UserError:
    """Write `failed.json` into the state folder; what it says is what this attempt and the next end with.

    identity: digest of the job's recipe and inputs; with others the failure says nothing.
    """
    path = state / NAME
    message = f"{error}\n  -> tried again as it is, this ends the same way at once, until the params change or "
    message += f"`python -m kind clear-failure` (--help says of what) takes away {path}"
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    facts = {"time": now, "host": socket.gethostname(), "identity": identity, "recipe": recipe}
    write_json(path, {"format": FORMAT, "message": message, **error.facts, **facts})
    return UserError(message)


def check_failure(state: Path, identity: str) -> None:
    """Raises UserError with the message of an earlier attempt with this recipe and these inputs, where it would be
    that of this one.  A damaged file says nothing: the attempt writes it again."""
    failure = read_failure(state / NAME)
    if failure is not None and failure["identity"] == identity:
        raise UserError(failure["message"])


def read_failure(path: Path) -> dict[str, Any] | None:
    """None where there is none, or no whole one."""
    if not path.is_file():
        return None
    try:
        found = read_json(path)
        if found["format"] == FORMAT and isinstance(found["message"], str) and isinstance(found["identity"], str):
            return found
    except (UserError, KeyError, TypeError):
        pass
    print(f"note: {path}: not a whole record of a failure: not used", flush=True)
    return None
