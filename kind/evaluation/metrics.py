"""All metrics of one set of samples, under names that say extractor and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kind.errors import UserError
from kind.evaluation.features import INCEPTION, INCEPTION_SHA256, Extractor, Features
from kind.evaluation.frechet import frechet_distance, gaussian_statistics, is_indicative_only
from kind.evaluation.inception_score import inception_score
from kind.evaluation.judge import Judge
from kind.evaluation.kernel_distance import kernel_distance
from kind.evaluation.memorisation import memorisation_report, nearest_distances
from kind.evaluation.precision_recall import NEIGHBOURS, precision_recall
from kind.evaluation.reference import Reference, build_reference, checked_labels, load_reference, save_reference
from kind.params.messages import some

__all__ = [
    "Reference",
    "build_reference",
    "count_label",
    "evaluate_images",
    "load_reference",
    "metric_names",
    "save_reference",
]

SCORE_SPLIT = 5000  # samples in one part of the Inception Score, as in ADM's evaluator; fewer samples are one part
DIRECTIONS = {
    "frechet": "lower",
    "spatial_frechet": "lower",
    "kernel": "lower",
    "precision": "higher",
    "recall": "higher",
    "score": "higher",
    "accuracy": "higher",
    "judge_accuracy": "higher",
    "nearest_train": None,
}


def count_label(count: int) -> str:
    """500 -> "500", 1000 -> "1k", 1797 -> "1797", 50000 -> "50k": exact, and short where thousands are whole."""
    return f"{count // 1000}k" if count >= 1000 and count % 1000 == 0 else str(count)


def metric_names(extractor: str, num_samples: int, num_reference: int) -> dict[str, str]:
    """The name of each metric in files and tables, by its role in `DIRECTIONS`.

    fd_digits_500_vs_180 for an extractor called digits; fid_50k_vs_10k, sfid_, kid_ for Inception and only for it,
    where `accuracy`, which needs a classifier of the experiment's own classes, has no name.
    """
    one = count_label(num_samples)
    two = f"{one}_vs_{count_label(num_reference)}"
    prefixes, infix = (("fid", "sfid", "kid"), "") if extractor == INCEPTION else (("fd", "sfd", "kd"), f"{extractor}_")
    names = {
        "frechet": f"{prefixes[0]}_{infix}{two}",
        "spatial_frechet": f"{prefixes[1]}_{infix}{two}",
        "kernel": f"{prefixes[2]}_{infix}{two}",
        "precision": f"precision_{infix}{two}",
        "recall": f"recall_{infix}{two}",
        "score": f"is_{infix}{one}",
        "accuracy": f"accuracy_{infix}{one}",
        "judge_accuracy": f"accuracy_{Judge.name}_{one}",
        "nearest_train": f"nearest_train_{one}",
    }
    if extractor == INCEPTION:
        del names["accuracy"]
    return names


@dataclass
class _Findings:
    """What is known so far, by role; `correct` and `distances` hold one entry a sample."""

    by_role: dict[str, float] = field(default_factory=dict)
    correct: dict[str, np.ndarray] = field(default_factory=dict)
    distances: np.ndarray | None = None
    memorisation: dict[str, Any] | None = None
    real: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def evaluate_images(
    samples: np.ndarray,
    sample_labels: np.ndarray,
    *,
    extractor: Extractor,
    reference: Reference,
    judge: Judge | None = None,
    train_images: np.ndarray | None = None,
    test_images: np.ndarray | None = None,
    batch_size: int,
) -> dict[str, Any]:
    """Every metric of samples uint8 [N, H, W, C] whose labels [N] index `reference.class_names`.

    judge: for `accuracy_svc`.  train_images: what the model may have copied; test_images: real images it never saw,
    the yardstick of copying (the reference images where not given).  Returns JSON-like

      values        metric name -> number, None where the inputs give none (the reason is in `warnings`)
      directions    metric name -> "lower", "higher" or None: which way is better
      per_class     class name -> {num_samples, accuracy_<extractor>, accuracy_svc, nearest_train}
      real          metric name -> the accuracies and the score that the reference images themselves get
      memorisation  see `memorisation_report`; None without train_images
      warnings      sentences

    Raises UserError where the reference was made by another extractor, and for wrong shapes, dtypes or labels.
    """
    _check_same_protocol(extractor, reference, batch_size)
    labels = checked_labels(sample_labels, len(samples), reference.class_names)
    names = metric_names(extractor.name, len(samples), reference.count)
    real_names = metric_names(extractor.name, reference.count, reference.count)
    features = extractor.extract(samples, batch_size)
    findings = _Findings()
    if extractor.is_inception and not extractor.identity.startswith(INCEPTION_SHA256):
        findings.warnings.append(
            f"the Inception weights ({extractor.identity[:8]}) are not the published ones ({INCEPTION_SHA256}): "
            "do not compare with published values"
        )
    _compare_features(features, reference, names, findings)
    _classify(features, labels, extractor, reference, findings)
    if judge is not None:
        _ask_judge(samples, labels, judge, reference, findings)
    if train_images is not None:
        _look_for_copies(samples, train_images, reference.images if test_images is None else test_images, findings)
    return {
        "values": {name: findings.by_role.get(role) for role, name in names.items()},
        "directions": {name: DIRECTIONS[role] for role, name in names.items()},
        "per_class": _per_class(labels, reference.class_names, extractor.name, findings),
        "real": {real_names[role]: value for role, value in findings.real.items()},
        "memorisation": findings.memorisation,
        "warnings": findings.warnings,
    }


def _check_same_protocol(extractor: Extractor, reference: Reference, batch_size: int) -> None:
    if reference.extractor_identity != extractor.identity or reference.extractor != extractor.name:
        raise UserError(
            f"the reference was made by extractor {reference.extractor} ({reference.extractor_identity[:12]}), "
            f"the samples are to be seen by {extractor.name} ({extractor.identity[:12]})",
            hint="run the reference stage again with this extractor",
        )
    if reference.batch_size != batch_size:
        raise UserError(
            f"the reference was extracted in batches of {reference.batch_size}, the samples would be in batches of "
            f"{batch_size}",
            hint="use one batch size: features differ in their last digits between batch sizes",
        )


def _compare_features(features: Features, reference: Reference, names: dict[str, str], findings: _Findings) -> None:
    """Distances to the reference, precision, recall and score; too few images for one of them is a warning."""
    pooled, spatial = features.pooled, features.spatial
    count, real_count = len(pooled), reference.count
    fewest = min(count, real_count)
    if fewest >= 2:
        for role, matrix, target in (
            ("frechet", pooled, reference.pooled_statistics),
            ("spatial_frechet", spatial, reference.spatial_statistics),
        ):
            findings.by_role[role] = frechet_distance(gaussian_statistics(matrix), target)
            if is_indicative_only(fewest, matrix.shape[1]):
                findings.warnings.append(
                    f"{names[role]} is indicative only: {fewest} images for {matrix.shape[1]} feature dimensions "
                    "give a covariance that is not of full rank"
                )
        findings.by_role["kernel"] = kernel_distance(pooled, reference.features.pooled)
    else:
        findings.warnings.append(f"{count} samples and {real_count} reference images: two of each make a distance")
    if fewest > NEIGHBOURS:
        shares = precision_recall(pooled, reference.features.pooled)
        findings.by_role["precision"], findings.by_role["recall"] = shares
    else:
        findings.warnings.append(f"precision and recall need more than {NEIGHBOURS} images on both sides")
    findings.by_role["score"] = inception_score(features.logits, _num_splits(count))
    findings.real["score"] = inception_score(reference.features.logits, _num_splits(real_count))


def _num_splits(count: int) -> int:
    return max(1, count // SCORE_SPLIT)


def _classify(
    features: Features, labels: np.ndarray, extractor: Extractor, reference: Reference, findings: _Findings
) -> None:
    """Whether the extractor's own classifier, choosing among all its classes, sees the requested class."""
    if extractor.class_names is None:
        return
    own = _labels_elsewhere(reference.class_names, extractor.class_names, f"extractor {extractor.name}", findings)
    if own is not None:
        findings.correct["accuracy"] = features.logits.argmax(axis=1) == own[labels]
        findings.by_role["accuracy"] = float(findings.correct["accuracy"].mean())
        findings.real["accuracy"] = float(np.mean(reference.features.logits.argmax(axis=1) == own[reference.labels]))


