from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from kind.errors import UserError
from kind.evaluation.feature_sets import measure_images
from kind.evaluation.features import INCEPTION, INCEPTION_SHA256, Features
from kind.evaluation.frechet import frechet_distance, gaussian_statistics
from kind.evaluation.image_sets import from_arrays
from kind.evaluation.inception_score import inception_score
from kind.evaluation.judge import fit_judge
from kind.evaluation.kernel_distance import kernel_distance
from kind.evaluation.memorisation import nearest_distances
from kind.evaluation.metrics import evaluate_images
from kind.evaluation.names import count_label, metric_names
from kind.evaluation.precision_recall import precision_recall

TASK = ("9", "7", "8")  # of the fixture `task`


@pytest.fixture(scope="module")
def evaluate(task, extractor, reference):
    """evaluate(samples, labels, ...) against the test digits of the task."""

    def run(samples, labels, *, network=extractor, target=reference, batch_size=64, **given):
        images = from_arrays(samples, labels, TASK[: max(3, labels.max() + 1)] if target is reference else None)
        features = measure_images(images, network, batch_size)
        if "judge" in given:
            given["judged_reference"] = task[0]
        if "train_images" in given:
            given.setdefault("test_images", task[0][0])
        return evaluate_images(features, target, images, known_classes=network.class_names, **given)

    return run


@pytest.fixture(scope="module")
def result(task, judge, evaluate):
    samples, labels = task[1]
    return evaluate(samples[:100], labels[:100], judge=judge, train_images=samples[100:])


def test_counts_are_short_and_exact():
    counts = {500: "500", 999: "999", 1000: "1k", 1797: "1797", 2000: "2k", 50000: "50k", 50500: "50500"}
    assert {count: count_label(count) for count in counts} == counts


def test_names_say_extractor_and_counts():
    assert list(metric_names("digits", 500, 180).values()) == [
        "fd_digits_500_vs_180",
        "sfd_digits_500_vs_180",
        "kd_digits_500_vs_180",
        "class_fd_digits_500_vs_180",
        "class_kd_digits_500_vs_180",
        "precision_digits_500_vs_180",
        "recall_digits_500_vs_180",
        "is_digits_500",
        "accuracy_digits_500",
        "accuracy_svc_500",
        "nearest_train_500",
    ]
    assert list(metric_names(INCEPTION, 50000, 10000).values()) == [
        "fid_50k_vs_10k",
        "sfid_50k_vs_10k",
        "kid_50k_vs_10k",
        "class_fid_50k_vs_10k",
        "class_kid_50k_vs_10k",
        "precision_50k_vs_10k",
        "recall_50k_vs_10k",
        "is_50k",
        "accuracy_svc_50k",
        "nearest_train_50k",
    ]
    assert not any("fid" in name or "kid" in name for name in metric_names("digits", 5, 5).values())
    fewer = metric_names(INCEPTION, 50000, None, (50000, 10000))
    assert (fewer["frechet"], fewer["kernel"]) == ("fid_50k_vs_unknown", "kid_50k_vs_10k")


def test_all_values_are_there_and_right(result, task, extractor, reference):
    count = reference.count
    values = result["values"]
    assert list(values) == list(metric_names("digits", 100, count).values())
    assert list(result["directions"]) == list(values)
    assert result["directions"][f"fd_digits_100_vs_{count}"] == "lower"
    assert result["directions"]["accuracy_svc_100"] == "higher"
    assert result["directions"]["nearest_train_100"] is None
    samples = task[1][0]
    mine, real = (extractor.extract(images, 64) for images in (samples[:100], task[0][0]))
    for name, kind in (("fd", "pooled"), ("sfd", "spatial")):
        expected = frechet_distance(*(gaussian_statistics(getattr(part, kind)) for part in (mine, real)))
        assert values[f"{name}_digits_100_vs_{count}"] == pytest.approx(expected, rel=1e-12)
    kernel = kernel_distance(mine.pooled, real.pooled)
    shares = precision_recall(mine.pooled, real.pooled)
    assert shares.precision != shares.recall
    assert values[f"kd_digits_100_vs_{count}"] == pytest.approx(kernel, rel=1e-12)
    assert values[f"precision_digits_100_vs_{count}"] == shares.precision
    assert values[f"recall_digits_100_vs_{count}"] == shares.recall
    assert values["is_digits_100"] == pytest.approx(inception_score(mine.logits), rel=1e-12)
    expected = np.median(nearest_distances(samples[:100], samples[100:]))
    assert values["nearest_train_100"] == pytest.approx(expected)
    json.dumps(result, allow_nan=False)


