"""The factorized matrix against its definition, one sample and one component at a time."""

from __future__ import annotations

import pytest
import torch

from kind.models.factorized import (
    FACTORIZED,
    TAILOR_TENSORS,
    Factorization,
    FactorizedLinear,
    LayerRanks,
    draw_tailors,
    factorize,
    factorized_layers,
)
from kind.models.gate import ClassGate
from kind.models.gated_product import chunked_product, gathered_product

CLASSES, LEARNGENES, TAILORS, INPUTS, OUTPUTS = 6, 5, 3, 11, 7
LABELS = torch.tensor([2, 0, 6, 2, 4, 6])  # 6 is the null class; classes 1, 3 and 5 are absent
PRODUCTS = {
    "masked": FactorizedLinear.masked_product,
    "chunked": chunked_product,
    "gathered": gathered_product,
}


def random_layer(dtype=torch.float64, labels=LABELS):
    generator = torch.Generator().manual_seed(0)
    gate = ClassGate(CLASSES)
    layer = FactorizedLinear(INPUTS, OUTPUTS, LayerRanks(LEARNGENES, (TAILORS,) * CLASSES), gate, dtype=dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    gate.open(labels)
    inputs = torch.randn(len(labels), 4, INPUTS, generator=generator, dtype=torch.float64).to(dtype)
    return layer, inputs.requires_grad_()


def by_definition(layer, inputs, labels):
    """y = sum_i u_i s_i (v_i . x) + b over the learngenes and the tailors of the sample's class."""
    outputs = []
    for sample, label in zip(inputs, labels.tolist(), strict=True):
        rows = list(zip(layer.learngene_u, layer.learngene_s, layer.learngene_v, strict=True))
        if label < CLASSES:
            own = slice(label * TAILORS, (label + 1) * TAILORS)
            rows += list(zip(layer.tailor_u[own], layer.tailor_s[own], layer.tailor_v[own], strict=True))
        outputs.append(sum(torch.outer(sample @ v, u) * s for u, s, v in rows) + layer.bias)
    return torch.stack(outputs)


def output_and_gradients(layer, inputs, product):
    output = product(inputs)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    named = {"inputs": inputs, **dict(layer.named_parameters())}
    gradients = torch.autograd.grad((output * weights).sum(), named.values(), materialize_grads=True)
    return output, dict(zip(named, gradients, strict=True))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5)], ids=["f64", "f32"])
@pytest.mark.parametrize("product", PRODUCTS)
def test_output_and_every_gradient_follow_the_definition(product, dtype, tolerance):
    layer, inputs = random_layer(dtype)
    output, gradients = output_and_gradients(layer, inputs, PRODUCTS[product].__get__(layer))
    exact, exact_inputs = random_layer()
    expected, expected_gradients = output_and_gradients(exact, exact_inputs, lambda x: by_definition(exact, x, LABELS))
    assert output.dtype == dtype
    torch.testing.assert_close(output.double(), expected, rtol=tolerance, atol=10 * tolerance)
    assert len(gradients) == 8
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient.double(),
            expected_gradients[name],
            rtol=tolerance,
            atol=20 * tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize("product", PRODUCTS)
def test_tailors_of_absent_classes_get_exactly_zero_gradient(product):
    layer, inputs = random_layer(torch.float32)
    _, gradients = output_and_gradients(layer, inputs, PRODUCTS[product].__get__(layer))
    for name in TAILOR_TENSORS:
        by_class = gradients[name].unflatten(0, (CLASSES, TAILORS))
        assert not by_class[[1, 3, 5]].any(), name
        assert all(by_class[row].any() for row in (0, 2, 4)), name


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_null_label_closes_all_tailors(product):
    layer, inputs = random_layer(labels=torch.full((3,), CLASSES))
    output, gradients = output_and_gradients(layer, inputs, PRODUCTS[product].__get__(layer))
    torch.testing.assert_close(output, inputs @ layer.dense_weight(None).T + layer.bias)
    assert not any(gradients[name].any() for name in TAILOR_TENSORS)


@pytest.mark.parametrize("label", [None, 0, 4])
def test_dense_weight_is_what_a_sample_of_the_class_sees(label):
    layer, inputs = random_layer()
    layer.gate.open(torch.full((len(inputs),), CLASSES if label is None else label))
    torch.testing.assert_close(layer(inputs), inputs @ layer.dense_weight(label).T + layer.bias)


