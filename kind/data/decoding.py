"""Image files into one big array on disk: by all workers, in blocks of rows whose places are known beforehand.

A row's bytes depend on its file alone and its place on the order of the listing, so that the array does not depend on
how many workers there are, or on how often the work was broken off.  A log beside the array says which blocks are done;
it is believed where its stamp (files, sizes, times, settings) is what the block would have now, and the rows on disk
have the digests that it says.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from kind.artifacts import naming, write_text
from kind.data.files import Item, read_bytes, stamp_of
from kind.errors import UserError
from kind.images import BadImage, fit, open_image
from kind.kept import as_line, of_line
from kind.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from kind.data.sources import Listing

BLOCK = 64  # rows: what a kill may cost each worker, less than a second


class Block(NamedTuple):
    """Consecutive rows of the array, and how to make them.  start: of the first row, in bytes."""

    number: int
    path: str
    start: int
    items: list[Item]
    size: int
    channels: int
    background: int

    def stamp(self) -> str:
        from PIL import __version__

        settings = (__version__, self.start, self.size, self.channels, self.background)
        return hashlib.sha256(f"{settings}{stamp_of(self.items)}".encode()).hexdigest()

    def is_done(self, found: dict[str, Any]) -> bool:
        """Whether the log speaks of these files, and the rows on disk are what it says; none of them is bad."""
        if found["stamp"] != self.stamp():
            return False
        with open(self.path, "rb") as handle:
            handle.seek(self.start)
            row_bytes = self.size * self.size * self.channels
            return [_digest(handle.read(row_bytes)) for _ in self.items] == found["digests"]


@dataclass
class Decoded:
    """digests: of each row's pixels, None where there is none.  bad: reasons, by row.  upscaled: pictures smaller than
    asked for."""

    digests: list[str | None] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)
    upscaled: int = 0


def decode_files(listing: Listing, path: Path, log: Path, workers: int, label: str) -> Decoded:
    """Write the listing's pictures as a npy file, uint8 [N, size, size, C]; rows that cannot be decoded are zero.

    Of what a killed call left at `path` and `log`, whole blocks are kept, but for those with bad files.
    """
    known = _read_log(log) if path.is_file() else {}
    start = begin_array(path, (len(listing.items), listing.size, listing.size, listing.channels))
    row_bytes = listing.size * listing.size * listing.channels
    blocks = [
        Block(
            first // BLOCK, str(path), start + first * row_bytes, list(listing.items[first : first + BLOCK]),
            listing.size, listing.channels, listing.background,
        )
        for first in range(0, len(listing.items), BLOCK)
    ]  # fmt: skip
    done = {number: found for number, found in known.items() if number < len(blocks) and not found["bad"]}
    done = {number: found for number, found in done.items() if blocks[number].is_done(found)}
    open_blocks = [block for block in blocks if block.number not in done]
    check_space(path, sum(len(block.items) for block in open_blocks) * row_bytes)
    kept = len(listing.items) - sum(len(block.items) for block in open_blocks)
    if done:
        print(f"{label}: going on after {kept} of {len(listing.items)} images", flush=True)
    progress, num_bad = Progress(label, len(listing.items), kept), 0
    write_text(log, "".join(map(as_line, done.values())))  # the rest is no longer true
    with naming(log), open(log, "a") as handle:
        for found in _run(open_blocks, workers):
            handle.write(as_line(found))
            handle.flush()
            done[found["block"]] = found
            num_bad += len(found["bad"])
            progress.update(len(found["digests"]), f"{num_bad} bad" if num_bad else "")
    progress.close()
    return _joined(done, len(blocks))


def begin_array(path: Path, shape: Sequence[int], descr: str = "|u1") -> int:
    """Make a npy file, or keep what is there, with the right header and length; returns where the rows begin."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as handle:
        write_header(handle, shape, descr)
        start = handle.tell()
        handle.truncate(start + math.prod(shape) * np.dtype(descr).itemsize)
    return start


def write_header(handle: BinaryIO, shape: Sequence[int], descr: str = "|u1") -> None:
    """Of a npy file; its length is the same for all sizes that occur."""
    import numpy as np

    np.lib.format.write_array_header_1_0(handle, {"descr": descr, "fortran_order": False, "shape": tuple(shape)})


def check_space(path: Path, needed: int, remedy: str = "lower size or images_per_class") -> None:
    """Raises UserError at the start for a disk that would be full hours later."""
    free = shutil.disk_usage(path.parent).free + path.stat().st_blocks * 512
    if needed > free:
        raise UserError(
            f"{path}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free",
            hint=f"free some space, name another place with --results, or {remedy}",
        )


def _read_log(log: Path) -> dict[int, dict[str, Any]]:
    """What is known of each block; lines that are not whole say nothing."""
    found = {}
    for line in log.read_text(errors="replace").splitlines() if log.is_file() else ():
        if (entry := of_line(line)) is not None:
            found[entry["block"]] = entry
    return found


def _joined(done: dict[int, dict[str, Any]], num_blocks: int) -> Decoded:
    decoded = Decoded()
    for number in range(num_blocks):
        found = done[number]
        decoded.bad |= {len(decoded.digests) + int(row): reason for row, reason in found["bad"].items()}
        decoded.digests += found["digests"]
        decoded.upscaled += found["upscaled"]
    return decoded


# --- workers --------------------------------------------------------------------------------------------------


def _run(blocks: list[Block], workers: int) -> Iterator[dict[str, Any]]:
    """What `decode_block` returns for each, in the order in which they end."""
    if workers == 1 or len(blocks) < 2:
        yield from map(decode_block, blocks)
        return
    with _pool(min(workers, len(blocks))) as pool:
        waiting = iter(blocks)
        running = {pool.submit(decode_block, block) for block in islice(waiting, 2 * workers)}
        while running:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(decode_block, block) for block in islice(waiting, len(ended))}
            yield from (future.result() for future in ended)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent, initargs=(os.getpid(),)
    )
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError(
            "a process that decodes images was ended from outside, most likely for want of memory",
            hint="run the same command again, which goes on where it stopped, with fewer --workers (compute.workers)",
        )
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent(parent: int) -> None:
    """A worker whose parent was killed would wait for work for ever; Ctrl-C is the parent's to answer."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


def decode_block(block: Block) -> dict[str, Any]:
    """Decode and write one block; what it returns is its line in the log, written when its rows are on disk."""
    import numpy as np

    stamp = block.stamp()  # before the files are read
    rows = np.zeros((len(block.items), block.size, block.size, block.channels), dtype=np.uint8)
    digests: list[str | None] = [None] * len(block.items)
    bad, upscaled = {}, 0
    for row, item in enumerate(block.items):
        try:
            rows[row], enlarged = decode(item, block)
        except BadImage as error:
            bad[str(row)] = error.reason
            continue
        upscaled += enlarged
        digests[row] = _digest(rows[row].tobytes())
    with naming(block.path), open(block.path, "r+b") as handle:
        handle.seek(block.start)
        handle.write(rows.data)
        handle.flush()
        os.fsync(handle.fileno())
    return {"block": block.number, "stamp": stamp, "digests": digests, "bad": bad, "upscaled": upscaled}


def decode(item: Item, how: Block | Listing) -> tuple[np.ndarray, bool]:
    """A file's pixels as they are stored, and whether it is smaller than that.  Raises BadImage."""
    image = open_image(read_bytes(item), channels=how.channels, name=item.key, background=how.background)
    return fit(image, how.size, item.key), min(image.size) < how.size


def _digest(row: bytes) -> str:
    return hashlib.blake2b(row, digest_size=16).hexdigest()
