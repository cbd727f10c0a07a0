"""Energy and similarity of components against whole matrices in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kind.analysis.components import (
    centred_cosines,
    cosines,
    energy_rows,
    learngene_energy,
    products_by_block,
    tailor_products,
)
from kind.models.dit import DiTConfig, build_dit
from kind.models.factorized import Factorization, factorize
from kind.models.presets import PRESETS

CLASSES = 4
KINDS = ("q", "k", "v", "o", "in", "out")


@pytest.fixture(scope="module")
def model(build):
    """Shaken, so that no u or v is of length one, or orthogonal to another."""
    return build(num_classes=CLASSES, learngenes=10, tailors=3)


def whole(layer, part: str, rows: slice = slice(None)) -> np.ndarray:
    """The sum of some components as a matrix, [out, in]."""
    u, s, v = (getattr(layer, f"{part}_{one}").detach().double().numpy()[rows] for one in "usv")
    return sum(np.outer(left, right) * size for left, size, right in zip(u, s, v, strict=True))


def own(layer) -> list[np.ndarray]:
    return [whole(layer, "tailor", slice(3 * label, 3 * label + 3)) for label in range(CLASSES)]


def layers(model, index):
    block = model.transformer_blocks[index]
    attention, feed = block.attn1, block.ff.net
    return [attention.to_q, attention.to_k, attention.to_v, attention.to_out[0], feed[0].proj, feed[2]]


def test_energies_are_squared_norms_of_whole_matrices(model):
    rows = energy_rows(model)
    assert [(row["block"], row["matrix"]) for row in rows] == [(index, kind) for index in (0, 1) for kind in KINDS]
    for row, layer in zip(rows, [*layers(model, 0), *layers(model, 1)], strict=True):
        shared = np.linalg.norm(whole(layer, "learngene")) ** 2
        tailors = [np.linalg.norm(each) ** 2 for each in own(layer)]
        assert row["learngene_energy"] == pytest.approx(shared, rel=1e-9)
        assert row["tailor_energy_mean"] == pytest.approx(np.mean(tailors), rel=1e-9)
        assert row["tailor_energy_std"] == pytest.approx(np.std(tailors, ddof=1), rel=1e-9)
        assert row["tailor_share"] == pytest.approx(np.mean(tailors) / (shared + np.mean(tailors)), rel=1e-9)
        squares = float((layer.learngene_s.detach().double() ** 2).sum())
        assert abs(shared / squares - 1) > 0.05, "components that are not orthonormal are what this is about"


def test_similarity_is_the_cosine_of_all_tailors_of_a_class_as_one_vector(model):
    by_block = products_by_block(model)
    vectors = [
        np.stack([np.concatenate([own(layer)[label].ravel() for layer in layers(model, index)]) for label in range(4)])
        for index in (0, 1)
    ]
    for index in (0, 1):
        np.testing.assert_allclose(by_block[index], vectors[index] @ vectors[index].T, rtol=1e-9)
    together = np.concatenate(vectors, axis=1)
    unit = together / np.linalg.norm(together, axis=1, keepdims=True)
    np.testing.assert_allclose(cosines(by_block.sum(0)), unit @ unit.T, rtol=1e-9)
    np.testing.assert_allclose(cosines(by_block)[1].diagonal(), 1)


def test_tailors_of_a_group_count_for_each_of_its_classes():
    config = DiTConfig(*PRESETS["micro/2"], image_size=8, channels=1, num_classes=3)
    groups = (((0, 2), 2),)
    grouped = factorize(build_dit(config, 0), Factorization(10, 1, groups=groups), 0)
    layer = grouped.transformer_blocks[0].attn1.to_k  # rows: of the classes 0, 1 and 2, then the group's two
    matrices = [
        whole(layer, "tailor", slice(label, label + 1)) + (whole(layer, "tailor", slice(3, 5)) if label != 1 else 0)
        for label in range(3)
    ]
    wanted = [[float((one * other).sum()) for other in matrices] for one in matrices]
    np.testing.assert_allclose(tailor_products(layer), wanted, rtol=1e-6, atol=1e-9)


def test_a_matrix_of_nothing_has_no_share(build):
    model = build(num_classes=2, learngenes=4, tailors=1)
    layer = model.transformer_blocks[0].attn1.to_q
    with torch.no_grad():
        layer.learngene_s.zero_()
        layer.tailor_s.zero_()
    assert learngene_energy(layer) == 0
    assert energy_rows(model)[0]["tailor_share"] is None
    assert cosines(tailor_products(layer)).isnan().all()


def test_pictures_are_compared_less_their_mean():
    means = torch.tensor([[3.0, 1.0], [1.0, 1.0], [2.0, 4.0]])
    found = centred_cosines(means)  # less (2, 2): (1, -1), (-1, -1), (0, 2)
    half = -(0.5**0.5)
    np.testing.assert_allclose(found, [[1, 0, half], [0, 1, half], [half, half, 1]], atol=1e-12)