@pytest.mark.parametrize("product", PRODUCTS)
def test_all_forms_work_under_bfloat16_autocast(product):
    layer, inputs = random_layer(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        output = PRODUCTS[product].__get__(layer)(inputs)
    torch.testing.assert_close(output.float(), layer(inputs), rtol=0.05, atol=0.5)


# --- in the model ---------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_mixed_batch_equals_its_classes_one_by_one(build, model_inputs):
    model = build(learngenes=8, tailors=2)
    images, timesteps, labels = model_inputs(model)
    together = model(images, timesteps, labels)
    for label in range(6):
        own = labels == label
        alone = model(images[own], timesteps[own], labels[own])
        torch.testing.assert_close(together[own], alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_model_with_dense_weights_of_one_class_computes_the_same(build, model_inputs):
    model, dense = build(learngenes=8, tailors=2), build()
    for name, tensor in model.state_dict().items():
        if name in dense.state_dict():
            dense.state_dict()[name].copy_(tensor)
    for name, layer in factorized_layers(model):
        dense.get_submodule(name).weight.copy_(layer.dense_weight(3))
    images, timesteps, _ = model_inputs(model)
    labels = torch.full((12,), 3)
    expected = dense(images, timesteps, labels)
    torch.testing.assert_close(model(images, timesteps, labels), expected, rtol=1e-5, atol=1e-5)


def test_gate_labels_open_tailors_of_label_dropped_samples(build, model_inputs):
    """Null gate policies: the model sees the null label, its gate that too (learngenes) or the class (true_class)."""
    model = build(learngenes=8, tailors=2)
    images, timesteps, _ = model_inputs(model, batch=4)
    null, classes = torch.full((4,), 5), torch.tensor([1, 1, 3, 3])
    tailors = {name: p for name, p in model.named_parameters() if name.rsplit(".", 1)[-1] in TAILOR_TENSORS}

    def gradients(**gate):
        model.zero_grad(set_to_none=False)
        model(images, timesteps, null, **gate).square().sum().backward()
        return [p.grad for p in tailors.values() if p.grad is not None], model.label_table.grad

    closed, _ = gradients()
    assert not any(gradient.any() for gradient in closed)
    opened, table = gradients(gate_labels=classes)
    assert len(opened) == len(tailors)
    by_class = [gradient.unflatten(0, (5, 2)) for gradient in opened]
    assert all(gradient[[1, 3]].any() and not gradient[[0, 2, 4]].any() for gradient in by_class)
    assert table[5].any() and not table[:5].any()


# --- the start ------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_factorized_with_all_components_active_equals_the_dense_model(build, model_inputs):
    dense = build(num_classes=1)
    images, timesteps, _ = model_inputs(dense)
    expected = dense(images, timesteps, torch.zeros(12, dtype=torch.long))
    model = factorize(dense, Factorization(num_learngenes=20, num_tailors=12), seed=0)
    assert len(list(factorized_layers(model))) == 2 * len(FACTORIZED)
    torch.testing.assert_close(model(images, timesteps, torch.zeros(12, dtype=torch.long)), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(model(images, timesteps, torch.ones(12, dtype=torch.long)), expected, atol=1e-3)


def spectra(build, **sizes):
    """(layer, singular values of the matrix that it was) of every factorized matrix."""
    dense, model = build(shaken=False), build(shaken=False, **sizes)
    for name, layer in factorized_layers(model):
        yield layer, torch.linalg.svdvals(dense.get_submodule(name).weight.detach())


def directions(layer, end):
    learngenes, tailors = getattr(layer, f"learngene_{end}"), getattr(layer, f"tailor_{end}")
    return torch.cat([learngenes, tailors]).detach()


def test_learngenes_are_the_components_of_largest_singular_value(build):
    for layer, values in spectra(build, learngenes=22, tailors=2):  # 22 + 5 x 2 = 32, full rank
        torch.testing.assert_close(layer.learngene_s.detach(), values[:22], rtol=1e-4, atol=1e-5)
        tailors = layer.tailor_s.detach().flatten()
        torch.testing.assert_close(tailors.sort(descending=True).values, values[22:], rtol=1e-4, atol=1e-5)
        assert not torch.equal(tailors.sort(descending=True).values, tailors)  # shared out at random
        for end in "uv":
            rows = directions(layer, end)
            torch.testing.assert_close(rows @ rows.T, torch.eye(32), rtol=0, atol=1e-5)


def test_overcomplete_components_are_unit_directions_with_values_of_the_spectrum(build):
    for layer, values in spectra(build, learngenes=20, tailors=12):  # 20 + 5 x 12 = 80 > 32
        torch.testing.assert_close(layer.learngene_s.detach(), values[:20], rtol=1e-4, atol=1e-5)
        tailors = layer.tailor_s.detach().flatten()
        distance = (tailors[:, None] - values).abs().min(dim=1)
        assert distance.values.max() < 1e-4
        counts = torch.bincount(distance.indices, minlength=32)
        assert counts[20:].min() >= 1  # the rest of the SVD is all there, among the drawn ones
        assert counts.sum() == 60
        for end in "uv":
            norms = directions(layer, end).norm(dim=1)
            torch.testing.assert_close(norms, torch.ones(80), rtol=0, atol=1e-5)


def test_the_seed_decides_which_class_gets_which_component(build):
    first, again = build(learngenes=22, tailors=2, shaken=False), build(learngenes=22, tailors=2, shaken=False)
    other = factorize(build(shaken=False), Factorization(22, 2), seed=9)
    name = "transformer_blocks.1.ff.net.2.tailor_s"
    assert torch.equal(first.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))


@pytest.mark.parametrize("start", ["random", "zero"])
@pytest.mark.parametrize("classes", [2, 6], ids=["within the rank", "overcomplete"])
def test_fresh_tailors_are_components_of_a_xavier_draw(start, classes):
    layer = FactorizedLinear(40, 10, LayerRanks(4, (3,) * classes), ClassGate(classes))
    draw_tailors(layer, start, torch.Generator().manual_seed(0))
    count = classes * 3
    v, u = layer.tailor_v.detach(), layer.tailor_u.detach()
    torch.testing.assert_close(v.norm(dim=1), torch.ones(count), rtol=0, atol=1e-5)
    if start == "zero":
        assert not u.any()
    else:
        torch.testing.assert_close(u.norm(dim=1), torch.ones(count), rtol=0, atol=1e-5)
    if count <= 10:
        torch.testing.assert_close(v @ v.T, torch.eye(count), rtol=0, atol=1e-5)
    # the squares of a whole Xavier draw's singular values sum to its squared norm, in_ * out * 2 / (in + out)
    values = layer.tailor_s.detach().flatten()
    assert 0.5 < values.square().mean() / (40 * 10 * 2 / 50 / 10) < 1.5
    assert not layer.learngene_s.any()  # nothing else is touched
