"""Files in and out: atomic writes, checksums, tensors, arrays and provenance.

Every file the project makes is written under a temporary name in its own folder and renamed, so that a reader
sees the old file or the new one and never half of one.  Nothing here unpickles anything.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kind import checksums
from kind.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch

PACKAGE = Path(__file__).resolve().parent
RECORDED_PACKAGES = ("torch", "diffusers", "peft", "numpy", "scikit-learn", "torch-fidelity", "safetensors")


# --- atomic writing -------------------------------------------------------------------------------------------


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A binary file that takes its name only when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        failed = error.__context__ if isinstance(error, RuntimeError) else error  # torch.save hides a full disk
        if isinstance(failed, OSError) and failed.errno is not None:
            if failed.filename in (None, str(temporary), temporary):
                failed.filename = str(path)  # a full disk does not say which file it was
            raise failed
        raise


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """The file's name in the error of a write to an open file, which has none by itself."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    with atomic_file(path) as handle:
        handle.write(content)


def write_text(path: str | os.PathLike, content: str) -> None:
    write_bytes(path, content.encode())


# --- JSON and CSV ---------------------------------------------------------------------------------------------


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Indented JSON.  Refuses NaN and infinity, which are no JSON: a metric that has no value is `null`."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_sealed_json(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """A JSON object with a digest of itself, for what no record of another file holds a checksum of."""
    plain = json.loads(json.dumps(content, allow_nan=False))  # as it will be read
    write_json(path, {**content, "sealed": True, "check": digest(plain)})


def read_json(path: str | os.PathLike) -> Any:
    """The content without its seal, where it has one; raises UserError for what is not as it was written."""
    try:
        content = json.loads(_existing(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or a number of a million digits
        raise UserError(f"{path}: not valid JSON ({error})", hint=REMAKE)
    if not isinstance(content, dict) or not content.keys() & {"sealed", "check"}:
        return content
    sealed, check = content.pop("sealed", None), content.pop("check", None)  # two keys: one may be what was damaged
    if sealed is not True or check != digest(content):
        raise UserError(f"{path}: not as it was written: its content has another digest than it says", hint=REMAKE)
    return content


def write_csv(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]], columns: Iterable[str] | None = None) -> None:
    """One row a mapping; columns in order of first appearance unless given."""
    names = list(columns) if columns is not None else list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


# --- tensors (safetensors) and arrays (npz) -------------------------------------------------------------------


def save_tensors(path: str | os.PathLike, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> None:
    """A safetensors file whose metadata holds `header` as JSON under the key `kind`."""
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, metadata={"kind": json.dumps(header, sort_keys=True)}))


def load_tensors(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and header of a file written by `save_tensors`."""
    from safetensors import SafetensorError, safe_open

    header = read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})", hint=REMAKE)


def read_header(path: str | os.PathLike) -> dict[str, Any]:
    """The header of a file written by `save_tensors`, without loading tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(_existing(path), framework="numpy") as file:
            stored = (file.metadata() or {}).get("kind")
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})", hint=REMAKE)
    try:
        header = json.loads(stored or "null")
    except json.JSONDecodeError:
        header = None
    if not isinstance(header, dict):
        raise UserError(
            f"{path}: a safetensors file, but none of this project's: it has no 'kind' header",
            hint="give a file that a stage of this project wrote",
        )
    return header


def save_arrays(path: str | os.PathLike, **arrays: np.ndarray) -> None:
    """An uncompressed npz whose bytes depend on nothing but the arrays (numpy writes a fixed zip date)."""
    import numpy as np

    with atomic_file(path) as handle:
        np.savez(handle, **arrays)


def load_arrays(
    path: str | os.PathLike, required: Sequence[str] = (), remake: str | None = None, without: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """All arrays of an npz file but those in `without`; those in `required` must be there.  remake: what to do about a
    damaged one, where no stage wrote it."""
    import numpy as np

    try:
        archive = np.load(_existing(path), allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with archive:
            require_all_members(archive.zip)
            arrays = {name: _whole_array(archive.zip, name) for name in archive.files if name not in without}
    except DAMAGED_NPZ as error:
        found = "it holds pickled objects, which are not read" if "pickle" in str(error) else error
        raise UserError(f"{path}: not a whole npz file of plain arrays ({found})", hint=remake or REMAKE)
    missing = [name for name in required if name not in arrays]
    if missing:
        raise UserError(
            f"{path}: has no array {', '.join(missing)}; it holds {', '.join(sorted(arrays)) or 'nothing'}",
            hint=f"expected the arrays {', '.join(required)}: delete the file, then run the stage that writes it again",
        )
    return arrays


def _whole_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    import numpy as np

    member = f"{name}.npy" if f"{name}.npy" in archive.namelist() else name
    with archive.open(member) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        require_end(stream)
    return array


def require_all_members(archive: zipfile.ZipFile) -> None:
    """Raises ValueError where there are bytes between the members: a damaged directory leaves some of them out."""
    ends = 0
    for member in sorted(archive.infolist(), key=lambda one: one.header_offset):
        if member.header_offset > ends + DESCRIPTOR:
            break
        archive.fp.seek(member.header_offset + 26)
        ends = archive.fp.tell() + 4 + sum(struct.unpack("<HH", archive.fp.read(4))) + member.compress_size
    if archive.start_dir > ends + DESCRIPTOR:
        raise ValueError("it holds more than its directory says")


def require_end(stream: BinaryIO) -> None:
    """Of a member of an npz file: only there the archive compares its checksum, so that a damaged header, which makes
    an array smaller, shows too."""
    if stream.read(1):
        raise ValueError("an array ends before its file does")


DESCRIPTOR = 24  # bytes that may follow a member, where it was written to a stream

# What numpy and zipfile raise for bytes that are no npz file: the second line for damage in a header.
DAMAGED_NPZ = (
    zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError,
    NotImplementedError, RuntimeError, SyntaxError, MemoryError, KeyError, TypeError, struct.error,
)  # fmt: skip
REMAKE = "cut off or changed after it was written: delete it, then run snakemake, or the stage that writes it, again"


def _existing(path: str | os.PathLike) -> Path:
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such file", hint="run the stage that writes it first (its rule is in workflow/rules)"
        )
    return path


# --- what made a result ---------------------------------------------------------------------------------------


def sha256(path: str | os.PathLike) -> str:
    """Hex digest of a file's content; that of a large file is remembered."""
    return checksums.sha256(_existing(path))


def digest(content: Any) -> str:
    """12 hex digits that name a JSON-like value, independent of key order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]


@cache
def provenance() -> dict[str, Any]:
    """Code state and versions, to be copied into every manifest."""
    return {
        "code": _package_digest(),
        "git": _git_revision(),
        "python": platform.python_version(),
        "versions": {name: version for name in RECORDED_PACKAGES if (version := _version(name))},
    }


def _package_digest() -> str:
    """Digest of the package's own source, so that an uncommitted edit shows."""
    combined = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        combined.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return combined.hexdigest()[:12]


def _git_revision() -> str | None:
    """`<commit>` or `<commit>+changes` for a work tree that differs from it; None outside a repository."""
    command = [
        "git",
        "-C",
        str(PACKAGE.parent),
        "describe",
        "--always",
        "--abbrev=12",
        "--exclude=*",
        "--dirty=+changes",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
