"""Where images come from: one module a source, found by name.  Importing this imports no numpy.

A module `kind/data/sources/NAME.py` that defines `SOURCE` is a source; an entry in the `data` section of a params file
uses it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np

    from kind.data.files import Item


class SourceOptions(BaseModel):
    """Base of the options of a source: unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class RawData:
    """All images of a source.  images: uint8 [N, H, W, C]; labels: int64 [N], positions in class_names.

    notes: JSON-like facts for the manifest: versions, checksums of files read.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """Image files of a source, to be decoded when they are stored.

    labels: position in class_names of each item.  splits: of each item, a position in (train, validation, test), where
    the source says so.  size: side of the stored squares; channels, background: see `kind.images.open_image`.
    skip_bad: leave out and count what cannot be decoded, instead of refusing all.
    """

    items: Sequence[Item]
    labels: Sequence[int]
    class_names: tuple[str, ...]
    size: int
    channels: int
    background: int
    skip_bad: bool
    splits: Sequence[int] | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """One origin of labelled images.  The functions take an instance of `options`; all but the first two are quick and
    light, and those are called only where nothing is missing.

    load: reads or draws everything; the same options give the same bytes.
    listing: in its place, for sources of image files: names them without decoding any.
    class_names: the classes in order, or None where only the data can tell.
    class_counts: images of each class, or None where only the data can tell.
    class_sets: sets of classes by name (`seen`, `novel`, `all`, ...), which params may name in the place of lists.
    drawn_from: what its pictures are some of: two data sets for which this is the same, whatever they take of it and
    however, may hold the same pictures under the same class names.
    channels: of the images, or None where only the data can tell.
    missing: what this machine lacks for them, a line each: the thing and how to get it.
    """

    name: str
    options: type[SourceOptions]
    load: Callable[[Any], RawData] | None = None
    listing: Callable[[Any], Listing] | None = None
    class_names: Callable[[Any], tuple[str, ...] | None] = lambda options: None
    class_counts: Callable[[Any], dict[str, int] | None] = lambda options: None
    class_sets: Callable[[Any], Mapping[str, Sequence[str]]] = lambda options: {}
    drawn_from: Callable[[Any], Any] = lambda options: options
    channels: Callable[[Any], int | None] = lambda options: None
    missing: Callable[[Any], list[str]] = lambda options: []


def _discover() -> dict[str, Source]:
    sources = {}
    for found in pkgutil.iter_modules(__path__):
        source = getattr(importlib.import_module(f"{__name__}.{found.name}"), "SOURCE", None)
        if source is not None:
            assert source.name not in sources, f"two sources are named {source.name!r}; the second is {found.name}.py"
            sources[source.name] = source
    return sources


SOURCES = _discover()
