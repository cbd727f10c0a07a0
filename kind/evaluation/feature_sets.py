"""What an extractor says of a set of images: one pass over them, in bounded memory, kept for the next time.

Features of a block of images lie in a cache under a key of its pixels, the extractor's weights and all else that can
move them.  So a killed pass goes on with the block it was at, and a changed metric reads no image again.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kind.artifacts import load_arrays, save_arrays
from kind.errors import UserError, describe_os_error
from kind.evaluation.features import Extractor, Features
from kind.evaluation.frechet import Statistics, StreamingStatistics
from kind.evaluation.image_sets import ImageSet
from kind.parts import BLOCK_IMAGES
from kind.progress import Progress

CACHE_FORMAT = 1  # raise it when an extractor's code changes what it gives for the same weights
BLOCK_BYTES = 2**27  # at most so much is extracted between two looks at the cache, and at most BLOCK_IMAGES


class Origin(NamedTuple):
    """How features were made: two sets can be compared only where this is the same."""

    extractor: str
    identity: str
    batch_size: int


@dataclass(frozen=True)
class FeatureSet:
    """N images as one extractor sees them, or the statistics alone that a file of somebody else holds.

    count: N, None where the file does not say.  pooled float32 [M, D], logits float32 [M, K], labels int64 [M]: of all
    images (M = N) or of a draw of them; None where there are none.  origin: of these, None where there are none or the
    file does not say.  foreign: the statistics are those of a file that does not say which network made them.
    images uint8 [n, H, W, C] and image_labels [n]: kept ones, for a reference file.
    """

    name: str
    count: int | None
    pooled_statistics: Statistics
    spatial_statistics: Statistics | None = None
    pooled: np.ndarray | None = None
    logits: np.ndarray | None = None
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    origin: Origin | None = None
    foreign: bool = False
    images: np.ndarray | None = None
    image_labels: np.ndarray | None = None

    @property
    def num_vectors(self) -> int:
        """M."""
        return 0 if self.pooled is None else len(self.pooled)

    def rows(self, label: int) -> np.ndarray:
        """Pooled features of one class."""
        return self.pooled[self.labels == label]


def measure_images(
    images: ImageSet,
    extractor: Extractor,
    batch_size: int,
    *,
    cache: Path | None = None,
    num_vectors: int | None = None,
    num_images: int = 0,
    quiet: bool = True,
) -> FeatureSet:
    """Features of all images and their statistics; spatial features are not kept.

    cache: a folder, None for none.  num_vectors: at most so many pooled features are kept, None for all; num_images: at
    most so many images.  Blocks hold a multiple of `batch_size` images wherever files end, so the numbers depend on the
    images and their order alone.
    Raises UserError for fewer than two images and as `Extractor.extract` does.
    """
    if images.count < 2:
        raise UserError(f"{images.name}: {images.count} images; a distance needs at least 2")
    kept, shown = drawn(images.count, num_vectors), drawn(images.count, num_images)
    size = _block_size(images.shape, batch_size)
    pooled_statistics, spatial_statistics = StreamingStatistics(), StreamingStatistics()
    arrays: dict[str, np.ndarray] = {"images": np.empty((len(shown), *images.shape), np.uint8)}
    progress = None if quiet else Progress(f"features of {images.name}", images.count)

    def see(done: int) -> None:
        """So many images are done."""
        if progress is not None:
            progress.update(done - progress.done)

    start = 0
    for key, block in _ahead(_with_keys(images.blocks(size), extractor, batch_size)):
        features = _from_cache(cache, key, len(block))
        if features is None:
            features = extractor.extract(block, batch_size, lambda done, _, before=start: see(before + done))
            _to_cache(cache, key, features)
        pooled_statistics.update(features.pooled)
        if features.spatial is not None:
            spatial_statistics.update(features.spatial)
        for name in ("pooled", "logits"):
            found = getattr(features, name)
            if found is not None:
                if name not in arrays:
                    arrays[name] = np.empty((len(kept), found.shape[1]), np.float32)
                _put(arrays[name], found, kept, start)
        _put(arrays["images"], block, shown, start)
        start += len(block)
        see(start)
    if progress is not None:
        progress.close()
    assert start == images.count, f"{images.name}: {start} images read, {images.count} promised"
    return FeatureSet(
        images.name,
        images.count,
        pooled_statistics.result(),
        spatial_statistics.result() if spatial_statistics.count else None,
        arrays["pooled"],
        arrays.get("logits"),
        None if images.labels is None else images.labels[kept],
        images.class_names,
        Origin(extractor.name, extractor.identity, batch_size),
        images=arrays["images"],
        image_labels=None if images.labels is None else images.labels[shown],
    )


class Block(NamedTuple):
    """Number `index` of the blocks that `measure_images` reads a set in."""

    images: ImageSet
    index: int


def blocks_of(images: ImageSet, batch_size: int, *, first: int | None = None) -> list[Block]:
    """All that `measure_images` looks at; first: of the first so many images alone, what is not the same for all."""
    size = _block_size(images.shape, batch_size)
    if first is not None:
        return [Block(images.first(first), first // size)] if first < images.count and first % size else []
    return [Block(images, index) for index in range(-(-images.count // size))]


def keep_features(blocks: Sequence[Block], extractor: Extractor, batch_size: int, cache: Path, label: str) -> int:
    """Extract features of these blocks into the cache, for `measure_images`; returns how many images that were."""
    progress, done = Progress(label, len(blocks)), 0
    for _, group in groupby(blocks, key=lambda block: id(block.images)):
        found = list(group)
        images, chosen = found[0].images, {block.index for block in found}
        size = _block_size(images.shape, batch_size)
        wanted = (block for index, block in enumerate(islice(images.blocks(size), max(chosen) + 1)) if index in chosen)
        for key, block in _ahead(_with_keys(wanted, extractor, batch_size)):
            if _from_cache(cache, key, len(block)) is None:
                _save(cache, key, extractor.extract(block, batch_size))
            progress.update()
            done += len(block)
    progress.close()
    return done


def drawn(count: int, kept: int | None) -> np.ndarray:
    """Ascending indices of `kept` of `count` things, all for None; the same ones each time, whatever order they are in.

    Evenly spaced ones would be of one class where classes go round.
    """
    if kept is None or kept >= count:
        return np.arange(count)
    draws = random.Random("kept")  # noqa: S311  no secret
    keys = np.fromiter((draws.random() for _ in range(count)), np.float64, count)
    return np.sort(np.argsort(keys, kind="stable")[:kept])


def _put(whole: np.ndarray, block: np.ndarray, rows: np.ndarray, start: int) -> None:
    """Of a block whose first row is number `start`, those that are kept go to their places."""
    first, last = np.searchsorted(rows, (start, start + len(block)))
    whole[first:last] = block[rows[first:last] - start]


def _block_size(shape: Sequence[int], batch_size: int) -> int:
    images = max(1, min(BLOCK_IMAGES, BLOCK_BYTES // int(np.prod(shape))))
    return batch_size * max(1, images // batch_size)


# --- the cache --------------------------------------------------------------------------------------------------


def _with_keys(blocks: Iterable[np.ndarray], extractor: Extractor, batch_size: int) -> Iterator[tuple[str, np.ndarray]]:
    import torch

    about = {
        "format": CACHE_FORMAT,
        "extractor": extractor.identity,
        "name": extractor.name,
        "batch_size": batch_size,
        "versions": [torch.__version__, *map(metadata.version, ("torch-fidelity", "transformers"))],
        "device": torch.device(extractor.device).type,
    }
    for block in blocks:
        told = json.dumps(about | {"shape": list(block.shape)}, sort_keys=True)
        key = hashlib.sha256(told.encode() + b"\0")
        key.update(np.ascontiguousarray(block))
        yield key.hexdigest(), block


def _cache_file(cache: Path, key: str) -> Path:
    return cache / key[:2] / f"{key}.npz"


def _from_cache(cache: Path | None, key: str, count: int) -> Features | None:
    """None where there is nothing, or nothing whole: then it is computed again."""
    if cache is None or not _cache_file(cache, key).is_file():
        return None
    try:
        arrays = load_arrays(_cache_file(cache, key), required=("pooled",))
    except UserError:
        return None
    found = Features(*(arrays.get(name) for name in Features._fields))
    return found if all(array is None or len(array) == count for array in found) else None


def _to_cache(cache: Path | None, key: str, features: Features) -> None:
    if cache is None:
        return
    try:
        _save(cache, key, features)
    except OSError as error:  # they are needed now, and kept for another time
        print(f"warning: features are not kept: {describe_os_error(error)}", file=sys.stderr)


def _save(cache: Path, key: str, features: Features) -> None:
    found = {name: array for name, array in features._asdict().items() if array is not None}
    save_arrays(_cache_file(cache, key), **found)


def _ahead(items: Iterator[tuple[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    """The same items; each is read while the one before it is worked on."""
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = reader.submit(next, items, None)
            yield item