def test_accuracies_go_by_class_name(result, reference):
    """Real images of classes in another order than the extractor's and the judge's."""
    assert result["values"]["accuracy_digits_100"] > 0.95
    assert result["values"]["accuracy_svc_100"] == 1.0, "these are training images of the judge"
    assert 0.9 < result["real"][f"accuracy_svc_{reference.count}"] <= 1.0
    assert 0.9 < result["real"][f"accuracy_digits_{reference.count}"] <= 1.0
    assert 2.0 < result["real"][f"is_digits_{reference.count}"] < 4.0


def test_per_class_table_adds_up(result):
    rows = result["per_class"]
    assert list(rows) == list(TASK)
    assert sum(row["num_samples"] for row in rows.values()) == 100
    for name in ("accuracy_digits", "accuracy_svc"):
        total = sum(row["num_samples"] * row[name] for row in rows.values())
        assert total / 100 == pytest.approx(result["values"][f"{name}_100"])


def test_each_class_has_its_own_distances(result, task, extractor, reference):
    (samples, labels), (real, real_labels) = (part[:100] for part in task[1]), task[0]
    ours, theirs = extractor.extract(samples, 64).pooled, extractor.extract(real, 64).pooled
    for label, name in enumerate(TASK):
        x, y, row = ours[labels == label], theirs[real_labels == label], result["per_class"][name]
        assert (row["num_samples"], row["num_reference"]) == (len(x), len(y))
        expected = frechet_distance(gaussian_statistics(x), gaussian_statistics(y))
        assert row["fd_digits"] == pytest.approx(expected, rel=1e-8)
        assert row["kd_digits"] == pytest.approx(kernel_distance(x, y), rel=1e-9)
        assert row["kd_digits_low"] < row["kd_digits"] < row["kd_digits_high"]
        assert row["fd_digits_indicative"] == (min(len(x), len(y)) <= 33)
    for metric in ("fd", "kd"):
        mean = np.mean([row[f"{metric}_digits"] for row in result["per_class"].values()])
        assert result["values"][f"class_{metric}_digits_100_vs_{reference.count}"] == pytest.approx(mean)


def test_swapped_classes_show_by_class_alone(task, evaluate):
    """The whole set is the same pictures: only who is who has changed."""
    real, labels = task[0]
    right, wrong = evaluate(real, labels), evaluate(real, (labels + 1) % 3)
    names = [name for name in right["values"] if name.startswith(("fd_", "class_fd_"))]
    whole, by_class = names
    assert right["values"][whole] == wrong["values"][whole]
    assert right["values"][by_class] < 1e-6 < 1 < wrong["values"][by_class]


def test_a_class_without_samples_has_no_distance_and_so_has_the_mean(task, evaluate):
    samples, labels = task[1]
    found = evaluate(samples[labels != 1], labels[labels != 1])
    assert "fd_digits" not in found["per_class"]["7"]
    assert found["per_class"]["7"]["num_samples"] == 0
    assert [value for name, value in found["values"].items() if name.startswith("class_")] == [None, None]
    assert any("no distance by class for 1 of 3 classes (7)" in warning for warning in found["warnings"])


def test_the_kernel_distance_has_an_interval(result, reference):
    name = f"kd_digits_100_vs_{reference.count}"
    by_class = f"class_{name}"
    assert list(result["intervals"]) == [name, by_class]
    for each in (name, by_class):
        interval = result["intervals"][each]
        assert interval["low"] < interval["value"] == result["values"][each] < interval["high"]
    margins = [row["kd_digits_high"] - row["kd_digits"] for row in result["per_class"].values()]
    found = result["intervals"][by_class]
    assert found["high"] - found["value"] == pytest.approx(np.sqrt(np.sum(np.square(margins))) / len(TASK))


def test_wrong_labels_show_in_the_accuracies(task, evaluate, judge):
    samples, labels = (part[:90] for part in task[0])
    found = evaluate(samples, (labels + 1) % 3, judge=judge)
    assert found["values"]["accuracy_svc_90"] < 0.1
    assert found["values"]["accuracy_digits_90"] < 0.1
    assert "nearest_train_90" not in found["values"]
    assert found["memorisation"] is None


