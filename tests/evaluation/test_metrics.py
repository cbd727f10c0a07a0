from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from kind.errors import UserError
from kind.evaluation.features import INCEPTION, INCEPTION_SHA256, Features
from kind.evaluation.frechet import frechet_distance, gaussian_statistics
from kind.evaluation.inception_score import inception_score
from kind.evaluation.judge import fit_judge
from kind.evaluation.kernel_distance import kernel_distance
from kind.evaluation.memorisation import nearest_distances
from kind.evaluation.metrics import build_reference, count_label, evaluate_images, metric_names
from kind.evaluation.precision_recall import precision_recall
from kind.evaluation.reference import load_reference, save_reference

TASK = ("9", "7", "8")  # neither sorted nor all classes: labels must go by name


@pytest.fixture(scope="module")
def task(digits):
    """Test and training digits of the task's classes, labelled by their place in TASK."""

    def part(split):
        chosen = np.isin(split.labels, [int(name) for name in TASK])
        return split.images[chosen], np.array([TASK.index(str(label)) for label in split.labels[chosen]])

    return part(digits.test), part(digits.train)


@pytest.fixture(scope="module")
def reference(task, extractor):
    return build_reference(*task[0], TASK, extractor, 64)


@pytest.fixture(scope="module")
def result(task, extractor, reference, judge):
    (samples, labels), (test, _) = task[1], task[0]
    return evaluate_images(
        samples[:100],
        labels[:100],
        extractor=extractor,
        reference=reference,
        judge=judge,
        train_images=samples[100:],
        test_images=test,
        batch_size=64,
    )


def test_counts_are_short_and_exact():
    counts = {500: "500", 999: "999", 1000: "1k", 1797: "1797", 2000: "2k", 50000: "50k", 50500: "50500"}
    assert {count: count_label(count) for count in counts} == counts


def test_names_say_extractor_and_counts():
    assert list(metric_names("digits", 500, 180).values()) == [
        "fd_digits_500_vs_180",
        "sfd_digits_500_vs_180",
        "kd_digits_500_vs_180",
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
        "precision_50k_vs_10k",
        "recall_50k_vs_10k",
        "is_50k",
        "accuracy_svc_50k",
        "nearest_train_50k",
    ]
    assert not any("fid" in name or "kid" in name for name in metric_names("digits", 5, 5).values())


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


def test_wrong_labels_show_in_the_accuracies(task, extractor, reference, judge):
    samples, labels = (part[:90] for part in task[0])
    found = evaluate_images(
        samples, (labels + 1) % 3, extractor=extractor, reference=reference, judge=judge, batch_size=64
    )
    assert found["values"]["accuracy_svc_90"] < 0.1
    assert found["values"]["accuracy_digits_90"] < 0.1
    assert found["values"]["nearest_train_90"] is None
    assert found["memorisation"] is None


def test_few_images_are_called_indicative(result, task, extractor, reference):
    assert not result["warnings"]
    few = evaluate_images(task[1][0][:40], task[1][1][:40], extractor=extractor, reference=reference, batch_size=64)
    assert [warning for warning in few["warnings"] if "sfd_digits_40" in warning and "indicative only" in warning]
    assert not [warning for warning in few["warnings"] if warning.startswith("fd_digits_40")], "40 > 32 + 1"
    assert few["values"]["accuracy_svc_40"] is None
    one = evaluate_images(task[1][0][:1], task[1][1][:1], extractor=extractor, reference=reference, batch_size=64)
    assert one["values"][f"fd_digits_1_vs_{reference.count}"] is None
    assert one["values"]["is_digits_1"] == pytest.approx(1.0)


def test_a_class_that_judge_or_extractor_never_saw_gives_no_accuracy(task, extractor, judge):
    images, labels = task[0]
    reference = build_reference(images, labels, ("9", "7", "A"), extractor, 64)
    found = evaluate_images(images, labels, extractor=extractor, reference=reference, judge=judge, batch_size=64)
    assert found["values"][f"accuracy_digits_{len(images)}"] is None
    assert found["values"][f"accuracy_svc_{len(images)}"] is None
    assert len([warning for warning in found["warnings"] if "does not know the classes A" in warning]) == 2


def test_a_judge_without_names_judges_the_tasks_own_labels(task, extractor, reference):
    nameless = fit_judge(*task[1])
    found = evaluate_images(*task[0], extractor=extractor, reference=reference, judge=nameless, batch_size=64)
    assert found["values"][f"accuracy_svc_{reference.count}"] > 0.95


