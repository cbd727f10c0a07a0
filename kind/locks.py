"""One process at a time: a lock file that the system gives back when its holder ends, however it ends.

flock(2) holds between processes of one machine, and of all machines on NFS (Linux 2.6.12 and later turn it into a lock
of the server) and on Lustre that is mounted with `-o flock`; with `-o localflock` it holds on each node alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from kind.artifacts import naming
from kind.errors import UserError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def only_process(path: Path, doing: str) -> Iterator[None]:
    """Hold a lock file; raises UserError at once, with the holder's process and host, where another process does.

    Whoever holds it may remove the file.
    """
    while (handle := _take(path, doing)) is None:
        pass
    with handle:
        with naming(path):
            handle.truncate(0)
            # at once: what waits in a buffer is written when the file is closed, by an error that does not name it
            os.write(handle.fileno(), f"{os.getpid()} on {socket.gethostname()}\n".encode())
        yield


def _take(path: Path, doing: str) -> TextIO | None:
    """None where the file was removed, by a holder that ended, before it was locked: the lock would keep nobody out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = open(path, "a")  # noqa: SIM115  the caller closes it
    except FileNotFoundError:  # the folder was removed again
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists() and os.path.samestat(path.stat(), os.fstat(handle.fileno())):
            return handle
    except BlockingIOError:
        handle.close()
        try:
            holder = path.read_text().strip()
        except FileNotFoundError:  # it has just ended
            return None
        raise UserError(
            f"another process is {doing} (process {holder or 'unknown'} holds {path})",
            hint="wait for it to end, or end it",
        )
    except OSError as error:
        handle.close()
        if error.errno in NO_LOCKS:
            raise UserError(
                f"{path}: this file system has no locks ({os.strerror(error.errno)}), so that nothing would keep a "
                "second process out",
                hint="have it mounted with locks (Lustre: -o flock; NFS: not nolock), or name another place with "
                "--results",
            )
        raise
    handle.close()
    return None
