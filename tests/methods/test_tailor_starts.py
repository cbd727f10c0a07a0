"""Tailors that begin with those of the seen classes, each start against a computation of its own in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kind.adaptation import adapt, learned_tensors
from kind.checkpoints import load_adapted, load_start, recombine, save_adapted
from kind.diffusion import Diffusion
from kind.errors import UserError
from kind.methods import METHODS, Material
from kind.models.dit import DiTConfig, build_dit
from kind.models.factorized import Factorization, factorize, factorized_layers
from kind.models.learngene import assemble, take_apart
from kind.models.presets import PRESETS
from kind.params.backbones import KindBackbone

KIND = METHODS["kind"]
SEEN = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 1.0], [10.0, 1.0]])


def whole_model():
    """Four classes with 3, 1, 2 and 2 tailors, and a group of the first two with one more."""
    config = DiTConfig(*PRESETS["micro/2"], image_size=8, channels=3, num_classes=4)
    factorization = Factorization(12, (3, 1, 2, 2), groups=(((0, 1), 1),))
    model = factorize(build_dit(config, 0), factorization, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def adapted(own=None, num_classes=2, **options):
    """Fresh tailors for classes with these embeddings, beside the model of the seen classes."""
    from kind.adaptation import Start

    whole = whole_model()
    learngenes = assemble(whole.config, whole.factorization, take_apart(whole).shared, [])
    material = Material(embeddings=own, seen_embeddings=SEEN, seen=whole)
    return adapt(Start(learngenes), KIND, KIND.options(**options), num_classes, 0, "random", material), whole


def tailors(model, name, label):
    return [part.detach().double().numpy() for part in model.get_submodule(name).components_of(label)]


def product(u, s, v):
    return (u.T * s) @ v


def test_mean_is_the_top_components_of_the_mean_matrix():
    model, whole = adapted(num_tailors=3, tailor_start="mean")
    for name, layer in factorized_layers(model):
        mean = sum(product(*tailors(whole, name, label)) for label in range(4)) / 4
        left, s, right = np.linalg.svd(mean)
        expected = (left[:, :3] * s[:3]) @ right[:3]
        for label in range(2):
            u, found, v = tailors(model, name, label)
            np.testing.assert_allclose(found, s[:3], rtol=1e-4)
            np.testing.assert_allclose(product(u, found, v), expected, atol=1e-5)
        assert layer.ranks.tailor_counts == (3, 3)


def test_what_the_mean_has_no_components_for_is_drawn_as_with_zero():
    model, _ = adapted(num_tailors=12, tailor_start="mean")
    zero, _ = adapted(num_tailors=12, tailor_start="zero")
    for name, _ in factorized_layers(model):
        for label in range(2):
            (u, s, v), (_, drawn_s, drawn_v) = tailors(model, name, label), tailors(zero, name, label)
            assert (np.abs(u).sum(axis=1) > 0).tolist() == [True] * 9 + [False] * 3  # 3 + 1 + 2 + 2 and the group's
            assert np.array_equal(s[9:], drawn_s[9:]) and np.array_equal(v[9:], drawn_v[9:])


def test_nearest_takes_the_tailors_of_the_class_that_is_nearest():
    own = torch.tensor([[9.0, 1.0], [2.0, 0.1], [1.0, 0.9]])
    model, whole = adapted(own, num_classes=3, num_tailors=2, tailor_start="nearest")
    for name, _ in factorized_layers(model):
        for label, other in ((0, 3), (1, 0), (2, 2)):
            u, s, v = tailors(whole, name, other)
            energy = np.abs(s) * np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
            order = np.argsort(-energy)[:2]
            for found, expected in zip(tailors(model, name, label), (u, s, v), strict=True):
                assert np.array_equal(found, expected[order])


def test_of_a_nearest_class_with_fewer_tailors_the_rest_is_drawn_as_with_zero():
    own = torch.tensor([[10.0, 0.0], [0.0, 0.0]])
    model, whole = adapted(own, num_tailors=5, tailor_start="nearest")
    zero, _ = adapted(num_tailors=5, tailor_start="zero")
    for name, _ in factorized_layers(model):
        for label, (other, count) in enumerate([(1, 2), (0, 4)]):  # their own, and the group's
            u, s, v = tailors(model, name, label)
            np.testing.assert_allclose(product(u, s, v), product(*tailors(whole, name, other)), atol=1e-6)
            assert not u[count:].any()
            assert np.array_equal(v[count:], tailors(zero, name, label)[2][count:])


@pytest.mark.parametrize("start", ["mean", "nearest"])
def test_an_adapted_file_is_read_without_the_seen_tailors(starts, tmp_path, start):
    options = KIND.options(tailor_start=start, num_tailors=3)
    seen = recombine(starts.kind, [starts.kind.with_name(name) for name in "abcde"]).model
    rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    material = Material(embeddings=rows[:3], seen_embeddings=rows[3:], seen=seen)
    loaded = load_start("kind", starts.kind)
    model = adapt(loaded, KIND, options, 3, 0, "random", material).eval()
    header = {
        "method": "kind", "options": options.model_dump(), "classes": ["x", "y", "z"],
        "config": model.config.to_dict(), "diffusion": Diffusion("cosine", "v").to_dict(),
        "null_gate": "learngenes", "label_table": "random", "seed": 0, "start": loaded.identity,
    }  # fmt: skip
    save_adapted(tmp_path / "adapted", learned_tensors(model), header)
    again = load_adapted(tmp_path / "adapted", starts.kind).model.eval()
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_embeddings_of_other_images_are_refused():
    with pytest.raises(
        UserError, match="class embeddings of 3 numbers, where those of the pre-training classes have 2"
    ):
        adapted(torch.zeros(2, 3), tailor_start="nearest")


@pytest.mark.parametrize("start", ["mean", "nearest"])
def test_backbones_without_tailors_of_classes_are_a_problem(start):
    shape = PRESETS["micro/2"]
    none, some = (KindBackbone(form="kind", num_learngenes=12, num_tailors=count) for count in (0, 2))
    message = f"tailor_start '{start}' begins with the tailors of the pre-training classes, and its backbone has none"
    options = KIND.options(tailor_start=start, num_tailors=2)
    assert KIND.problem(options, shape, some, 5, 3) is None
    assert KIND.problem(options, shape, none, 5, 3).startswith(message)
    for name in ("kind-dense", "kind-nogate"):
        control = METHODS[name]
        given = control.options(num_learngenes=8, tailor_start=start, num_tailors=2)
        assert control.problem(given, shape, none, 5, 3).startswith(message)
