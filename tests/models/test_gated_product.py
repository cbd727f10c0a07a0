"""The fast forms of the gated product are the same product, whatever the batch, the owners and the way it is run."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from kind.models import gated_product
from kind.models.factorization import LayerRanks
from kind.models.factorized import TAILOR_TENSORS, FactorizedLinear
from kind.models.gate import ClassGate
from kind.models.gated_product import chunked_product, chunks_of, gathered_product

INPUTS, OUTPUTS = 11, 7
# name -> classes, groups, ranks, labels; the last label of each number is the null class
BATCHES = {
    "even": (4, (), LayerRanks(5, (3, 3, 3, 3)), [0, 0, 2, 2, 2, 4]),
    "out of order": (4, (), LayerRanks(5, (3, 3, 3, 3)), [2, 0, 4, 2, 0, 4, 3]),
    "uneven and groups": (4, ((0, 2), (2, 3)), LayerRanks(4, (2, 0, 1, 3, 2, 1)), [0, 1, 1, 2, 3, 3, 4]),
    "groups out of order": (4, ((0, 3),), LayerRanks(4, (1, 2, 1, 3, 2)), [3, 1, 0, 3, 4, 0]),
    "no sample has tailors": (3, (), LayerRanks(5, (2, 2, 2)), [3, 3]),
    "no learngenes": (3, (), LayerRanks(0, (2, 1, 4)), [0, 2, 2]),
    "no tailors": (0, (), LayerRanks(5, ()), [0, 0, 0]),
}
each_batch = pytest.mark.parametrize("batch", BATCHES)
FORMS = {"chunked": (chunked_product, 0.0), "merged": (chunked_product, 1e9), "gathered": (gathered_product, 0.0)}
each_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def product(form, monkeypatch):
    function, macs = FORMS[form]
    monkeypatch.setattr(gated_product, "CHUNK_MACS", macs)
    return function


def make(batch, dtype=torch.float64, shape=(3,)):
    classes, groups, ranks, labels = BATCHES[batch]
    generator = torch.Generator().manual_seed(0)
    layer = FactorizedLinear(INPUTS, OUTPUTS, ranks, ClassGate(classes, groups), dtype=dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    layer.gate.open(torch.tensor(labels))
    inputs = torch.randn(len(labels), *shape, INPUTS, generator=generator, dtype=torch.float64).to(dtype)
    return layer, inputs.requires_grad_(), labels


def by_samples(layer, inputs, labels):
    """Sample by sample, with its dense matrix: every component of the gate's definition added one by one."""
    gate, counts, outputs = layer.gate, layer.ranks.tailor_counts, []
    owner_of_row = [owner for owner, count in enumerate(counts) for _ in range(count)]
    for x, label in zip(inputs, labels, strict=True):
        weight = sum(
            (torch.outer(layer.learngene_u[i], layer.learngene_v[i]) * layer.learngene_s[i])
            for i in range(layer.num_learngenes)
        )
        for row, owner in enumerate(owner_of_row):
            members = (owner,) if owner < gate.num_classes else gate.groups[owner - gate.num_classes]
            if label in members:
                weight = weight + torch.outer(layer.tailor_u[row], layer.tailor_v[row]) * layer.tailor_s[row]
        outputs.append(x @ weight.T + layer.bias)
    return torch.stack(outputs)


def gradients(layer, inputs, product):
    """Output and, by name, the gradient of everything, dense."""
    for tensor in (inputs, *layer.parameters()):
        tensor.grad = None
    output = product(layer, inputs)
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape)
    (output * weights.to(output.dtype)).sum().backward()
    named = {"inputs": inputs, **dict(layer.named_parameters())}
    zero = {name: torch.zeros_like(tensor) for name, tensor in named.items()}
    return output.detach(), {
        name: zero[name] if tensor.grad is None else tensor.grad.to_dense() for name, tensor in named.items()
    }


def assert_same(found, expected, tolerance):
    torch.testing.assert_close(found[0].double(), expected[0].double(), rtol=tolerance, atol=10 * tolerance)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(
            found[1][name].double(),
            gradient.double(),
            rtol=tolerance,
            atol=20 * tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )


# --- one product ----------------------------------------------------------------------------------------------