def _ask_judge(
    samples: np.ndarray, labels: np.ndarray, judge: Judge, reference: Reference, findings: _Findings
) -> None:
    own = np.arange(len(reference.class_names))
    if judge.class_names is not None:
        known = [judge.class_names[label] for label in judge.classes]
        positions = _labels_elsewhere(reference.class_names, known, "the judge", findings)
        if positions is None:
            return
        own = judge.classes[positions]
    findings.correct["judge_accuracy"] = judge.predict(samples) == own[labels]
    findings.by_role["judge_accuracy"] = float(findings.correct["judge_accuracy"].mean())
    findings.real["judge_accuracy"] = judge.accuracy(reference.images, own[reference.labels])


def _labels_elsewhere(
    class_names: Sequence[str], known: Sequence[str], who: str, findings: _Findings
) -> np.ndarray | None:
    """For each task class its position in `known`, matched by name; None, with a warning, where one is missing."""
    missing = [name for name in class_names if name not in known]
    if missing:
        findings.warnings.append(f"{who} does not know the classes {some(missing, '')}: no accuracy by it")
        return None
    return np.array([list(known).index(name) for name in class_names])


def _look_for_copies(samples: np.ndarray, train: np.ndarray, test: np.ndarray, findings: _Findings) -> None:
    findings.distances = nearest_distances(samples, train)
    findings.memorisation = memorisation_report(samples, test, train)
    findings.by_role["nearest_train"] = findings.memorisation["sample_median"]
    if findings.memorisation["test_median"] == 0.0:
        findings.warnings.append(
            "half or more of the test images are training images: their distances say nothing about copying"
        )


def _per_class(
    labels: np.ndarray, class_names: Sequence[str], extractor_name: str, findings: _Findings
) -> dict[str, dict[str, Any]]:
    keys = {"accuracy": f"accuracy_{extractor_name}", "judge_accuracy": f"accuracy_{Judge.name}"}
    table = {}
    for label, name in enumerate(class_names):
        chosen = labels == label
        row: dict[str, Any] = {"num_samples": int(chosen.sum())}
        if chosen.any():
            row |= {keys[role]: float(correct[chosen].mean()) for role, correct in findings.correct.items()}
            if findings.distances is not None:
                row["nearest_train"] = float(np.median(findings.distances[chosen]))
        table[name] = row
    return table
