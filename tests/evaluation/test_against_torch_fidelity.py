"""FID, KID and Inception Score as torch-fidelity itself finds them: same network, same PNG files, its own code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from kind.evaluation.feature_sets import FeatureSet, measure_images
from kind.evaluation.features import load_extractor
from kind.evaluation.frechet import frechet_distance
from kind.evaluation.image_folders import from_folder
from kind.evaluation.inception_score import inception_score
from kind.evaluation.kernel_distance import kernel_distance

COUNT, BATCH = 12, 6  # its FID takes seconds whatever the count: eigenvalues of a 2048 x 2048 product


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of PNG files, coarse colours with noise, of other brightness."""
    rng = np.random.default_rng(0)
    found = []
    for brightness in (1.0, 0.7):
        coarse = rng.integers(0, 256, (COUNT, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
        images = np.clip(brightness * coarse + rng.normal(scale=20, size=coarse.shape), 0, 255).astype(np.uint8)
        found.append(tmp_path_factory.mktemp("pictures"))
        for index, image in enumerate(images):
            Image.fromarray(image).save(found[-1] / f"{index:02d}.png")
    return found


@pytest.fixture(scope="module")
def ours(folders, inception_path) -> list[FeatureSet]:
    extractor = load_extractor(inception_path)
    return [measure_images(from_folder(folder), extractor, BATCH) for folder in folders]


@pytest.fixture(scope="module")
def theirs(folders, inception_path) -> dict[str, float]:
    from torch_fidelity import calculate_metrics

    return calculate_metrics(
        input1=str(folders[0]), input2=str(folders[1]), feature_extractor_weights_path=str(inception_path),
        fid=True, kid=True, isc=True, isc_splits=1, kid_subsets=1, kid_subset_size=COUNT,
        batch_size=BATCH, cuda=False, cache=False, verbose=False,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_fid(ours, theirs):
    found = frechet_distance(*(features.pooled_statistics for features in ours))
    assert found == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


def test_kid(ours, theirs):
    """It calculates in float32, of which a difference of means leaves five digits; its formula in float64 has ten."""
    from torch_fidelity.metric_kid import kid_features_to_metric

    found = kernel_distance(ours[0].pooled, ours[1].pooled)
    assert found == pytest.approx(theirs["kernel_inception_distance_mean"], rel=5e-5)
    pooled = [torch.from_numpy(features.pooled.astype(np.float64)) for features in ours]
    exact = kid_features_to_metric(*pooled, kid_subsets=1, kid_subset_size=COUNT, verbose=False)
    assert found == pytest.approx(exact["kernel_inception_distance_mean"], rel=1e-10)


def test_inception_score(ours, theirs):
    score = theirs["inception_score_mean"]
    assert inception_score(ours[0].logits) - 1 == pytest.approx(score - 1, rel=1e-6), "random weights give just over 1"