@each_batch
@each_form
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5)], ids=["f64", "f32"])
def test_output_and_every_gradient_are_those_of_the_samples_dense_matrices(product, batch, dtype, tolerance):
    layer, inputs, labels = make(batch, dtype)
    exact, exact_inputs, _ = make(batch)
    expected = gradients(exact, exact_inputs, lambda own, x: by_samples(own, x, labels))
    assert_same(gradients(layer, inputs, product), expected, tolerance)
    assert_same(gradients(layer, inputs, FactorizedLinear.masked_product), expected, tolerance)


@each_form
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)], ids=str)
def test_samples_may_have_any_number_of_tokens(product, shape):
    """AdaLN's matrix sees one vector a sample."""
    layer, inputs, labels = make("uneven and groups", shape=shape)
    assert product(layer, inputs).shape == (7, *shape, OUTPUTS)
    assert_same(
        gradients(layer, inputs, product), gradients(layer, inputs, lambda own, x: by_samples(own, x, labels)), 1e-12
    )


@each_batch
@each_form
def test_rows_of_absent_owners_get_exactly_nothing(product, batch):
    layer, inputs, labels = make(batch, torch.float32)
    present = {owner for label in labels for owner in layer.gate.owners_of(label)}
    _, found = gradients(layer, inputs, product)
    for owner, count in enumerate(layer.ranks.tailor_counts):
        for name in TAILOR_TENSORS:
            rows = found[name][layer.rows_of_owner(owner)]
            assert rows.any() == (owner in present and count > 0), (name, owner)


@each_batch
@each_form
def test_sparse_gradients_are_the_dense_ones(product, batch):
    layer, inputs, labels = make(batch)
    expected = gradients(layer, inputs, product)
    layer.gate.sparse_gradients = True
    assert_same(gradients(layer, inputs, product), expected, 1e-15)
    present = sorted(
        row
        for owner in {owner for label in labels for owner in layer.gate.owners_of(label)}
        for row in range(*layer.rows_of_owner(owner).indices(99))
    )
    if product is chunked_product and layer.tailor_s.numel():
        for name in TAILOR_TENSORS:
            gradient = layer.get_parameter(name).grad
            assert gradient.is_sparse and gradient.coalesce().indices()[0].tolist() == present, name


