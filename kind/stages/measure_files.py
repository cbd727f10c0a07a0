"""Sets of images given as files, measured without an experiment: what `evaluate` and `reference` share then."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kind.errors import UserError
from kind.records import check_recorded
from kind.weights import WEIGHTS

if TYPE_CHECKING:
    import numpy as np

    from kind.evaluation.feature_sets import FeatureSet, Origin
    from kind.evaluation.features import Extractor
    from kind.evaluation.image_sets import ImageSet

IMAGES = "an npz file (arr_0), a folder of npz shards, or a folder of image files (folders in it are classes)"
CACHE_VARIABLE = "KIND_CACHE"
BATCH_SIZE = 50


class Side(NamedTuple):
    """One of the two sets: its features, the images or the protocol that its file tells, the classes that the
    extractor's own classifier knows, and the labels of all images where only the first were taken."""

    features: FeatureSet
    images: ImageSet | None = None
    protocol: dict[str, Any] | None = None
    known_classes: tuple[str, ...] | None = None
    whole_labels: np.ndarray | None = None

    @property
    def shape(self) -> list[int] | None:
        """(H, W, C), where it is known."""
        return list(self.images.shape) if self.images else self.protocol.get("image_shape")

    def about(self, path: Path) -> dict[str, Any]:
        """What JSON says of it."""
        told = {"decoding": self.images.decoding} if self.images else {"protocol": self.protocol}
        if self.features.foreign:
            told["statistics"] = "as the file has them; it does not say which network made them"
        return {"path": str(path), "num_images": self.features.count, "image_shape": self.shape, **told}


def add_measuring_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("on files, without an experiment")
    group.add_argument(
        "--extractor",
        metavar="NAME",
        help=f"{', '.join(EXTRACTORS)}, or a feature network of ours as a safetensors file (default: inception)",
    )
    group.add_argument(
        "--weights", metavar="PATH", help="of inception or dinov2; else the variable, else what was fetched"
    )
    group.add_argument("--size", type=positive_number, metavar="N", help="centre crop and resize image files to N x N")
    group.add_argument(
        "--batch-size", type=positive_number, metavar="N", help=f"of the extractor (default: {BATCH_SIZE})"
    )
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    group.add_argument(
        "--cache",
        metavar="FOLDER",
        help=f"features are kept there; `none` keeps none (default: ${CACHE_VARIABLE}, else ~/.cache/kind)",
    )
    return group


EXTRACTORS = ("inception", "dinov2")


def measuring_options_given(arguments: argparse.Namespace) -> bool:
    names = ("extractor", "weights", "size", "batch_size", "device", "cache")
    return any(getattr(arguments, name) is not None for name in names)


def read_side(
    path: Path,
    arguments: argparse.Namespace,
    *,
    like: Origin | None = None,
    first: int | None = None,
    num_vectors: int | None = None,
    num_images: int = 0,
) -> Side:
    """A file of statistics as it is, or images seen by the extractor.

    like: how the set that it is compared with was made, whose extractor and batch size count unless others are given.
    first: only so many images.  num_vectors, num_images: at most so many are kept, see `measure_images`.
    Raises UserError, before any image is looked at, where the two could not be compared.
    """
    from kind.evaluation.compare import check_same_origin
    from kind.evaluation.feature_sets import Origin, measure_images
    from kind.evaluation.image_sets import open_images
    from kind.evaluation.reference import load_reference

    if holds_statistics(path):
        if first is not None:
            raise UserError(f"{path}: holds statistics, of which no first {first} images can be taken")
        features, protocol = load_reference(path, "copy or make it again")
        if features.pooled is not None or "arr_0" not in arrays_in(path):
            return Side(features, protocol=protocol)
        return Side(with_vectors(features, path, arguments), protocol=protocol)
    images = open_images(path, arguments.size)
    whole_labels = images.labels
    if first is not None:
        images = images.first(first)
    extractor = find_extractor(arguments, like)
    batch_size = arguments.batch_size or (like.batch_size if like else BATCH_SIZE)
    check_same_origin(Origin(extractor.name, extractor.identity, batch_size), like, "the reference")
    features = measure_images(
        images,
        extractor,
        batch_size,
        cache=cache_folder(arguments.cache),
        num_vectors=num_vectors,
        num_images=num_images,
        quiet=False,
    )
    return Side(features, images, known_classes=extractor.class_names, whole_labels=whole_labels)


