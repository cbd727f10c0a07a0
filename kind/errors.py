"""The one exception for mistakes that a person can mend; the command line prints it without a traceback."""

from __future__ import annotations

import errno
import os
import textwrap
import unicodedata
from collections.abc import Mapping
from typing import Any


class UserError(Exception):
    """What went wrong, what was given, what is allowed; `hint` says what to do next."""

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(harmless(message if hint is None else f"{message}\n  -> {hint}"))


class DeadEnd(UserError):
    """A mistake that trying again with the same recipe and inputs would repeat.  facts: what is kept of it, as JSON."""

    def __init__(self, message: str, *, hint: str | None = None, facts: Mapping[str, Any] | None = None):
        super().__init__(message, hint=hint)
        self.facts = dict(facts or {})


class Unfinished(Exception):
    """Work that stopped in time, or was asked to stop, and kept what it had: the same command goes on."""


TRY_AGAIN = 75  # exit code of unfinished work: EX_TEMPFAIL of sysexits.h
INTERRUPTED = 130  # by Ctrl-C: 128 + SIGINT
GO_ON = "then run the same command again, which goes on where it stopped"
REMEDIES = {
    errno.ENOENT: "no such place, and it cannot be made: name another one, for results with --results",
    errno.ENOSPC: f"the disk is full: free some space, {GO_ON}",
    errno.EDQUOT: f"the quota is used up: free some space, {GO_ON}",
    errno.EFBIG: f"files may not grow that large here: raise the limit (ulimit -f), {GO_ON}",
    errno.ENOTDIR: "a file stands where a folder is needed: move it, or name another place with --results",
    errno.EEXIST: "a file stands where a folder is needed: move it, or name another place with --results",
    errno.EISDIR: "a folder stands where a file is needed: move it, or name another place with --results",
} | dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS),
    "get the right to read and write there, or name another place with --results",
)


def harmless(text: str) -> str:
    """Names out of files may hold control characters, or turn the direction of text, which a terminal would obey: they
    are shown as escapes."""
    return "".join(repr(c)[1:-1] if _acts(c) and c not in "\n\t" else c for c in text)


def _acts(character: str) -> bool:
    return unicodedata.category(character) == "Cc" or unicodedata.bidirectional(character) in TURNS


TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # of Unicode's bidirectional algorithm


def describe_os_error(error: OSError) -> str:
    """File, what the system said, and what to do about it."""
    where = f"{error.filename}: " if error.filename is not None else ""
    said = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    remedy = REMEDIES.get(error.errno, "mend this and run the same command again")
    return f"{where}{said}\n  -> {remedy}"


def first_difference(error: Exception) -> str:
    """Of torch's list of all tensors that do not fit, the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    chosen = lines[1] if len(lines) > 1 and lines[0].startswith("Error(s) in loading") else (lines or [""])[0]
    return textwrap.shorten(chosen.removesuffix("."), 200, placeholder=" ...")


def first_line(error: Exception) -> str:
    """Of another library's page, at most 200 letters of the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return textwrap.shorten((lines or [type(error).__name__])[0], 200, placeholder=" ...")
