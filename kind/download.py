"""One file from the network or a folder to `FILE.part`, going on where an earlier attempt stopped."""

from __future__ import annotations

import fcntl
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from kind.artifacts import naming, read_json, write_json
from kind.errors import UserError
from kind.progress import Progress

ATTEMPTS = 5  # where the connection is cut
TIMEOUT = 60.0  # seconds without a byte
BLOCK = 1 << 20
MEGABYTE = 1_000_000


class NotHad(Exception):
    """The file cannot be had from there; the message says why, and the caller what else there is."""


class _CutOff(Exception):
    """The connection ended before the file did."""


def part_of(path: Path) -> Path:
    """What has come of a file that is not whole yet; `.part.json` beside it says of which."""
    return path.with_name(f"{path.name}.part")


def discard(part: Path) -> None:
    for path in (part, _about(part)):
        path.unlink(missing_ok=True)


@contextmanager
def held(part: Path) -> Iterator[None]:
    """One process a file: the second is refused at once.  An empty part is not left behind."""
    part.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{part}: another process is fetching this file", hint="wait for it to end, or end it")
        try:
            yield
        finally:
            if part.is_file() and part.stat().st_size == 0:
                discard(part)


def copy(source: Path, part: Path, label: str) -> None:
    """A file of this machine, from its beginning."""
    if not source.is_file():
        raise NotHad(f"{source} does not exist")
    with open(source, "rb") as reader:
        _pour(lambda: reader.read(BLOCK), part, 0, source.stat().st_size, label)


def download(url: str, part: Path, label: str) -> None:
    """The file behind an address, http or https, also after redirection.  Raises NotHad; what has come is kept."""
    reached = -1
    for _ in range(ATTEMPTS):
        try:
            return _attempt(url, part, label)
        except urllib.error.HTTPError as error:
            raise NotHad(f"{url}: the server says {error.code} {error.reason}")
        except urllib.error.URLError as error:
            raise NotHad(f"{url}: not reached ({error.reason})")
        except _CutOff as error:
            reached = part.stat().st_size
            print(f"{label}: {error}", flush=True)
    raise NotHad(f"{url}: cut off {ATTEMPTS} times; {reached} bytes are kept in {part}, and the next try goes on there")


def _attempt(url: str, part: Path, label: str) -> None:
    begun = _Begun.read(part, url)
    start = part.stat().st_size if begun else 0
    headers = {"Range": f"bytes={start}-", "If-Range": begun.validator} if begun and start else {}
    try:
        response = _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)  # noqa: S310  see _opener
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return  # it was whole already
        discard(part)
        raise _CutOff("the file there has changed; beginning anew")
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _CutOff(f"no answer ({error})")
    with response:
        total = response.headers.get("Content-Length")
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            if not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
                discard(part)
                raise _CutOff("the server sent another range than was asked for; beginning anew")
        else:  # the whole file: the first time, where the server knows no ranges, or where the file has changed
            start = 0
            part.write_bytes(b"")  # before the note below says that all in it is of this file
        _Begun.of(url, response.headers).write(part)
        _pour(lambda: _read(response), part, start, None if total is None else start + int(total), label)


def _opener() -> urllib.request.OpenerDirector:
    """http and https alone, wherever a server redirects to; proxies as the environment names them."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.UnknownHandler, urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler, urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _CutOff(f"cut off ({error})")


def _pour(read: Callable[[], bytes], part: Path, start: int, total: int | None, label: str) -> None:
    """Blocks of a file from byte `start` to its end.  Raises _CutOff where bytes of `total` are lacking."""
    done = start
    progress = None if total is None else Progress(f"{label} MB", total // MEGABYTE, start // MEGABYTE)
    try:
        with naming(part), open(part, "r+b") as writer:
            writer.truncate(start)
            writer.seek(start)
            while block := read():
                writer.write(block)
                done += len(block)
                if progress is not None and (new := done // MEGABYTE - progress.done) > 0:
                    progress.update(new)
            writer.flush()
            os.fsync(writer.fileno())
    finally:
        if progress is not None:
            progress.close()
    if total is not None and done < total:
        raise _CutOff(f"cut off after {done} of {total} bytes")


class _Begun(NamedTuple):
    """Of which file the part is: bytes are added only while the server says that it is still the same."""

    url: str
    validator: str

    @classmethod
    def of(cls, url: str, headers: http.client.HTTPMessage) -> _Begun:
        """A strong ETag, else the date: what If-Range takes.  Empty where the server says neither."""
        etag = headers.get("ETag") or ""
        return cls(url, etag if etag.startswith('"') else headers.get("Last-Modified") or "")

    @classmethod
    def read(cls, part: Path, url: str) -> _Begun | None:
        try:
            found = read_json(_about(part))
        except UserError:  # none, or damaged: the file is begun anew
            return None
        validator = found.get("validator") if isinstance(found, dict) and found.get("url") == url else None
        return cls(url, validator) if isinstance(validator, str) and validator else None

    def write(self, part: Path) -> None:
        write_json(_about(part), self._asdict())


def _about(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")
