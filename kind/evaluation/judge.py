"""The judge: a support vector machine on raw pixels, which knows neither the extractor nor any generative model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kind.artifacts import load_arrays, save_arrays
from kind.errors import UserError
from kind.evaluation.pairwise import row_blocks, squared_distances

REGULARIZATION = 10.0  # the C of the machine
BLOCK = 1000  # images whose pixels are float64 at once
ARRAYS = ("support_vectors", "dual_coefficients", "intercepts", "num_support", "classes", "gamma", "image_shape")


@dataclass(frozen=True)
class Judge:
    """A fitted one-against-one RBF machine; predicts without scikit-learn, whose import costs 2.6 s a job.

    support_vectors [V, P] in [0, 1], grouped by class; dual_coefficients [K - 1, V]; intercepts [K (K - 1) / 2] in
    the order (0, 1), (0, 2), ..., (1, 2), ...; num_support [K]; classes [K] int64; image_shape (H, W, C).
    class_names names the labels; None means that they are the labels of whatever task is judged.
    """

    support_vectors: np.ndarray
    dual_coefficients: np.ndarray
    intercepts: np.ndarray
    num_support: np.ndarray
    classes: np.ndarray
    gamma: float
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...] | None = None
    name: ClassVar[str] = "svc"

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Labels by one vote a pair of classes; of equally many votes the lower class wins.

        f_ij(x) = sum_v c_v exp(-gamma |x - v|^2) + b_ij;  i gets the vote where f_ij > 0, otherwise j.
        uint8 [N, H, W, C] -> int64 [N].  Raises UserError for other dtypes or shapes.
        Source: libsvm, svm_predict_values.
        """
        blocks = [self._predict(images[start : start + BLOCK]) for start in range(0, len(images), BLOCK)]
        return np.concatenate(blocks) if blocks else np.empty(0, np.int64)

    def _predict(self, images: np.ndarray) -> np.ndarray:
        pixels = _pixels(images, self.image_shape)
        stops = np.cumsum(self.num_support)
        groups = [slice(stop - count, stop) for stop, count in zip(stops, self.num_support, strict=True)]
        winners = np.empty(len(pixels), np.int64)
        for rows, block in row_blocks(pixels, len(self.support_vectors)):
            kernel = np.exp(-self.gamma * squared_distances(block, self.support_vectors))
            votes = np.zeros((len(block), len(self.classes)), np.int64)
            for (i, j), intercept in zip(_pairs(len(self.classes)), self.intercepts, strict=True):
                decision = kernel[:, groups[i]] @ self.dual_coefficients[j - 1, groups[i]]
                decision += kernel[:, groups[j]] @ self.dual_coefficients[i, groups[j]]
                for_first = decision + intercept > 0
                votes[:, i] += for_first
                votes[:, j] += ~for_first
            winners[rows] = votes.argmax(axis=1)
        return self.classes[winners]

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Share of images whose predicted label is the given one.  [N, H, W, C], [N] -> number in [0, 1]."""
        return float(np.mean(self.predict(images) == _labels(images, labels)))


def fit_judge(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    *,
    regularization: float = REGULARIZATION,
) -> Judge:
    """scikit-learn's SVC with an RBF kernel, gamma = 1 / (P var(x)) ("scale"), on pixels in [0, 1].

    uint8 [N, H, W, C], integer [N]; `class_names[label]` names a class.  Give it real training images only.
    Raises UserError for other dtypes or shapes, fewer than two classes, or labels without a name.
    """
    from sklearn.svm import SVC

    pixels = _pixels(images, images.shape[1:])
    labels = _labels(images, labels)
    classes = np.unique(labels)
    if len(classes) < 2:
        raise UserError(f"a judge needs training images of at least two classes; got {classes.tolist()}")
    if class_names is not None and not 0 <= classes[0] <= classes[-1] < len(class_names):
        raise UserError(f"labels run from {classes[0]} to {classes[-1]}, but there are {len(class_names)} class names")
    variance = float(pixels.var())
    gamma = 1.0 / (pixels.shape[1] * variance) if variance > 0 else 1.0
    machine = SVC(C=regularization, kernel="rbf", gamma=gamma).fit(pixels, labels)
    # For two classes scikit-learn turns libsvm's signs round, so that a positive value means the second class.
    sign = -1.0 if len(classes) == 2 else 1.0
    return Judge(
        support_vectors=machine.support_vectors_,
        dual_coefficients=sign * machine.dual_coef_,
        intercepts=sign * machine.intercept_,
        num_support=machine.n_support_.astype(np.int64),
        classes=classes,
        gamma=gamma,
        image_shape=tuple(images.shape[1:]),
        class_names=None if class_names is None else tuple(class_names),
    )


def save_judge(path: str | os.PathLike, judge: Judge) -> None:
    """Writes a judge as an npz file of plain arrays."""
    arrays = {name: np.asarray(getattr(judge, name)) for name in ARRAYS}
    if judge.class_names is not None:
        arrays["class_names"] = np.array(judge.class_names, dtype=str)
    save_arrays(path, **arrays)


def load_judge(path: str | os.PathLike) -> Judge:
    """Reads what `save_judge` wrote; raises UserError with the arrays found for another file."""
    arrays = load_arrays(path, required=ARRAYS)
    names = arrays.get("class_names")
    _check_arrays(path, arrays)
    return Judge(
        **{name: arrays[name] for name in ARRAYS[:5]},
        gamma=float(arrays["gamma"]),
        image_shape=tuple(int(size) for size in arrays["image_shape"]),
        class_names=None if names is None else tuple(str(name) for name in names),
    )


DTYPES = {np.integer: "integers", np.floating: "floats"}


def _check_arrays(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    """Raises UserError naming the first array of another dtype or shape."""
    num_vectors, num_classes = (
        arrays[name].shape[0] if arrays[name].ndim else 0 for name in ("support_vectors", "classes")
    )
    pixels = int(np.prod(arrays["image_shape"])) if arrays["image_shape"].dtype.kind == "i" else 0
    for name, dtype, shape in (
        ("image_shape", np.integer, (3,)),
        ("support_vectors", np.floating, (num_vectors, pixels)),
        ("dual_coefficients", np.floating, (num_classes - 1, num_vectors)),
        ("intercepts", np.floating, (num_classes * (num_classes - 1) // 2,)),
        ("num_support", np.integer, (num_classes,)),
        ("classes", np.integer, (num_classes,)),
        ("gamma", np.floating, ()),
    ):
        found = arrays[name]
        if not np.issubdtype(found.dtype, dtype) or found.shape != shape:
            raise UserError(
                f"{path}: {name} is {found.dtype} {list(found.shape)}, expected {DTYPES[dtype]} {list(shape)}",
                hint="delete it and run the reference stage again, or snakemake",
            )


def _pairs(num_classes: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(num_classes) for j in range(i + 1, num_classes)]


def _pixels(images: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """[N, H, W, C] uint8 -> [N, H W C] float64 in [0, 1]."""
    if images.dtype != np.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != tuple(image_shape):
        expected = f"uint8 [N, H, W, C] with (H, W, C) = {tuple(image_shape)}"
        raise UserError(f"the judge takes {expected}; got {images.dtype} {images.shape}")
    return images.reshape(len(images), -1).astype(np.float64) / 255.0


def _labels(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{len(images)} images need {len(images)} integer labels; got {labels.dtype} {labels.shape}")
    return labels.astype(np.int64)
