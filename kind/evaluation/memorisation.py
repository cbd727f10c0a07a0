"""How near generated images come to the training images, beside how near real unseen images come."""

from __future__ import annotations

import numpy as np

from kind.errors import UserError
from kind.evaluation.pairwise import row_blocks, squared_distances

LOW_PERCENTILE = 5


def nearest_distances(images: np.ndarray, train_images: np.ndarray) -> np.ndarray:
    """min_j sqrt(mean_p (x_p - t_jp)^2): root mean square pixel difference to the nearest training image.

    uint8 [N, H, W, C], [T, H, W, C] -> float64 [N] in [0, 1], where 1 is black against white and 0 a copy.
    Raises UserError for other dtypes, unequal image shapes or an empty set.
    """
    for name, array in (("images", images), ("training images", train_images)):
        if array.dtype != np.uint8 or array.ndim != 4 or len(array) == 0:
            raise UserError(f"{name} must be uint8 [N, H, W, C] with N >= 1; got {array.dtype} {array.shape}")
    if images.shape[1:] != train_images.shape[1:]:
        raise UserError(f"images are {images.shape[1:]} but training images are {train_images.shape[1:]} (H, W, C)")
    points, train = images.reshape(len(images), -1), train_images.reshape(len(train_images), -1)
    nearest = np.full(len(points), np.inf)
    for rows, block in row_blocks(points):
        for _, others in row_blocks(train, len(block)):
            nearest[rows] = np.minimum(nearest[rows], squared_distances(block, others).min(axis=1))
    return np.sqrt(nearest / points.shape[1]) / 255.0


def memorisation_report(samples: np.ndarray, test: np.ndarray, num_train: int) -> dict[str, float | int]:
    """From `nearest_distances` of samples [N] and of real test images [M]: summaries, and the share that is suspect.

    share_below_test_p5 = share of samples nearer to a training image than all but 5 % of real test images are.
    Samples that are as new as real images give about 0.05; a model that copies gives a share near 1.
    share_copies is the share of samples that equal a training image in every pixel.
    """
    threshold = float(np.percentile(test, LOW_PERCENTILE))
    return {
        "num_samples": len(samples),
        "num_test": len(test),
        "num_train": num_train,
        "sample_median": float(np.median(samples)),
        "sample_p5": float(np.percentile(samples, LOW_PERCENTILE)),
        "test_median": float(np.median(test)),
        "test_p5": threshold,
        "share_below_test_p5": float(np.mean(samples < threshold)),
        "share_copies": float(np.mean(samples == 0.0)),
    }
