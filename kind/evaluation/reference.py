"""The reference set: real images, their features and their statistics in one ADM-format file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kind.artifacts import load_arrays, save_arrays
from kind.errors import UserError
from kind.evaluation.features import Extractor, Features
from kind.evaluation.frechet import Statistics, gaussian_statistics
from kind.params.messages import some

ARRAYS = ("mu", "sigma", "mu_s", "sigma_s", "pooled", "spatial", "logits", "labels", "arr_0", "protocol")


@dataclass(frozen=True)
class Reference:
    """Real images of a task, and what one extractor says of them.

    images uint8 [N, H, W, C]; labels int64 [N] index class_names; features as extracted, float32.
    pooled_statistics, spatial_statistics: of those features.  extractor, extractor_identity, batch_size: how they
    were made.  protocol: whatever else the experiment fixed (split, resize, ...), copied from `save_reference`.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    features: Features
    pooled_statistics: Statistics
    spatial_statistics: Statistics
    extractor: str
    extractor_identity: str
    batch_size: int
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.images)


def build_reference(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], extractor: Extractor, batch_size: int
) -> Reference:
    """Extracts features of real images and fits their statistics.

    uint8 [N, H, W, C], integer [N] in 0 .. K - 1 for K class names, N at least 2.  Raises UserError otherwise.
    """
    labels = checked_labels(labels, len(images), class_names)
    features = extractor.extract(images, batch_size)
    return Reference(
        images=images,
        labels=labels,
        class_names=tuple(str(name) for name in class_names),
        features=features,
        pooled_statistics=gaussian_statistics(features.pooled),
        spatial_statistics=gaussian_statistics(features.spatial),
        extractor=extractor.name,
        extractor_identity=extractor.identity,
        batch_size=batch_size,
    )


def save_reference(path: str | os.PathLike, reference: Reference, protocol: Mapping[str, Any]) -> None:
    """Writes mu, sigma, mu_s, sigma_s and arr_0 as ADM names them, with features, logits, labels and protocol."""
    facts = {
        "class_names": list(reference.class_names),
        "extractor": reference.extractor,
        "extractor_identity": reference.extractor_identity,
        "batch_size": reference.batch_size,
        "protocol": dict(protocol),
    }
    save_arrays(
        path,
        mu=reference.pooled_statistics.mu,
        sigma=reference.pooled_statistics.sigma,
        mu_s=reference.spatial_statistics.mu,
        sigma_s=reference.spatial_statistics.sigma,
        pooled=reference.features.pooled,
        spatial=reference.features.spatial,
        logits=reference.features.logits,
        labels=reference.labels,
        arr_0=reference.images,
        protocol=np.array(json.dumps(facts, sort_keys=True)),
    )


def load_reference(path: str | os.PathLike) -> Reference:
    """Reads what `save_reference` wrote; raises UserError with the arrays found for another file."""
    arrays = load_arrays(path, required=ARRAYS)
    _check_arrays(path, arrays)
    try:
        facts = json.loads(str(arrays["protocol"]))
        counts = len(arrays["arr_0"])
        return Reference(
            images=arrays["arr_0"],
            labels=arrays["labels"],
            class_names=tuple(facts["class_names"]),
            features=Features(arrays["pooled"], arrays["spatial"], arrays["logits"]),
            pooled_statistics=Statistics(arrays["mu"], arrays["sigma"], counts),
            spatial_statistics=Statistics(arrays["mu_s"], arrays["sigma_s"], counts),
            extractor=facts["extractor"],
            extractor_identity=facts["extractor_identity"],
            batch_size=facts["batch_size"],
            protocol=facts["protocol"],
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: its protocol is not one of this project's ({error!r})", hint=AGAIN)


DTYPES = {np.uint8: "uint8", np.integer: "integers", np.floating: "floats"}
AGAIN = "delete it and run the reference stage again, or snakemake"


def _check_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises UserError naming the first array of another dtype or shape."""
    count = len(arrays["arr_0"]) if arrays["arr_0"].ndim else 0
    width, spatial = (arrays[name].shape[-1] if arrays[name].ndim else 0 for name in ("pooled", "spatial"))
    for name, dtype, shape in (
        ("arr_0", np.uint8, (count, *(arrays["arr_0"].shape + (1, 1, 1))[1:4])),
        ("labels", np.integer, (count,)),
        ("pooled", np.floating, (count, width)),
        ("spatial", np.floating, (count, spatial)),
        ("logits", np.floating, (count, *arrays["logits"].shape[1:2])),
        ("mu", np.floating, (width,)),
        ("sigma", np.floating, (width, width)),
        ("mu_s", np.floating, (spatial,)),
        ("sigma_s", np.floating, (spatial, spatial)),
    ):
        found = arrays[name]
        if not np.issubdtype(found.dtype, dtype) or found.shape != shape:
            raise UserError(
                f"{path}: {name} is {found.dtype} {list(found.shape)}, expected {DTYPES[dtype]} {list(shape)}",
                hint=AGAIN,
            )


def checked_labels(labels: np.ndarray, count: int, class_names: Sequence[str]) -> np.ndarray:
    """int64 [count], each an index of `class_names`; raises UserError otherwise."""
    labels = np.asarray(labels)
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{count} images need {count} integer labels; got {labels.dtype} {labels.shape}")
    if count and not 0 <= labels.min() <= labels.max() < len(class_names):
        raise UserError(
            f"labels run from {labels.min()} to {labels.max()}, but there are {len(class_names)} classes: "
            f"{some(map(str, class_names), '')}"
        )
    return labels.astype(np.int64)
