"""Two sets of features against each other: distances, precision, recall and score, for all images and by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kind.errors import UserError
from kind.evaluation.feature_sets import FeatureSet, Origin
from kind.evaluation.features import INCEPTION, INCEPTION_SHA256
from kind.evaluation.frechet import frechet_distance, is_indicative_only
from kind.evaluation.inception_score import SPLIT_SIZE, inception_score
from kind.evaluation.kernel_distance import FEWEST, kernel_distance, kernel_distance_interval
from kind.evaluation.names import UNKNOWN, base_name, metric_names
from kind.evaluation.precision_recall import NEIGHBOURS, precision_recall
from kind.params.messages import some


@dataclass
class Findings:
    """What is known so far, by role (see `names.DIRECTIONS`).

    intervals: role -> what `kernel_distance_interval` says.  indicative: roles whose value says more about the counts
    than about the images.  per_class: class name -> base name -> number.  real: what the reference itself gets.
    """

    extractor: str
    names: dict[str, str]
    by_role: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, dict[str, Any]] = field(default_factory=dict)
    indicative: list[str] = field(default_factory=list)
    per_class: dict[str, dict[str, Any]] = field(default_factory=dict)
    real: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def compare_features(samples: FeatureSet, reference: FeatureSet) -> Findings:
    """Every metric that the two sets allow; what one of them lacks, or has too few images for, is a warning.

    Where both know the classes of their images, distances of each class stand in `per_class`, and their unweighted
    means, if every class has them, are the roles class_frechet and class_kernel (with Inception: "intra-FID", Miyato
    and Koyama 2018).  Raises UserError where the sets were not made by one extractor in one way.
    """
    name = common_extractor(samples, reference)
    vectors = (samples.num_vectors, reference.num_vectors)
    whole = vectors == (samples.count, reference.count)
    findings = Findings(name, metric_names(name, samples.count, reference.count, None if whole else vectors))
    _warn_of_origins(samples, reference, findings)
    _frechet(samples, reference, findings)
    if samples.pooled is not None and reference.pooled is not None:
        _between_vectors(samples, reference, findings)
    else:
        lacking = samples if samples.pooled is None else reference
        findings.warnings.append(
            f"{lacking.name} holds statistics alone: no kernel distance, precision or recall without its images"
        )
    if samples.logits is not None:
        findings.by_role["score"] = inception_score(samples.logits)
    if reference.logits is not None:
        findings.real["score"] = inception_score(reference.logits)
    if all(side.labels is not None and side.pooled is not None for side in (samples, reference)):
        _by_class(samples, reference, findings)
    return findings


def common_extractor(samples: FeatureSet, reference: FeatureSet) -> str:
    """The name of the network that both sets were seen by; `unknown` where no file says it and it is not Inception.

    Raises UserError where they were seen by different networks, or in different batches.
    """
    check_same_origin(samples.origin, reference.origin, reference.name)
    origin = samples.origin or reference.origin
    foreign = [side for side in (samples, reference) if side.foreign]
    if origin is None:
        return INCEPTION if all(map(looks_like_inception, foreign)) else UNKNOWN
    for side in foreign:
        if origin.extractor != INCEPTION:
            raise UserError(
                f"{side.name} does not say which network made its statistics, so they cannot be compared with features "
                f"of {origin.extractor}",
                hint="make a reference of the images themselves: python -m kind reference --help",
            )
    for kind in ("pooled", "spatial"):
        sides = [getattr(side, f"{kind}_statistics") for side in (samples, reference)]
        if None not in sides and len(sides[0].mu) != len(sides[1].mu):
            raise UserError(
                f"{reference.name} has {kind} features of {len(sides[1].mu)} numbers, {samples.name} of "
                f"{len(sides[0].mu)}: they were made by different extractors"
            )
    return origin.extractor


def looks_like_inception(side: FeatureSet) -> bool:
    """Whether statistics that do not say their network have Inception's sizes, as ADM's files do."""
    sizes = [len(each.mu) for each in (side.pooled_statistics, side.spatial_statistics) if each is not None]
    return sizes in ([2048], [2048, 2023])


def check_same_origin(ours: Origin | None, theirs: Origin | None, name: str) -> None:
    """Raises UserError where two origins are known and differ; name: of the second."""
    if ours is not None and theirs is not None:
        if (ours.extractor, ours.identity) != (theirs.extractor, theirs.identity):
            raise UserError(
                f"{name} was made by extractor {theirs.extractor} ({theirs.identity[:12]}), the samples are "
                f"seen by {ours.extractor} ({ours.identity[:12]})",
                hint="make the reference again with this extractor",
            )
        if ours.batch_size != theirs.batch_size:
            raise UserError(
                f"{name} was extracted in batches of {theirs.batch_size}, the samples in batches of {ours.batch_size}",
                hint="use one batch size: features differ in their last digits between batch sizes",
            )


def _warn_of_origins(samples: FeatureSet, reference: FeatureSet, findings: Findings) -> None:
    for side in (samples, reference):
        if side.foreign:
            taken = "taken to be Inception, as in ADM's files" if findings.extractor == INCEPTION else "unknown"
            findings.warnings.append(f"{side.name} does not say which network made its mu and sigma: {taken}")
    origin = samples.origin or reference.origin
    if origin and origin.extractor == INCEPTION and not origin.identity.startswith(INCEPTION_SHA256):
        findings.warnings.append(
            f"the Inception weights ({origin.identity[:8]}) are not the published ones ({INCEPTION_SHA256}): "
            "do not compare with published values"
        )
    for side in (samples, reference):
        if side.logits is not None and side.labels is not None and _sorted_by_class(side.labels):
            findings.warnings.append(
                f"{side.name} is sorted by class: its Inception Score is of parts of {SPLIT_SIZE} consecutive images, "
                "which have few classes each, and is too low"
            )
    named = [side for side in (samples, reference) if side.class_names is not None]
    both = all(side.labels is not None for side in (samples, reference))
    if both and len(named) == 1:
        other = reference if named[0] is samples else samples
        findings.warnings.append(
            f"labels of {other.name} have no names: 0, 1, ... are taken to be {some(named[0].class_names, '')}, the "
            f"classes of {named[0].name}"
        )


def _sorted_by_class(labels: np.ndarray) -> bool:
    return len(labels) > SPLIT_SIZE and labels[0] != labels[-1] and bool((np.diff(labels) >= 0).all())


def _frechet(samples: FeatureSet, reference: FeatureSet, findings: Findings) -> None:
    counts = [count for count in (samples.count, reference.count) if count is not None]
    for role, kind in (("frechet", "pooled"), ("spatial_frechet", "spatial")):
        ours, theirs = (getattr(side, f"{kind}_statistics") for side in (samples, reference))
        if ours is None or theirs is None:
            continue
        findings.by_role[role] = frechet_distance(ours, theirs)
        if counts and is_indicative_only(min(counts), len(ours.mu)):
            findings.indicative.append(role)
            findings.warnings.append(
                f"{findings.names[role]} is indicative only: {min(counts)} images for {len(ours.mu)} feature "
                "dimensions give a covariance that is not of full rank"
            )


def _between_vectors(samples: FeatureSet, reference: FeatureSet, findings: Findings) -> None:
    if min(samples.num_vectors, reference.num_vectors) >= FEWEST:
        found = kernel_distance_interval(samples.pooled, reference.pooled)
        findings.by_role["kernel"] = found.value
        findings.intervals["kernel"] = {**found._asdict(), "share": 0.95, "by": "half-samples of both sets"}
    else:
        findings.by_role["kernel"] = kernel_distance(samples.pooled, reference.pooled)
    if min(samples.num_vectors, reference.num_vectors) > NEIGHBOURS:
        shares = precision_recall(samples.pooled, reference.pooled)
        findings.by_role["precision"], findings.by_role["recall"] = shares
    else:
        findings.warnings.append(f"precision and recall need more than {NEIGHBOURS} images on both sides")


def _by_class(samples: FeatureSet, reference: FeatureSet, findings: Findings) -> None:
    """Distances of each class to the same class, and their means where every class has them."""
    names = class_names_of_both(samples, reference)
    dimension = samples.pooled.shape[1]
    keys = {role: base_name(findings.extractor, role) for role in ("frechet", "kernel")}
    rows = {name: _class_row(samples.rows(label), reference.rows(label), keys) for label, name in enumerate(names)}
    findings.per_class = rows
    if len(names) < 2:
        return
    without = [name for name, row in rows.items() if keys["kernel"] not in row]
    few = sum(row.get(f"{keys['frechet']}_indicative", False) for row in rows.values())
    if without:
        findings.warnings.append(
            f"no distance by class for {len(without)} of {len(names)} classes ({some(without, '')}): it needs two "
            "images a side"
        )
    else:
        for role, key in keys.items():
            findings.by_role[f"class_{role}"] = float(np.mean([row[key] for row in rows.values()]))
        _class_interval(list(rows.values()), keys["kernel"], findings)
    if few:
        findings.indicative.append("class_frechet")
        findings.warnings.append(
            f"{findings.names['class_frechet']} is indicative only: {few} of {len(names)} classes have no more than "
            f"{dimension + 1} images for {dimension} feature dimensions"
        )


def _class_interval(rows: Sequence[dict[str, Any]], key: str, findings: Findings) -> None:
    """Of the mean of K classes, whose images are drawn independently: margin^2 = sum margin_c^2 / K^2."""
    if not all(f"{key}_low" in row for row in rows):
        return
    margins = np.array([row[f"{key}_high"] - row[key] for row in rows])
    value, margin = findings.by_role["class_kernel"], float(np.sqrt((margins**2).sum()) / len(rows))
    findings.intervals["class_kernel"] = {
        "value": value,
        "low": value - margin,
        "high": value + margin,
        "share": 0.95,
        "by": "the classes' intervals, taken as independent",
    }


def _class_row(ours: np.ndarray, theirs: np.ndarray, keys: dict[str, str]) -> dict[str, Any]:
    """Counts of one class and, of two images a side or more, its distances."""
    row: dict[str, Any] = {"num_samples": len(ours), "num_reference": len(theirs)}
    fewest = min(len(ours), len(theirs))
    if fewest < 2:
        return row
    row[keys["frechet"]] = frechet_distance(ours, theirs)
    row[f"{keys['frechet']}_indicative"] = is_indicative_only(fewest, ours.shape[1])
    if fewest < FEWEST:
        return row | {keys["kernel"]: kernel_distance(ours, theirs)}
    kernel = kernel_distance_interval(ours, theirs)
    ends = {f"{keys['kernel']}_{end}": getattr(kernel, end) for end in ("low", "high")}
    return row | {keys["kernel"]: kernel.value, **ends}


def class_names_of_both(samples: FeatureSet, reference: FeatureSet) -> Sequence[str]:
    """Names of the classes that labels of both sides index; raises UserError where they do not go together."""
    ours, theirs = samples.class_names, reference.class_names
    if ours is not None and theirs is not None and tuple(ours) != tuple(theirs):
        raise UserError(f"{samples.name}: {some(ours)}; {reference.name}: {some(theirs)}")
    last = int(max(samples.labels.max(initial=-1), reference.labels.max(initial=-1)))
    names = ours or theirs or tuple(str(label) for label in range(last + 1))
    for side in (samples, reference):
        if len(side.labels) and not 0 <= side.labels.min() <= side.labels.max() < len(names):
            raise UserError(
                f"{side.name}: labels run from {side.labels.min()} to {side.labels.max()}, but there are {len(names)}, "
                f"{some(names)}"
            )
    return names