def with_vectors(features: FeatureSet, path: Path, arguments: argparse.Namespace) -> FeatureSet:
    """ADM's references hold some of their images: precision, recall and kernel distance are to those."""
    from kind.evaluation.feature_sets import measure_images
    from kind.evaluation.image_npz import from_npz

    extractor = find_extractor(arguments)
    folder = cache_folder(arguments.cache)
    seen = measure_images(from_npz([path]), extractor, arguments.batch_size or BATCH_SIZE, cache=folder, quiet=False)
    return replace(features, pooled=seen.pooled, logits=seen.logits, labels=seen.labels, origin=seen.origin)


def needs_extractor(path: Path) -> bool:
    """Whether images must be looked at, or all that can be used is there."""
    return not holds_statistics(path) or ("protocol" not in arrays_in(path) and "arr_0" in arrays_in(path))


def check_writable(path: Path) -> None:
    """Raises OSError or UserError where a file cannot be written, before hours of work are done for it."""
    folder = next(parent for parent in path.resolve().parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--output: {path} cannot be written", hint="name a file in a folder that you may write to")


def holds_statistics(path: Path) -> bool:
    """Whether an npz file holds `mu` and `sigma`; raises UserError for one with neither these nor images."""
    if path.suffix != ".npz" or not path.is_file():
        return False
    names = arrays_in(path)
    if "mu" in names and "sigma" in names:
        return True
    if "arr_0" not in names:
        raise UserError(
            f"{path}: holds neither statistics (mu, sigma, and mu_s, sigma_s) nor images (arr_0); it holds "
            f"{', '.join(sorted(names)) or 'nothing'}",
            hint="give ADM's files, this project's, or images",
        )
    return False


def arrays_in(path: Path) -> list[str]:
    """Names of an npz file's arrays."""
    import numpy as np

    from kind.artifacts import DAMAGED_NPZ

    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive.files
    except DAMAGED_NPZ as error:
        raise UserError(f"{path}: not a whole npz file ({error})", hint="copy or download it again")


def find_extractor(arguments: argparse.Namespace, like: Origin | None = None) -> Extractor:
    """The network that is asked for; raises UserError where its weights are nowhere, with the ways to get them."""
    from kind.devices import choose_device

    device = str(choose_device(arguments.device or "auto", "--device"))
    asked = arguments.extractor or (like.extractor if like else "inception")
    if asked in EXTRACTORS:
        weights = WEIGHTS[asked]
        place = weights.place(arguments.weights, said_by="--weights")
        problem = place.problem()
        if problem:
            raise UserError(problem, hint=weights.ways_by("as --weights"))
        return _load(place.path, device)
    path = Path(asked)
    if not path.is_file():
        hint = f"extractors are {', '.join(EXTRACTORS)}, or a safetensors file"
        if like is not None and arguments.extractor is None:
            hint = f"the reference was made by the feature network {asked}: give its file as --extractor"
        raise UserError(f"--extractor: no file {asked}", hint=hint)
    if arguments.weights is not None:
        raise UserError("--weights: is for inception and dinov2; a feature network of ours is given as --extractor")
    check_recorded(path)
    return _load(path, device)


@cache
def _load(path: Path, device: str) -> Extractor:
    """Once for both sets."""
    from kind.evaluation.features import load_extractor

    return load_extractor(path, device=device)


def cache_folder(asked: str | None) -> Path | None:
    """Where features are kept; None for nowhere."""
    if asked == "none":
        return None
    return Path(asked or os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "kind") / "features"


def positive_number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)
