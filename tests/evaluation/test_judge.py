from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from kind.errors import UserError
from kind.evaluation import pairwise
from kind.evaluation.judge import fit_judge, load_judge, save_judge


@pytest.fixture(scope="module")
def sklearns(digits):
    from sklearn.svm import SVC

    return SVC(C=10, kernel="rbf", gamma="scale").fit(digits.train.images.reshape(-1, 64) / 255.0, digits.train.labels)


@pytest.mark.parametrize("amplitude", [0, 40, 120])
def test_predicts_what_scikit_learn_predicts(judge, sklearns, digits, with_noise, amplitude):
    images = with_noise(np.concatenate([part.images for part in digits]), amplitude)
    np.testing.assert_array_equal(judge.predict(images), sklearns.predict(images.reshape(len(images), -1) / 255.0))


def test_predicts_pure_noise_and_ties_as_scikit_learn_does(judge, sklearns):
    """Far from all digits the votes often tie; the rule for ties is libsvm's."""
    images = np.random.default_rng(0).integers(0, 256, size=(1200, 8, 8, 1), dtype=np.uint8)
    predicted = judge.predict(images)
    np.testing.assert_array_equal(predicted, sklearns.predict(images.reshape(len(images), -1) / 255.0))
    assert tied_share(judge, images) > 0.01, "the example must hold ties"


def tied_share(judge, images):
    """Share of images with a tie at the top, from scikit-learn-free loops over the pairs."""
    x = images.reshape(len(images), -1) / 255.0
    kernel = np.exp(-judge.gamma * ((x[:, None, :200] - judge.support_vectors[None]) ** 2).sum(-1))
    bounds = np.concatenate([[0], np.cumsum(judge.num_support)])
    votes, pair = np.zeros((len(x), 10)), 0
    for i in range(10):
        for j in range(i + 1, 10):
            a, b = slice(bounds[i], bounds[i + 1]), slice(bounds[j], bounds[j + 1])
            value = kernel[:, a] @ judge.dual_coefficients[j - 1, a] + kernel[:, b] @ judge.dual_coefficients[i, b]
            positive = value + judge.intercepts[pair] > 0
            votes[np.arange(len(x)), np.where(positive, i, j)] += 1
            pair += 1
    top = np.sort(votes, axis=1)
    return np.mean(top[:, -1] == top[:, -2])


@pytest.mark.parametrize("labels", [(3, 8), (2, 5, 9)])
def test_few_classes_with_any_labels(digits, labels):
    from sklearn.svm import SVC

    chosen = np.isin(digits.train.labels, labels)
    images, targets = digits.train.images[chosen], digits.train.labels[chosen]
    expected = SVC(C=10).fit(images.reshape(-1, 64) / 255.0, targets).predict(digits.test.images.reshape(-1, 64) / 255)
    np.testing.assert_array_equal(fit_judge(images, targets).predict(digits.test.images), expected)


def test_good_on_digits_it_never_saw(judge, digits):
    assert judge.accuracy(*digits.test) > 0.97


def test_saved_and_loaded_without_scikit_learn(judge, digits, tmp_path, monkeypatch):
    path = tmp_path / "judge.npz"
    save_judge(path, judge)
    monkeypatch.setattr(pairwise, "BLOCK_ELEMENTS", 4000)
    loaded = load_judge(path)
    assert loaded.class_names == judge.class_names == tuple("0123456789")
    np.testing.assert_array_equal(loaded.predict(digits.test.images), judge.predict(digits.test.images))
    np.save(tmp_path / "images.npy", digits.test.images[:4])
    code = (
        "import sys, numpy as np; from kind.evaluation.judge import load_judge\n"
        f"load_judge({str(path)!r}).predict(np.load({str(tmp_path / 'images.npy')!r}))\n"
        "assert not {'sklearn', 'scipy', 'torch'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_refuses_what_it_cannot_judge(judge, digits, tmp_path):
    with pytest.raises(UserError, match=r"\(8, 8, 1\)"):
        judge.predict(np.zeros((2, 9, 9, 1), np.uint8))
    with pytest.raises(UserError, match="float64"):
        judge.predict(digits.test.images / 255.0)
    with pytest.raises(UserError, match="two classes"):
        fit_judge(digits.train.images[:5], np.zeros(5, int))
    with pytest.raises(UserError, match="class names"):
        fit_judge(*digits.train, list("01234"))
    np.savez(tmp_path / "other.npz", mu=np.zeros(3))
    with pytest.raises(UserError, match="it holds mu"):
        load_judge(tmp_path / "other.npz")
