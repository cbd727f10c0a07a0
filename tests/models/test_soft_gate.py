"""Behind a soft gate every class uses all tailors, in shares that its embedding gives."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import kind
from kind.api import KindModel
from kind.diffusion import Diffusion
from kind.errors import UserError
from kind.evaluation.complexity import describe_cost
from kind.models.dit import DiTConfig, build_dit
from kind.models.factorization import SoftGating
from kind.models.factorized import Factorization, factorize, factorized_layers
from kind.models.presets import PRESETS
from kind.optimizer import Optimizer

SOFT = SoftGating(hidden=(8,), scale="tailors", embedding_size=6)
NULL = 5


@pytest.fixture(scope="module")
def model(build):
    return build(learngenes=12, tailors=20, soft=SOFT)


@pytest.fixture
def api_model(model) -> KindModel:
    return KindModel(copy.deepcopy(model), tuple("abcde"), Diffusion("cosine", "v"))


def shares_by_hand(model, label) -> np.ndarray:
    """T softmax(W2 silu(W1 e + b1) + b2) in float64."""
    state = {name: tensor.double().numpy() for name, tensor in model.class_shares.state_dict().items()}
    hidden = state["mlp.0.weight"] @ state["embeddings"][label] + state["mlp.0.bias"]
    logits = state["mlp.2.weight"] @ (hidden / (1 + np.exp(-hidden))) + state["mlp.2.bias"]
    weights = np.exp(logits - logits.max())
    return 20 * weights / weights.sum()


def matrix_by_hand(layer, shares) -> np.ndarray:
    own = {name: p.detach().double().numpy() for name, p in layer.named_parameters()}
    learngenes = own["learngene_u"].T * own["learngene_s"] @ own["learngene_v"]
    return learngenes + own["tailor_u"].T * (shares * own["tailor_s"]) @ own["tailor_v"]


@torch.no_grad()
def test_each_sample_sees_the_matrix_of_its_class(model):
    labels = [3, 0, NULL, 0, 4]
    model.gate.open(torch.tensor(labels))
    for _, layer in factorized_layers(model):
        x = torch.randn(5, 7, layer.in_features, generator=torch.Generator().manual_seed(0))
        for row, label in enumerate(labels):
            weight = matrix_by_hand(layer, 0 if label == NULL else shares_by_hand(model, label))
            expected = x[row].double().numpy() @ weight.T + layer.bias.double().numpy()
            np.testing.assert_allclose(layer(x)[row].double(), expected, rtol=1e-4, atol=1e-4)
            if label != NULL:
                np.testing.assert_allclose(layer.dense_weight(label).double(), weight, rtol=1e-4, atol=1e-5)
        flat = layer(x[:, 0])  # as AdaLN's inputs are
        torch.testing.assert_close(flat, layer(x)[:, 0], rtol=1e-5, atol=1e-5)


def test_embeddings_are_standardised_by_the_pretraining_classes(model):
    shares = copy.deepcopy(model.class_shares)
    seen = torch.tensor([[0.0, 1.0, 5.0], [2.0, 1.0, 5.0], [4.0, 1.0, 8.0]])
    shares.register_buffer("mean", torch.zeros(3))
    shares.register_buffer("spread", torch.ones(3))
    shares.make_room(3)
    shares.know_seen(seen)
    rows = seen.double().numpy()
    variance = rows.var(axis=0)
    spread = np.sqrt(np.maximum(variance, 0.01 * variance.mean()))
    np.testing.assert_allclose(shares.embeddings, (rows - rows.mean(axis=0)) / spread, rtol=1e-6)
    assert shares.embeddings[:, 1].tolist() == [0, 0, 0]
    shares.make_room(1)
    shares.know(torch.tensor([[8.0, 2.0, 6.0]]))
    np.testing.assert_allclose(shares.embeddings[0], ([8, 2, 6] - rows.mean(axis=0)) / spread, rtol=1e-6)


def test_classes_that_are_alike_are_no_division_by_zero(build):
    shares = build(learngenes=4, tailors=3, soft=SOFT).class_shares
    shares.know_seen(torch.ones(5, 6))
    assert shares.embeddings.tolist() == [[0] * 6] * 5


@torch.no_grad()
def test_shares_scaled_by_tailors_start_as_the_dense_draw(build, model_inputs):
    dense = build()
    for scale, same in (("tailors", True), ("none", False)):
        soft = SoftGating((8,), scale, 6)
        everyone = ((tuple(range(5)), 20),)
        whole = factorize(copy.deepcopy(dense), Factorization(12, 0, groups=everyone, soft=soft), seed=3)
        whole.class_shares.know_seen(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)))
        images, times, labels = model_inputs(dense)
        classes = labels % 5  # of the null class learngenes alone are left
        found, expected = whole(images, times, classes), dense(images, times, classes)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4) == same


def test_recomputed_blocks_give_the_same_gradients(build, model_inputs):
    gradients = []
    for recompute in (False, True):
        model = build(learngenes=12, tailors=20, soft=SOFT)
        model.recompute_blocks = recompute
        model(*model_inputs(model)).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-7)


def test_tailors_are_ordinary_parameters_of_the_optimiser(build, model_inputs):
    model = build(learngenes=12, tailors=20, soft=SOFT).double()  # keys' biases have no gradient but rounding
    twin, trained = copy.deepcopy(model), dict(model.named_parameters())
    optimizer = Optimizer(model, trained, 0.1)
    plain = torch.optim.AdamW(twin.parameters(), lr=1e-2, weight_decay=0.1)
    images, times, labels = model_inputs(model, batch=4)
    for now in (labels, torch.full_like(labels, NULL), labels.clamp(max=1)):  # without a class nothing is absent
        for one in (model, twin):
            one.zero_grad(set_to_none=True)
            one(images.double(), times, now).square().mean().backward()
        optimizer.step(now, 1e-2)
        plain.step()
    for found, expected in zip(trained.values(), twin.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_model_is_copied_after_a_forward_pass(build, model_inputs):
    model = build(learngenes=12, tailors=20, soft=SOFT)
    inputs = model_inputs(model)
    expected = model(*inputs)
    again = copy.deepcopy(model)
    assert again.gate.class_shares is again.class_shares
    assert torch.equal(again(*inputs), expected)


def test_cost_counts_all_tailors_and_the_gate_once(model):
    soft, full = describe_cost(model), describe_cost(_all_shared())
    gate = (6 + 1) * 8 + (8 + 1) * 20
    assert soft["deployed"] == soft["active"] == full["deployed"] + gate
    assert soft["macs"] == full["macs"] + 6 * 8 + 8 * 20


def _all_shared():
    config = DiTConfig(*PRESETS["micro/2"], image_size=8, channels=3, num_classes=5)
    return factorize(build_dit(config, 0), Factorization(32, 0), 0)


# --- other classes, and files ---------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("kept", [[4, 1], [3], []])
def test_kept_classes_compute_what_the_whole_model_does(api_model, kept):
    small = api_model.keep(["abcde"[label] for label in kept])
    images, times = torch.randn(4, 3, 8, 8), torch.arange(4) * 200
    labels = torch.tensor([*kept, NULL] * 4)[:4]
    own = torch.tensor([*range(len(kept)), len(kept)] * 4)[:4]
    torch.testing.assert_close(
        small.model(images, times, own), api_model.model(images, times, labels), rtol=1e-4, atol=1e-4
    )
    assert small.model.gate.soft == (len(kept) > 1)


def test_one_class_alone_is_an_ordinary_kind_model(api_model, tmp_path):
    one = api_model.keep(["d"])
    assert {layer.ranks.tailor_counts for _, layer in factorized_layers(one.model)} == {(20,)}
    assert one.budget(parameters=0.7).cost["deployed"] < one.cost["deployed"]
    one.save_parts(tmp_path / "parts")
    one.export(tmp_path / "export")
    assert kind.load(tmp_path / "parts").classes == kind.load(tmp_path / "export").classes == ("d",)


@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(api_model, tmp_path, model_inputs):
    api_model.save(tmp_path / "soft.safetensors")
    loaded = kind.load(tmp_path / "soft.safetensors")
    inputs = model_inputs(loaded.model)
    assert torch.equal(loaded.model(*inputs), api_model.model(*inputs))
    two = loaded.keep(["b", "e"])
    two.save(tmp_path / "two.safetensors")
    assert np.array_equal(kind.load(tmp_path / "two.safetensors").sample(4, num_steps=2), two.sample(4, num_steps=2))


@pytest.mark.parametrize(
    "what, ask",
    [
        ("cut or brought to canonical form", lambda model, folder: model.budget(parameters=0.5)),
        ("cut or brought to canonical form", lambda model, folder: model.canonical()),
        ("combined", lambda model, folder: model.combine(model.keep([]))),
        ("exported", lambda model, folder: model.export(folder / "export")),
        ("taken apart", lambda model, folder: model.save_parts(folder / "parts")),
    ],
)
def test_what_needs_tailors_of_classes_is_refused(api_model, tmp_path, what, ask):
    with pytest.raises(UserError, match=f"the model cannot be {what}: behind its soft gate.*\n.*keep one class first"):
        ask(api_model, tmp_path)
    assert not list(tmp_path.iterdir())