@each_form
@pytest.mark.parametrize("frozen", ["learngene", "tailor", "bias", "inputs"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(product, frozen):
    layer, inputs, _ = make("uneven and groups")
    _, expected = gradients(layer, inputs, product)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    inputs.requires_grad_(frozen != "inputs")
    _, found = gradients(layer, inputs, product)
    for name, gradient in expected.items():
        if name.startswith(frozen):
            assert not found[name].any(), name
        else:
            torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-12)


@each_form
@pytest.mark.parametrize("batch", ["even", "uneven and groups"])
def test_second_differences_agree_with_the_gradient(product, batch):
    layer, inputs, _ = make(batch, shape=(2,))
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    layer.forward = lambda x: product(layer, x)
    values = [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()]
    assert torch.autograd.gradcheck(run, (inputs, *values))


# --- what it costs --------------------------------------------------------------------------------------------


def test_classes_share_a_chunk_where_that_is_cheaper(monkeypatch):
    def chunks(tokens):
        layer, _, _ = make("even")
        return [(c.start, c.stop, c.mask is None) for c in chunks_of(layer.gate, layer.ranks, 2000, tokens).chunks]

    assert chunks(1) == [(0, 6, False)]  # 3 x 2000 x 1 x (2 x 3 + 3 x 3 + ...) multiply-accumulates more
    assert chunks(1000) == [(0, 2, True), (2, 5, True), (5, 6, True)]


@pytest.mark.parametrize("recompute, hidden", [(False, 64 * (20 + 2)), (True, 0)])
def test_what_is_kept_is_the_input_and_the_hidden_activations(recompute, hidden, monkeypatch):
    monkeypatch.setattr(gated_product, "CHUNK_MACS", 0.0)
    layer = FactorizedLinear(40, 50, LayerRanks(20, (2,) * 9), ClassGate(9))
    layer.gate.recompute = recompute
    layer.gate.open(torch.arange(8))
    own, kept = {parameter.data_ptr() for parameter in layer.parameters()}, {}

    def note(tensor):
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    x = torch.randn(8, 8, 40, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        y = chunked_product(layer, x)
    assert sum(kept.values()) == 64 * 40 + hidden
    y.sum().backward()


@each_form
def test_recomputing_changes_no_bit(product):
    layer, inputs, _ = make("uneven and groups", torch.float32)
    kept = gradients(layer, inputs, product)
    layer.gate.recompute = True
    again = gradients(layer, inputs, product)
    assert all(torch.equal(kept[1][name], again[1][name]) for name in kept[1])


class Largest(TorchDispatchMode):
    """Most elements of a tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, torch.Tensor) and one.layout == torch.strided:
                self.elements = max(self.elements, one.numel())
        return result


@each_form
def test_no_tensor_is_a_matrix_for_each_sample(product):
    layer = FactorizedLinear(64, 64, LayerRanks(30, (2,) * 16), ClassGate(16))
    nn.init.normal_(layer.tailor_v)
    layer.gate.open(torch.arange(16))
    x = torch.randn(16, 2, 64, requires_grad=True)
    with Largest() as largest:
        product(layer, x).sum().backward()
    assert largest.elements <= 64 * 64  # 16 x 64 x 64 for matrices, 16 x 32 x 64 for all factors of each sample


# --- ways to run it -------------------------------------------------------------------------------------------


@each_form
def test_under_autocast_it_computes_in_bfloat16_and_gradients_stay_float32(product):
    layer, inputs, labels = make("uneven and groups", torch.float32)
    expected = gradients(layer, inputs, lambda own, x: by_samples(own, x, labels))
    with torch.autocast("cpu", torch.bfloat16):
        output = product(layer, inputs)
    assert output.dtype == torch.bfloat16
    for tensor in (inputs, *layer.parameters()):
        tensor.grad = None
    (output * torch.linspace(-1, 1, output.numel()).reshape(output.shape)).sum().backward()
    torch.testing.assert_close(output.float(), expected[0], rtol=0.05, atol=0.2)
    for name, parameter in {"inputs": inputs, **dict(layer.named_parameters())}.items():
        assert parameter.grad.dtype == torch.float32
        error = (parameter.grad - expected[1][name]).norm() / expected[1][name].norm()
        assert error < 0.02, f"{name}: {error}"


def test_the_compiled_layer_has_one_graph_and_the_same_gradients():
    layer, inputs, labels = make("uneven and groups", torch.float32)
    expected = gradients(layer, inputs, lambda own, x: by_samples(own, x, labels))
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert_same(gradients(layer, inputs, lambda _, x: compiled(x)), expected, 2e-5)


@each_form
def test_checkpointing_runs_again_behind_the_same_gate(product):
    layer, inputs, _ = make("out of order")
    expected = gradients(layer, inputs, product)
    found = gradients(layer, inputs, lambda own, x: checkpoint(product, own, x, use_reentrant=False))
    assert_same(found, expected, 1e-15)


@each_form
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_gradients_of_parts_of_a_batch_add_up(product, sparse):
    layer, inputs, labels = make("out of order")
    _, expected = gradients(layer, inputs, product)
    layer.gate.sparse_gradients = sparse
    for parameter in layer.parameters():
        parameter.grad = None
    weights = torch.linspace(-1, 1, 7 * 3 * OUTPUTS, dtype=torch.float64).reshape(7, 3, OUTPUTS)
    for part in (slice(0, 3), slice(3, 4), slice(4, 7)):
        layer.gate.open(torch.tensor(labels[part]))
        (product(layer, inputs[part]) * weights[part]).sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad.to_dense(), expected[name], rtol=1e-12, atol=1e-12)


def test_a_gate_that_changes_its_classes_forgets_the_old_ones():
    layer, inputs, _ = make("even")
    gathered_product(layer, inputs)
    other = copy.deepcopy(layer)
    other.gate.renew(2)
    other.renew_tailors(LayerRanks(5, (4, 4)))
    nn.init.normal_(other.tailor_s), nn.init.normal_(other.tailor_u), nn.init.normal_(other.tailor_v)
    labels = [0, 1, 1, 2, 2, 0]
    other.gate.open(torch.tensor(labels))
    expected = by_samples(other, inputs, labels)
    for product in (gathered_product, chunked_product):
        torch.testing.assert_close(product(other, inputs), expected)
