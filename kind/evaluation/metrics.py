"""All metrics of one set of samples, under names that say extractor and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kind.evaluation.compare import Findings, compare_features
from kind.evaluation.feature_sets import FeatureSet
from kind.evaluation.image_sets import ImageSet
from kind.evaluation.judge import Judge
from kind.evaluation.memorisation import memorisation_report, nearest_distances
from kind.evaluation.names import DIRECTIONS, base_name, metric_names
from kind.params.messages import some

BLOCK = 1000  # images whose pixels are looked at at once


def compare_sets(
    samples: FeatureSet, reference: FeatureSet, known_classes: Sequence[str] | None = None
) -> dict[str, Any]:
    """What two sets of features say of each other, as `evaluate_images` gives it, without pixels."""
    findings = compare_features(samples, reference)
    _classify(samples, reference, known_classes, findings)
    content = _content(findings, reference)
    found = {name: value for name, value in content["values"].items() if value is not None}
    return content | {"values": found, "directions": {name: content["directions"][name] for name in found}}


def evaluate_images(
    samples: FeatureSet,
    reference: FeatureSet,
    images: ImageSet,
    *,
    known_classes: Sequence[str] | None = None,
    judge: Judge | None = None,
    judged_reference: tuple[np.ndarray, np.ndarray] | None = None,
    train_images: np.ndarray | None = None,
    test_images: np.ndarray | None = None,
) -> dict[str, Any]:
    """Every metric of samples whose labels [N] index `reference.class_names`; `images` are their pixels.

    Of samples without labels nothing is said that needs a class.

    known_classes: what the logits stand for, where they are classes of ours.  judge: for `accuracy_svc`;
    judged_reference: real images and labels for its own accuracy.  train_images: what the model may have copied;
    test_images: real images it never saw, the yardstick of copying.  Returns JSON-like

      values        metric name -> number, None where the inputs give none (the reason is in `warnings`); without judge
                    or train_images their metrics are not named
      directions    metric name -> "lower", "higher" or None: which way is better
      intervals     metric name -> low and high of the kernel distance and how they were found
      indicative    metric names whose value says more about the counts than about the images
      per_class     class name -> {num_samples, num_reference, fd_<extractor>, kd_<extractor>, ..., accuracies}
      real          metric name -> the accuracies and the score that the reference images themselves get
      memorisation  see `memorisation_report`; None without train_images
      warnings      sentences

    Raises UserError where the reference was made by another extractor, and for labels that are no class.
    """
    findings = compare_features(samples, reference)
    correct = _classify(samples, reference, known_classes, findings)
    if judge is not None and samples.labels is not None:
        correct |= _ask_judge(images, samples, reference, judge, judged_reference, findings)
    distances = memorisation = None
    if train_images is not None:
        distances = np.concatenate([nearest_distances(block, train_images) for block in images.blocks(BLOCK)])
        memorisation = memorisation_report(distances, nearest_distances(test_images, train_images), len(train_images))
        _note_copies(memorisation, findings)
    if samples.labels is not None:
        _add_to_classes(samples, reference, correct, distances, findings)
    for role, needed in (("judge_accuracy", judge), ("nearest_train", train_images)):
        if needed is None:  # not asked for: no column of a table
            del findings.names[role]
    return _content(findings, reference) | {"memorisation": memorisation}


def _content(findings: Findings, reference: FeatureSet) -> dict[str, Any]:
    names = findings.names
    real = metric_names(findings.extractor, reference.num_vectors, reference.num_vectors)
    return {
        "values": {name: findings.by_role.get(role) for role, name in names.items()},
        "directions": {name: DIRECTIONS[role] for role, name in names.items()},
        "intervals": {names[role]: interval for role, interval in findings.intervals.items()},
        "indicative": [names[role] for role in findings.indicative],
        "per_class": findings.per_class,
        "real": {real[role]: value for role, value in findings.real.items()},
        "memorisation": None,
        "warnings": findings.warnings,
    }


def _classify(
    samples: FeatureSet, reference: FeatureSet, known_classes: Sequence[str] | None, findings: Findings
) -> dict[str, np.ndarray]:
    """Whether the extractor's own classifier, choosing among all its classes, sees the requested class; by role."""
    if known_classes is None or reference.class_names is None or samples.labels is None:
        return {}
    own = _labels_elsewhere(reference.class_names, known_classes, f"extractor {findings.extractor}", findings)
    if own is None:
        return {}
    correct = samples.logits.argmax(axis=1) == own[samples.labels]
    findings.by_role["accuracy"] = float(correct.mean())
    findings.real["accuracy"] = float(np.mean(reference.logits.argmax(axis=1) == own[reference.labels]))
    return {"accuracy": correct}


def _ask_judge(
    images: ImageSet,
    samples: FeatureSet,
    reference: FeatureSet,
    judge: Judge,
    judged_reference: tuple[np.ndarray, np.ndarray] | None,
    findings: Findings,
) -> dict[str, np.ndarray]:
    own = np.arange(len(reference.class_names))
    if judge.class_names is not None:
        known = [judge.class_names[label] for label in judge.classes]
        positions = _labels_elsewhere(reference.class_names, known, "the judge", findings)
        if positions is None:
            return {}
        own = judge.classes[positions]
    seen = np.concatenate([judge.predict(block) for block in images.blocks(BLOCK)])
    correct = seen == own[samples.labels]
    findings.by_role["judge_accuracy"] = float(correct.mean())
    if judged_reference is not None:
        real, labels = judged_reference
        findings.real["judge_accuracy"] = judge.accuracy(real, own[labels])
    return {"judge_accuracy": correct}


def _labels_elsewhere(
    class_names: Sequence[str], known: Sequence[str], who: str, findings: Findings
) -> np.ndarray | None:
    """For each task class its position in `known`, matched by name; None, with a warning, where one is missing."""
    places = {name: place for place, name in enumerate(known)}
    missing = [name for name in class_names if name not in places]
    if missing:
        findings.warnings.append(f"{who} does not know the classes {some(missing, '')}: no accuracy by it")
        return None
    return np.array([places[name] for name in class_names])


def _note_copies(memorisation: dict[str, float | int], findings: Findings) -> None:
    findings.by_role["nearest_train"] = memorisation["sample_median"]
    if memorisation["test_median"] == 0.0:
        findings.warnings.append(
            "half or more of the test images are training images: their distances say nothing about copying"
        )


def _add_to_classes(
    samples: FeatureSet,
    reference: FeatureSet,
    correct: dict[str, np.ndarray],
    distances: np.ndarray | None,
    findings: Findings,
) -> None:
    """Accuracies and nearness to training images of each class of the samples, beside its distances."""
    keys = {role: base_name(findings.extractor, role) for role in correct}
    for label, name in enumerate(reference.class_names):
        chosen = samples.labels == label
        row = findings.per_class[name]
        if chosen.any():
            row |= {keys[role]: float(found[chosen].mean()) for role, found in correct.items()}
            if distances is not None:
                row["nearest_train"] = float(np.median(distances[chosen]))
