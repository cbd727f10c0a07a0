"""Image files where they lie: below a folder, in tar and zip archives, in tars of tars.  Nothing is unpacked.

An archive stands for a folder of its name without the suffix, so that a tree, a tar of it and a folder of one tar a
class hold the same keys.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from kind.errors import UserError
from kind.images import SUFFIXES, BadImage

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
LOCAL_HEADER = 30  # bytes of a zip member's header before its name and extra field, whose lengths are its last four
STORED, DEFLATED = 0, 8


class Item(NamedTuple):
    """An image file.  key: its path below the source, by which people know it.  file: what is opened to read it.

    offset: where its bytes (of a zip member: its header) begin; None: the file is the image.  length: as stored.
    crc: of a zip member.
    """

    key: str
    file: str
    offset: int | None = None
    length: int = 0
    deflated: bool = False
    crc: int | None = None


class Found(NamedTuple):
    """items: by key, ascending.  num_others: of files that are no images by their names."""

    items: list[Item]
    num_others: int


def find_images(path: str | Path) -> Found:
    """All images below a folder or in an archive.  Hidden files and folders are left aside.

    Raises UserError for archives that cannot be read in place, and for two files of one key.
    """
    path = str(path)
    found = list(_folder(path, "", frozenset()) if Path(path).is_dir() else _archive(path, ""))
    items = sorted(item for item in found if item.key)
    twice = [two.key for one, two in zip(items, items[1:], strict=False) if one.key == two.key]
    if twice:
        raise UserError(
            f"{path}: {twice[0]!r} is there twice{f' (and {len(twice) - 1} more)' if len(twice) > 1 else ''}",
            hint="an archive stands for a folder of its name: remove the archive or the folder",
        )
    return Found(items, len(found) - len(items))


def read_bytes(item: Item) -> bytes:
    """The image file's content.  Raises BadImage where it cannot be read, or is damaged in its archive."""
    try:
        with open(item.file, "rb") as handle:
            if item.offset is None:
                return handle.read()
            handle.seek(item.offset)
            if item.crc is not None:
                header = handle.read(LOCAL_HEADER)
                handle.seek(
                    int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:], "little"), os.SEEK_CUR
                )
            content = handle.read(item.length)
        content = zlib.decompress(content, -zlib.MAX_WBITS) if item.deflated else content
    except OSError as error:
        raise BadImage(item.key, f"cannot be read ({error.strerror})")
    except zlib.error as error:
        raise BadImage(item.key, f"is damaged in {item.file} ({error})")
    if item.crc is not None and zlib.crc32(content) != item.crc:
        raise BadImage(item.key, f"is damaged in {item.file} (its checksum differs)")
    return content


def stamp_of(items: Sequence[Item]) -> str:
    """Digest of where these images are and of the sizes and times of the files that hold them."""
    combined = hashlib.sha256()
    for item in items:
        combined.update(repr((item, _size_and_time(item.file))).encode())
    return combined.hexdigest()


def _size_and_time(file: str) -> tuple[int, int] | None:
    try:
        status = Path(file).stat()
    except OSError:
        return None  # reading it says why
    return status.st_size, status.st_mtime_ns


# --- places ---------------------------------------------------------------------------------------------------
# These yield an item for each image, and one without a key for each other file.

OTHER = Item("", "")


def _folder(path: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[Item]:
    status = Path(path).stat()
    here = status.st_dev, status.st_ino
    if here in above:  # a link to a folder that it lies in
        return
    with os.scandir(path) as entries:
        visible = [(entry.name, entry.path, entry.is_dir()) for entry in entries if not _hidden(entry.name)]
    for name, whole, is_folder in visible:
        key = prefix + _key(name)
        if is_folder:
            yield from _folder(whole, f"{key}/", above | {here})
        elif key.lower().endswith(SUFFIXES):
            yield Item(key, whole)
        else:
            yield from _archive(whole, f"{_stem(key)}/")


def _archive(path: str, prefix: str) -> Iterator[Item]:
    if path.lower().endswith(".tar"):
        yield from _tar(path, prefix)
    elif path.lower().endswith(".zip"):
        yield from _zip(path, prefix)
    else:
        yield _other(path)


def _other(path: str) -> Item:
    """Raises UserError for a compressed tar: left out, its images would be missed without a word."""
    if path.lower().endswith(COMPRESSED):
        raise UserError(
            f"{path}: a compressed tar cannot be read in place",
            hint="uncompress it (gunzip leaves a .tar), or make a zip of it",
        )
    return OTHER


def _tar(path: str, prefix: str) -> Iterator[Item]:
    import tarfile

    size = Path(path).stat().st_size
    try:
        with open(path, "rb") as handle:
            yield from _tar_members(handle, path, prefix, 0, size)
    except tarfile.TarError as error:
        raise UserError(f"{path}: not a whole tar archive ({error})", hint="get it again")


def _tar_members(handle: IO[bytes], path: str, prefix: str, start: int, end: int) -> Iterator[Item]:
    """Of the tar that lies in an open file from `start` to `end`."""
    import tarfile

    handle.seek(start)
    archive = tarfile.open(fileobj=handle, mode="r:")  # noqa: SIM115  closing it would close nothing
    nested = []
    while (member := archive.next()) is not None and member.offset < end:
        archive.members = []  # else it keeps a million of them
        parts = _key(member.name).split("/")
        if not (member.isreg() or member.islnk()) or any(_hidden(part) for part in parts if part != "."):
            continue
        if member.islnk() and member.name.lower().endswith((*SUFFIXES, ".tar")):
            raise UserError(
                f"{path}: {member.name} is a hard link to {member.linkname}, which is not read",
                hint="pack it again with tar --hard-dereference, or unpack it",
            )
        if member.offset_data + member.size > end:
            raise tarfile.ReadError(f"cut off in {member.name}")
        key, lower = prefix + "/".join(part for part in parts if part not in ("", ".")), member.name.lower()
        if lower.endswith(".tar"):
            nested.append((f"{_stem(key)}/", member.offset_data, member.offset_data + member.size))
        elif lower.endswith(SUFFIXES):
            yield Item(key, path, member.offset_data, member.size)
        else:
            yield _other(f"{path}: {member.name}")
    for inner, first, last in nested:  # after the headers around them: the handle is one
        yield from _tar_members(handle, path, inner, first, last)


def _zip(path: str, prefix: str) -> Iterator[Item]:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: not a whole zip archive ({error})", hint="get it again")
    for member in members:
        parts = [part for part in _key(member.filename).split("/") if part not in ("", ".")]
        if member.is_dir() or any(_hidden(part) for part in parts):
            continue
        if not member.filename.lower().endswith(SUFFIXES):
            yield _other(f"{path}: {member.filename}")
            continue
        if member.flag_bits & 1 or member.compress_type not in (STORED, DEFLATED):
            how = "is encrypted" if member.flag_bits & 1 else f"is compressed by method {member.compress_type}"
            raise UserError(f"{path}: {member.filename} {how}, which is not read", hint="unpack it, or pack it again")
        deflated = member.compress_type == DEFLATED
        yield Item(prefix + "/".join(parts), path, member.header_offset, member.compress_size, deflated, member.CRC)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _stem(key: str) -> str:
    return key[:-4] if key.lower().endswith((".tar", ".zip")) else key


def _key(name: str) -> str:
    """A name that can be written: bytes that are no UTF-8 as backslash sequences."""
    return os.fsencode(name).decode(errors="backslashreplace")
