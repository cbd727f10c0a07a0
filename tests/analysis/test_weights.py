"""The matrices of adapted models, per method, against what numpy makes of their parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kind.adaptation import Start, adapt
from kind.analysis.weights import compare_weights, reference_matrices
from kind.methods import METHODS
from kind.models.recombine import keep

CLASSES = 3


@pytest.fixture
def begin(build):
    """begin(name, **options) -> the start with the method attached, not trained."""

    def begin(name: str, **options):
        method = METHODS[name]
        model = build(num_classes=2) if method.start == "dense" else keep(build(learngenes=10, tailors=2), [])
        chosen = method.options.model_validate(options)
        return adapt(Start(model), method, chosen, CLASSES, 0, "random")

    return begin


def shake(model, seed: int = 3):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def numpy_drift(tuned: np.ndarray, reference: np.ndarray) -> float:
    return np.linalg.norm(tuned - reference) / np.linalg.norm(reference)


def double(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def test_tailors_are_compared_with_learngenes_class_by_class(begin):
    model = shake(begin("kind", num_tailors=2))
    rows = compare_weights(model, reference_matrices(begin("kind", num_tailors=2)), 10, 0.6)
    assert [(row["block"], row["matrix"]) for row in rows[:7]] == [
        *((0, kind) for kind in ("q", "k", "v", "o", "in", "out")), (1, "q")
    ]  # fmt: skip
    layer = model.transformer_blocks[1].attn1.to_k
    u, s, v = (double(getattr(layer, f"tailor_{one}")) for one in "usv")
    reference = np.einsum("ko,k,ki->oi", *(double(getattr(layer, f"learngene_{one}")) for one in "usv"))
    own = [np.einsum("ko,k,ki->oi", u[rows], s[rows], v[rows]) for rows in (slice(0, 2), slice(2, 4), slice(4, 6))]
    (found,) = [row for row in rows if (row["block"], row["matrix"]) == (1, "k")]
    assert found["drift"] == pytest.approx(np.mean([numpy_drift(reference + one, reference) for one in own]), rel=1e-5)
    shares = [np.linalg.svd(one)[1] / np.linalg.svd(one)[1].sum() for one in own]
    ranks = [np.exp(-sum(p * np.log(p) for p in one if p > 1e-12)) for one in shares]
    assert found["effective_rank"] == pytest.approx(np.mean(ranks), rel=1e-3)
    assert all(1 < row["effective_rank"] <= 2.01 for row in rows)


def test_a_control_that_cuts_its_backbone_is_compared_with_what_it_kept(begin):
    model = begin("kind-dense", num_learngenes=6, num_tailors=1, tailor_start="zero")
    assert all(row["drift"] == 0 for row in compare_weights(model, reference_matrices(model), 10, 0.6))


def test_merged_methods_are_compared_with_the_backbone(begin, build):
    model = METHODS["lora"].merge(shake(begin("lora", rank=2)))
    start = build(num_classes=2)
    (found,) = [row for row in compare_weights(model, reference_matrices(start), 10, 0.6)
                if (row["block"], row["matrix"]) == (0, "out")]  # fmt: skip
    tuned, reference = (double(one.transformer_blocks[0].ff.net[2].weight) for one in (model, start))
    assert found["drift"] == pytest.approx(numpy_drift(tuned, reference), rel=1e-6) and found["drift"] > 0
    assert 1 < found["effective_rank"] <= 2.01


def test_gated_adapters_stand_beside_the_backbones_matrix(begin, build):
    model, start = shake(begin("gated-lora", rank=1)), build(num_classes=2)
    references = reference_matrices(begin("gated-lora", rank=1))
    name = "transformer_blocks.0.attn1.to_v"
    assert torch.equal(references[name], start.get_submodule(name).weight)
    adapters = model.get_submodule(name).adapters
    u, s, v = (double(getattr(adapters, f"tailor_{one}")) for one in "usv")
    size = np.linalg.norm(double(references[name]))
    wanted = np.mean([np.linalg.norm(u[c]) * abs(s[c]) * np.linalg.norm(v[c]) / size for c in range(CLASSES)])
    (found,) = [row for row in compare_weights(model, references, 10, 0.6) if (row["block"], row["matrix"]) == (0, "v")]
    assert found["drift"] == pytest.approx(wanted, rel=1e-5)


def test_a_layer_that_is_no_matrix_has_no_row(begin, build):
    assert (
        compare_weights(begin("diffscaler", rank=2, scale=1.0), reference_matrices(build(num_classes=2)), 10, 0.6) == []
    )
