"""From the images of a prepared folder to their latents: by the GPU, or by several cores, in chunks of rows.

A chunk's bytes depend on its images and the VAE alone: each batch holds the same rows and is computed by one thread,
however many there are.  A log beside the array names the chunks that are on disk, with their digests: a killed run
goes on there.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kind import checksums
from kind.artifacts import digest, naming, provenance, write_json
from kind.data.decoding import begin_array, check_space
from kind.data.latents import FORMAT, LATENTS, MANIFEST
from kind.data.prepared import IMAGES, check_sum, open_images, read_manifest
from kind.errors import UserError
from kind.kept import as_line, of_line
from kind.progress import Progress
from kind.vae import Vae

ROWS = 256  # of a chunk, at least: what a kill may cost each thread
READERS = 2  # threads for a GPU: one waits for the disk while it computes for the other


def encode(folder: Path, vae: Vae, settings: dict[str, Any], state: Path, workers: int, label: str) -> dict[str, Any]:
    """Write latents.npy and its manifest; returns the manifest.

    settings: `flips` and what the params say of latents, for the manifest.  state: a folder of what is done, for these
    images and this VAE alone.
    """
    manifest = read_manifest(folder)
    check_sum(folder / IMAGES, manifest)
    images = open_images(folder / IMAGES)
    shape = _shape(images, vae, settings["flips"])
    where = _device_name(vae.device)
    place = state / digest([where, torch.__version__])  # another device's last bits differ
    log = place / "done"
    if not (place / LATENTS).is_file():  # a kill after it was moved: what the log says of it is no longer true
        log.unlink(missing_ok=True)
    work = _Work(images, vae, settings["flips"], place / LATENTS, begin_array(place / LATENTS, shape, "<f2"))
    _write_chunks(work, log, READERS if vae.device.type == "cuda" else workers, label)
    (folder / MANIFEST).unlink(missing_ok=True)  # while the array changes there is no manifest
    content = {
        "format": FORMAT,
        "axes": ["row", "image, mirrored image"[: None if settings["flips"] else 5], "mean, deviation", "C", "h", "w"],
        "shape": list(shape),
        "settings": settings,
        "vae": {"sha256": vae.sha256, "scaling_factor": vae.network.config.scaling_factor},
        "images": manifest["sha256"][IMAGES],
        **{key: manifest[key] for key in ("classes", "counts")},
        "device": where,
        "sha256": {LATENTS: checksums.move(place / LATENTS, folder / LATENTS)},
        "provenance": provenance(),
    }
    write_json(folder / MANIFEST, content)
    return content


def _shape(images: np.ndarray, vae: Vae, flips: bool) -> tuple[int, ...]:
    """Of the latents; raises UserError for images that the VAE does not take."""
    (height, width, channels), factor = images.shape[1:], vae.settings.downsampling
    wanted = vae.network.config.in_channels
    if channels != wanted or height % factor or width % factor:
        raise UserError(
            f"images of {height} x {width} pixels and {channels} channels: the VAE takes {wanted} channels and sides "
            f"that are multiples of {factor}",
            hint="mend size and channels in the options of the data set",
        )
    return len(images), 2 if flips else 1, 2, vae.settings.channels, height // factor, width // factor


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


class _Work:
    """path: the npy file of latents, whose rows begin at byte `start`."""

    def __init__(self, images: np.ndarray, vae: Vae, flips: bool, path: Path, start: int):
        self.images, self.vae, self.flips, self.path, self.start = images, vae, flips, path, start
        batch = vae.settings.batch_size
        self.rows_of_chunk = math.ceil(ROWS / batch) * batch

    def chunks(self) -> dict[int, range]:
        """Rows of each chunk by its number."""
        size, count = self.rows_of_chunk, len(self.images)
        return {first // size: range(first, min(first + size, count)) for first in range(0, count, size)}

    def write(self, rows: range) -> tuple[int, str]:
        """Encode these rows; when it returns how many they are, and their digest, they are on disk."""
        batch = self.vae.settings.batch_size
        found = np.concatenate([self._encoded(rows[first : first + batch]) for first in range(0, len(rows), batch)])
        with naming(self.path), open(self.path, "r+b") as handle:
            handle.seek(self.start + rows.start * found[0].nbytes)
            handle.write(found.data)
            handle.flush()
            os.fsync(handle.fileno())
        return len(rows), _digest(found.data)

    def holds(self, rows: range, row_bytes: int, digest: str) -> bool:
        """Whether these rows are on disk as `write` left them."""
        with open(self.path, "rb") as handle:
            handle.seek(self.start + rows.start * row_bytes)
            return _digest(handle.read(len(rows) * row_bytes)) == digest

    def _encoded(self, rows: range) -> np.ndarray:
        """fp16 [B, F, 2, C, h, w]."""
        pixels = torch.from_numpy(np.array(self.images[rows.start : rows.stop])).permute(0, 3, 1, 2).contiguous()
        both = [pixels, pixels.flip(-1)] if self.flips else [pixels]
        found = torch.stack([self.vae.posterior(each) for each in both], dim=1).half()
        if not found.isfinite().all():
            raise UserError(
                f"latents of the rows {rows.start} to {rows.stop - 1} are not finite in 16 bits",
                hint="see whether the VAE's weights are whole, or write `precision: float32` in the data set's latents",
            )
        return found.numpy()


def _write_chunks(work: _Work, log: Path, workers: int, label: str) -> None:
    chunks = work.chunks()
    row_bytes = (work.path.stat().st_size - work.start) // len(work.images)
    done = {
        number
        for number, digest in _read_log(log).items()
        if number in chunks and work.holds(chunks[number], row_bytes, digest)
    }
    waiting = {number: rows for number, rows in chunks.items() if number not in done}
    kept = len(work.images) - sum(map(len, waiting.values()))
    check_space(work.path, work.path.stat().st_size, "lower images_per_class")
    if kept:
        print(f"{label}: going on after {kept} of {len(work.images)} images", flush=True)
    progress = Progress(label, len(work.images), kept)
    with naming(log), open(log, "a") as handle:
        handle.write("\n")  # a line that a kill cut off ends here
        for number, (count, digest) in _run(work, waiting, workers):
            handle.write(as_line({"chunk": number, "digest": digest}))
            handle.flush()
            progress.update(count)
    progress.close()


def _run(work: _Work, waiting: dict[int, range], workers: int) -> Iterator[tuple[int, tuple[int, str]]]:
    pool = ThreadPoolExecutor(workers, "encode", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from zip(waiting, pool.map(work.write, waiting.values()), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _read_log(log: Path) -> dict[int, str]:
    """Digests of the chunks that were done; lines that are not whole say nothing."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return {entry["chunk"]: entry["digest"] for line in lines if (entry := of_line(line)) is not None}


def _digest(content: bytes | memoryview) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
