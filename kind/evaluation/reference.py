"""The file of a reference: statistics under ADM's names, with features, some images and the protocol.

mu, sigma, mu_s, sigma_s   mean and covariance of pooled and of spatial features, as ADM's evaluator reads them
arr_0, arr_1               images, uint8 [n, H, W, C], and labels: all, or a draw of as many as ADM's files hold
pooled, logits, labels     of all images or of a draw, for what needs more than statistics
protocol                   JSON: extractor, its hash, counts, class names, and what else was fixed
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from kind.artifacts import load_arrays, save_arrays
from kind.errors import UserError
from kind.evaluation.feature_sets import FeatureSet, Origin
from kind.evaluation.frechet import Statistics
from kind.evaluation.image_npz import from_npz

NUM_IMAGES = 10_000  # images that a file holds at most: ADM's reference batches hold so many
NUM_VECTORS = 50_000  # features that a file holds at most, for precision, recall and kernel distance
AGAIN = "delete it and run the reference stage again, or snakemake"
STATISTICS = ("mu", "sigma")
SPATIAL = ("mu_s", "sigma_s")


def save_reference(path: str | os.PathLike, features: FeatureSet, protocol: Mapping[str, Any]) -> None:
    """Writes what `load_reference` reads; its bytes depend on nothing but the arguments."""
    facts = {
        "num_images": features.count,
        "class_names": None if features.class_names is None else list(features.class_names),
        **features.origin._asdict(),
        "protocol": dict(protocol),
    }
    found = {
        "mu": features.pooled_statistics.mu,
        "sigma": features.pooled_statistics.sigma,
        "mu_s": None if features.spatial_statistics is None else features.spatial_statistics.mu,
        "sigma_s": None if features.spatial_statistics is None else features.spatial_statistics.sigma,
        "pooled": features.pooled,
        "logits": features.logits,
        "labels": features.labels,
        "arr_0": features.images,
        "arr_1": features.image_labels,
        "protocol": np.array(json.dumps(facts, sort_keys=True)),
    }
    save_arrays(path, **{name: array for name, array in found.items() if array is not None})


def load_reference(path: str | os.PathLike, again: str = AGAIN) -> tuple[FeatureSet, dict[str, Any]]:
    """The statistics in a file, with all else it holds, and its protocol.  Without `protocol`, as in ADM's own files,
    there are statistics alone.  again: what to do about a damaged file.  Raises UserError with the arrays found for a
    file that is neither.
    """
    arrays = load_arrays(path, required=STATISTICS, without=("arr_0",), remake=again)
    _check_arrays(path, arrays, again)
    if "protocol" not in arrays:
        return _of_others(path, arrays), {}
    try:
        facts = json.loads(str(arrays["protocol"]))
        names, count = facts["class_names"], facts["num_images"]
        found = FeatureSet(
            str(path),
            count,
            Statistics(arrays["mu"], arrays["sigma"], count),
            Statistics(arrays["mu_s"], arrays["sigma_s"], count) if "mu_s" in arrays else None,
            arrays["pooled"],
            arrays.get("logits"),
            arrays.get("labels"),
            None if names is None else tuple(names),
            Origin(facts["extractor"], facts["identity"], facts["batch_size"]),
        )
        return found, facts["protocol"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: its protocol is not one of this project's ({error!r})", hint=again)


def reference_images(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """The images that a file holds, uint8 [n, H, W, C], and their labels int64 [n]."""
    found = from_npz([path], hint=AGAIN)
    if found.labels is None:
        raise UserError(f"{path}: has no array arr_1: the labels of its images", hint=AGAIN)
    return found.read_all(), found.labels


def _of_others(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> FeatureSet:
    spatial = Statistics(arrays["mu_s"], arrays["sigma_s"], 0) if "mu_s" in arrays else None
    return FeatureSet(str(path), None, Statistics(arrays["mu"], arrays["sigma"], 0), spatial, foreign=True)


def _check_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], again: str) -> None:
    """Raises UserError naming the first array that does not fit the others."""
    absent = [name for name in SPATIAL if name not in arrays]
    if len(absent) == 1:
        raise UserError(f"{path}: has no array {absent[0]}; it holds {', '.join(sorted(arrays))}", hint=again)
    width, spatial = (arrays[name].shape[-1] if name in arrays and arrays[name].ndim else 0 for name in ("mu", "mu_s"))
    count = len(arrays["pooled"]) if "pooled" in arrays and arrays["pooled"].ndim else 0
    for name, dtype, shape in (
        ("mu", np.floating, (width,)),
        ("sigma", np.floating, (width, width)),
        ("mu_s", np.floating, (spatial,)),
        ("sigma_s", np.floating, (spatial, spatial)),
        ("pooled", np.floating, (count, width)),
        ("logits", np.floating, (count, *arrays["logits"].shape[1:2]) if "logits" in arrays else ()),
        ("labels", np.integer, (count,)),
    ):
        found = arrays.get(name)
        if found is not None and (not np.issubdtype(found.dtype, dtype) or found.shape != shape):
            raise UserError(
                f"{path}: {name} is {found.dtype} {list(found.shape)}, expected "
                f"{'integers' if dtype is np.integer else 'floats'} {list(shape)}",
                hint=again,
            )
