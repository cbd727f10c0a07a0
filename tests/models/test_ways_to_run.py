"""A KIND model computes the same, and has the same parameters by name, however it is run: mixed or class by class,
compiled, or with its blocks checkpointed.  In several processes: tests/together."""

from __future__ import annotations

import pytest
import torch

from kind.models.factorization import SoftGating

SIZES = {"learngenes": 8, "tailors": 2}
SOFT = {"learngenes": 8, "tailors": 9, "soft": SoftGating((6,), "tailors", embedding_size=4)}


@pytest.fixture
def model(build):
    return build(**SIZES)


@pytest.fixture(params=[SIZES, SOFT], ids=["binary", "soft"])
def gated(request, build):
    return build(**request.param)


def run(model, inputs, call=None, **gate):
    """Output, and gradients of all parameters by name."""
    model.zero_grad()
    output = (model if call is None else call)(*inputs, **gate)
    (output * torch.linspace(-1, 1, output.numel()).reshape(output.shape)).sum().backward()
    return output.detach(), {name: p.grad for name, p in model.named_parameters()}


def assert_same(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=tolerance)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        scale = max(gradient.abs().max().item(), 0.01)  # that of the keys' bias is zero but for rounding
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=20 * tolerance * scale, msg=name)


def test_the_order_of_the_samples_does_not_matter(gated, model_inputs):
    images, timesteps, labels = model_inputs(gated)  # 0 1 2 3 4 5 0 1 ...
    output, gradients = run(gated, (images, timesteps, labels))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    gated.zero_grad()
    mixed = gated(images[order], timesteps[order], labels[order])
    torch.testing.assert_close(mixed, output[order], rtol=1e-5, atol=1e-5)
    weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
    (mixed * weights[order]).sum().backward()
    assert_same((output, {name: p.grad for name, p in gated.named_parameters()}), (output, gradients))


@pytest.mark.parametrize("policy", ["learngenes", "true_class"])
def test_a_mixed_batch_with_dropped_labels_equals_its_samples_one_by_one(gated, model_inputs, policy):
    images, timesteps, labels = model_inputs(gated)
    seen = torch.where(torch.arange(12) % 3 == 0, 5, labels)
    gates = seen if policy == "learngenes" else labels
    together = gated(images, timesteps, seen, gates)
    for index in range(12):
        one = slice(index, index + 1)
        alone = gated(images[one], timesteps[one], seen[one], gates[one])
        torch.testing.assert_close(together[one], alone, rtol=1e-5, atol=1e-5)
    other = gated(images, timesteps, seen, labels if policy == "learngenes" else seen)
    dropped = (seen == 5) & (labels < 5)
    assert torch.allclose(other[~dropped], together[~dropped], rtol=1e-5, atol=1e-5)
    assert all(not torch.allclose(a, b, atol=1e-3) for a, b in zip(other[dropped], together[dropped], strict=True))


def test_masked_and_fast_forms_agree_in_the_whole_model(model, model_inputs, monkeypatch):
    from kind.models.factorized import FactorizedLinear

    inputs = model_inputs(model)
    fast = run(model, inputs)
    monkeypatch.setattr(FactorizedLinear, "forward", FactorizedLinear.masked_product)
    assert_same(fast, run(model, inputs))


def test_the_compiled_model_is_one_graph(model, model_inputs):
    inputs = model_inputs(model)
    expected = run(model, inputs)
    names = list(model.state_dict())
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert_same(run(model, inputs, compiled), expected)
    null = torch.full((12,), 5)
    other = (*inputs[:2], null)
    assert_same(run(model, other, compiled, gate_labels=inputs[2]), run(model, other, gate_labels=inputs[2]))
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("sizes", [{}, SIZES, SOFT], ids=["dense", "kind", "soft"])
def test_checkpointed_blocks_keep_less_and_change_nothing(build, model_inputs, sizes):
    model = build(**sizes)
    inputs, other = model_inputs(model), model_inputs(model, seed=3)
    other = (*other[:2], torch.full((12,), 2))

    def kept_numbers():
        kept = {}

        def note(tensor):
            kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output = model(*inputs)
        return sum(kept.values()), output

    def both():
        """Another forward pass, behind another gate, comes between the forward pass and its backward pass."""
        model.zero_grad()
        first, second = model(*inputs), model(*other)
        (first * torch.linspace(-1, 1, first.numel()).reshape(first.shape)).sum().backward()
        second.square().sum().backward()
        return first.detach(), {name: p.grad for name, p in model.named_parameters()}

    expected, (before, _) = both(), kept_numbers()
    names = list(model.state_dict())
    model.recompute_blocks = True
    assert_same(both(), expected)
    after, _ = kept_numbers()
    assert after < before / 2
    assert list(model.state_dict()) == names