def test_few_images_are_called_indicative(result, task, evaluate, reference):
    small = [name for name in result["indicative"] if not name.startswith("class_")]
    assert not small, "100 images are enough for 32 and 48 dimensions"
    few = evaluate(task[1][0][:40], task[1][1][:40])
    assert [warning for warning in few["warnings"] if "sfd_digits_40" in warning and "indicative only" in warning]
    assert not [warning for warning in few["warnings"] if warning.startswith("fd_digits_40")], "40 > 32 + 1"
    names = [f"sfd_digits_40_vs_{reference.count}", f"class_fd_digits_40_vs_{reference.count}"]
    assert few["indicative"] == names
    assert "accuracy_svc_40" not in few["values"]
    three = evaluate(task[1][0][:3], task[1][1][:3])
    assert three["values"][f"precision_digits_3_vs_{reference.count}"] is None
    assert any("need more than 3 images" in warning for warning in three["warnings"])


def test_a_class_that_judge_or_extractor_never_saw_gives_no_accuracy(task, extractor, judge, evaluate):
    images, labels = task[0]
    target = measure_images(from_arrays(images, labels, ("9", "7", "A")), extractor, 64)
    found = evaluate(images, labels, target=target, judge=judge)
    assert found["values"][f"accuracy_digits_{len(images)}"] is None
    assert found["values"][f"accuracy_svc_{len(images)}"] is None
    assert len([warning for warning in found["warnings"] if "does not know the classes A" in warning]) == 2


def test_a_judge_without_names_judges_the_tasks_own_labels(task, evaluate, reference):
    found = evaluate(*task[0], judge=fit_judge(*task[1]))
    assert found["values"][f"accuracy_svc_{reference.count}"] > 0.95


def test_training_images_as_the_test_set_are_noticed(task, evaluate):
    found = evaluate(*task[0], train_images=task[0][0])
    assert any("test images are training images" in warning for warning in found["warnings"])
    assert found["memorisation"]["share_copies"] == 1.0


def test_inception_weights_of_another_origin_are_said_so(task, extractor, evaluate):
    """The real names, over a network that stands in for Inception here."""
    stand_in = replace(extractor, name=INCEPTION, class_names=None)
    known = replace(stand_in, identity=INCEPTION_SHA256 + "0" * 56)
    for network, warned in ((stand_in, True), (known, False)):
        target = measure_images(from_arrays(*task[0], TASK), network, 64)
        found = evaluate(*task[0], network=network, target=target)
        assert f"fid_{target.count}_vs_{target.count}" in found["values"]
        assert any("not the published ones" in warning for warning in found["warnings"]) == warned


def test_another_extractor_or_batch_size_is_refused(task, extractor, evaluate):
    for changes, message in (({"identity": "0" * 64}, "made by extractor digits"), ({"name": "other"}, "other")):
        with pytest.raises(UserError, match=message):
            evaluate(*task[0], network=replace(extractor, **changes))
    with pytest.raises(UserError, match="batches of 64"):
        evaluate(*task[0], batch_size=32)
    with pytest.raises(UserError, match="labels run from 0 to 3, but there are 3, classes: 9, 7, 8"):
        evaluate(task[0][0][:4], np.arange(4))


def test_an_extractor_without_places_and_classes_gives_what_it_can(task, extractor, evaluate):
    """As DINOv2: pooled features alone."""

    class PooledAlone(type(extractor)):
        def extract(self, images, batch_size, progress=None):
            return Features(extractor.extract(images, batch_size).pooled, None, None)

    network = PooledAlone(**vars(replace(extractor, name="dinov2", class_names=None)))
    target = measure_images(from_arrays(*task[0], TASK), network, 64)
    values = evaluate(*task[1], network=network, target=target)["values"]
    found = {name.split("_")[0] for name, value in values.items() if value is not None}
    assert found == {"fd", "kd", "class", "precision", "recall"}
    assert all("_dinov2_" in name for name, value in values.items() if value is not None)


def test_importing_the_metrics_imports_nothing_heavy():
    modules = ("metrics", "judge", "features", "image_sets", "image_npz", "memorisation", "frechet", "reference")
    code = (
        f"import sys\nfor name in {modules}: __import__('kind.evaluation.' + name)\n"
        "assert not {'torch', 'sklearn', 'scipy', 'torch_fidelity'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