def test_training_images_as_the_test_set_are_noticed(task, extractor, reference):
    found = evaluate_images(*task[0], extractor=extractor, reference=reference, train_images=task[0][0], batch_size=64)
    assert any("test images are training images" in warning for warning in found["warnings"])
    assert found["memorisation"]["share_copies"] == 1.0


def test_inception_weights_of_another_origin_are_said_so(task, extractor, reference):
    """The real names, over a network that stands in for Inception here."""
    stand_in = replace(extractor, name=INCEPTION, class_names=None)
    known = replace(stand_in, identity=INCEPTION_SHA256 + "0" * 56)
    for network, warned in ((stand_in, True), (known, False)):
        target = build_reference(*task[0], TASK, network, 64)
        found = evaluate_images(*task[0], extractor=network, reference=target, batch_size=64)
        assert f"fid_{target.count}_vs_{target.count}" in found["values"]
        assert any("not the published ones" in warning for warning in found["warnings"]) == warned


def test_another_extractor_or_batch_size_is_refused(task, extractor, reference):
    for changes, message in (({"identity": "0" * 64}, "made by extractor digits"), ({"name": "other"}, "other")):
        with pytest.raises(UserError, match=message):
            evaluate_images(*task[0], extractor=replace(extractor, **changes), reference=reference, batch_size=64)
    with pytest.raises(UserError, match="batches of 64"):
        evaluate_images(*task[0], extractor=extractor, reference=reference, batch_size=32)
    with pytest.raises(UserError, match="labels run from 0 to 3"):
        evaluate_images(task[0][0][:4], np.arange(4), extractor=extractor, reference=reference, batch_size=64)


# --- the reference file ---------------------------------------------------------------------------------------


def test_reference_file_is_adms_with_more(reference, tmp_path):
    path = tmp_path / "reference.npz"
    save_reference(path, reference, {"reference": "test", "resize": None})
    with np.load(path) as arrays:
        assert set(arrays.files) == {
            "mu", "sigma", "mu_s", "sigma_s", "pooled", "spatial", "logits", "labels", "arr_0", "protocol",
        }  # fmt: skip
        assert {arrays[name].dtype for name in ("mu", "sigma", "mu_s", "sigma_s")} == {np.dtype(np.float64)}
        np.testing.assert_allclose(arrays["sigma"], np.cov(arrays["pooled"].astype(np.float64).T), rtol=1e-9)
        np.testing.assert_allclose(arrays["sigma_s"], np.cov(arrays["spatial"].astype(np.float64).T), rtol=1e-9)
        assert (arrays["arr_0"].dtype, arrays["arr_0"].ndim) == (np.uint8, 4)
    loaded = load_reference(path)
    assert loaded.protocol == {"reference": "test", "resize": None}
    assert (loaded.class_names, loaded.count, loaded.batch_size) == (TASK, reference.count, 64)
    assert (loaded.extractor, loaded.extractor_identity) == (reference.extractor, reference.extractor_identity)
    assert frechet_distance(loaded.pooled_statistics, reference.pooled_statistics) < 1e-9
    for first, second in zip(loaded.features, reference.features, strict=True):
        np.testing.assert_array_equal(first, second)
    first_bytes = path.read_bytes()
    save_reference(path, loaded, loaded.protocol)
    assert path.read_bytes() == first_bytes


def test_a_wrong_reference_file_says_what_it_holds(tmp_path):
    np.savez(tmp_path / "fid.npz", mu=np.zeros(2), sigma=np.eye(2))
    with pytest.raises(UserError, match=r"fid\.npz: has no array mu_s.*it holds mu, sigma"):
        load_reference(tmp_path / "fid.npz")


def test_a_reference_of_broken_features_is_refused(task, extractor):
    class Broken(type(extractor)):
        def extract(self, images, batch_size, progress=None):
            features = extractor.extract(images, batch_size, progress)
            return Features(np.full_like(features.pooled, np.nan), features.spatial, features.logits)

    broken = Broken(**vars(extractor))
    with pytest.raises(UserError, match="not finite"):
        build_reference(*task[0], TASK, broken, 64)


def test_importing_the_metrics_imports_nothing_heavy():
    modules = ("metrics", "judge", "features", "reader", "memorisation", "frechet", "reference")
    code = (
        f"import sys\nfor name in {modules}: __import__('kind.evaluation.' + name)\n"
        "assert not {'torch', 'sklearn', 'scipy', 'torch_fidelity'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
