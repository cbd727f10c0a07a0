"""The optimiser of tailors against one torch AdamW a class, and averages against the naive ones, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kind.models.factorization import Factorization, LayerRanks
from kind.models.factorized import FactorizedLinear, factorize
from kind.models.gate import ClassGate
from kind.models.gated_product import gathered_product
from kind.optimizer import Optimizer, TailorStack, present_owners
from kind.training import average_decay

GROUPS = ((0, 3), (1, 2, 3))
COUNTS = {"even": (2, 2, 2, 2, 1, 3), "uneven": (1, 0, 3, 2, 2, 1)}
STEPS = 60


class Two(nn.Module):
    """Two matrices of one shape and one of another behind one gate, and a bias each."""

    def __init__(self, counts):
        super().__init__()
        self.gate = ClassGate(4, GROUPS)
        ranks = LayerRanks(3, counts)
        self.first = FactorizedLinear(5, 5, ranks, self.gate, dtype=torch.float64)
        self.second = FactorizedLinear(5, 5, ranks, self.gate, dtype=torch.float64)
        self.third = FactorizedLinear(5, 2, ranks, self.gate, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))

    def forward(self, x, labels):
        self.gate.open(labels)
        return self.third(torch.tanh(self.second(torch.tanh(self.first(x)))))


def batches(steps=STEPS, seed=1):
    """Inputs and labels, in which single classes are rare and some steps have the null label alone."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        labels = torch.multinomial(torch.tensor([6.0, 1.0, 0.4, 0.2, 3.0]), 4, replacement=True, generator=generator)
        labels = torch.full((4,), 4) if step % 9 == 4 else labels.sort().values
        yield torch.randn(4, 2, 5, generator=generator, dtype=torch.float64), labels


def rate_at(step):
    return 0.02 * (1 + step % 7)


def owners_of(labels):
    return {
        o for label in labels.tolist() if label < 4 for o in (label, *(4 + i for i in (0, 1) if label in GROUPS[i]))
    }


def naive(counts, max_norm=None, weight_decay=0.1):
    """One AdamW for the dense part and one for each owner's rows, each stepped where its owner occurs; averages and
    norms by their definitions."""
    model = Two(counts)
    tailors = {name: p for name, p in model.named_parameters() if "tailor" in name}
    dense = {name: p for name, p in model.named_parameters() if name not in tailors}
    slices = {owner: slice(sum(counts[:owner]), sum(counts[: owner + 1])) for owner in range(6)}
    rows = {
        owner: {name: nn.Parameter(p[own].detach().clone()) for name, p in tailors.items()}
        for owner, own in slices.items()
    }
    optimizers = {
        owner: torch.optim.AdamW(own.values(), weight_decay=weight_decay, foreach=False) for owner, own in rows.items()
    }
    optimizers["dense"] = torch.optim.AdamW(dense.values(), weight_decay=weight_decay, foreach=False)
    averaged = {name: p.detach().clone() for name, p in model.named_parameters()}
    norms = []
    for step, (x, labels) in enumerate(batches()):
        model.zero_grad()
        model(x, labels).square().mean().backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm or torch.inf).item())
        for key in ("dense", *owners_of(labels)):
            for name, p in rows[key].items() if key != "dense" else ():
                p.grad = tailors[name].grad[slices[key]].clone()
            optimizers[key].param_groups[0]["lr"] = rate_at(step)
            optimizers[key].step()
        with torch.no_grad():
            for owner, own in slices.items():
                for name, p in tailors.items():
                    p[own] = rows[owner][name]
            decay = average_decay(step, 0.9)
            for name, p in model.named_parameters():
                averaged[name] = decay * averaged[name] + (1 - decay) * p
    return dict(model.named_parameters()), averaged, norms


def ours(counts, sparse, max_norm=None, weight_decay=0.1, resume_at=None, parts=1, check=True):
    model = Two(counts)
    model.gate.sparse_gradients = sparse
    optimizer = Optimizer(model, dict(model.named_parameters()), weight_decay)
    norms = []
    for step, (x, labels) in enumerate(batches()):
        if step == resume_at:
            state = torch.load(_saved(optimizer, model), weights_only=True)
            model = Two(counts)
            model.gate.sparse_gradients = sparse
            optimizer = Optimizer(model, dict(model.named_parameters()), weight_decay)
            with torch.no_grad():
                for name, p in model.named_parameters():
                    p.copy_(state["parameters"][name])
            optimizer.load_state_dict(state["optimizer"])
        optimizer.zero_grad()
        for own_x, own_labels in zip(x.chunk(parts), labels.chunk(parts), strict=True):
            (model(own_x, own_labels).square().mean() / parts).backward()
        if sparse and check:
            assert all(p.grad is None or p.grad.is_sparse for n, p in model.named_parameters() if "tailor" in n)
        norms.append(optimizer.step(labels, rate_at(step), max_norm or torch.inf, average_decay(step, 0.9)).item())
    return dict(model.named_parameters()), optimizer.averages(), norms


def _saved(optimizer, model):
    import io

    file = io.BytesIO()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    torch.save({"parameters": parameters, "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    return file


def assert_same(found, expected, tolerance=1e-10):
    for mine, other in zip(found[:2], expected[:2], strict=True):
        assert mine.keys() == other.keys()
        for name in other:
            torch.testing.assert_close(mine[name], other[name], rtol=tolerance, atol=tolerance, msg=name)
    assert found[2] == pytest.approx(expected[2], rel=1e-9)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("max_norm", [None, 0.05], ids=["free", "clipped"])
def test_every_owner_has_an_adamw_of_its_own(counts, sparse, max_norm):
    assert_same(ours(counts, sparse, max_norm), naive(counts, max_norm))


def test_gradients_with_rows_of_nobody_are_read_right(monkeypatch):
    """The gathered form fills the rows of classes that have few up with row 0, of gradient zero."""
    monkeypatch.setattr(FactorizedLinear, "forward", gathered_product)
    for counts in COUNTS.values():
        assert_same(ours(counts, True, check=False), naive(counts))


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_accumulated_gradients_are_one_step(sparse):
    """Parts of a batch hold different owners; an owner of several parts takes one step."""
    assert_same(ours(COUNTS["uneven"], sparse, parts=4, max_norm=0.05), naive(COUNTS["uneven"], 0.05))


@pytest.mark.parametrize("resume_at", [1, 31, STEPS - 1])
def test_a_saved_state_goes_on_bit_by_bit(resume_at):
    whole, again = ours(COUNTS["uneven"], True, 0.05), ours(COUNTS["uneven"], True, 0.05, resume_at=resume_at)
    for mine, other in zip(whole[:2], again[:2], strict=True):
        assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert whole[2] == again[2]


def test_averages_without_decay_are_the_weights():
    model = Two(COUNTS["even"])
    optimizer = Optimizer(model, dict(model.named_parameters()), 0.0)
    for x, labels in batches(9):
        optimizer.zero_grad()
        model(x, labels).square().mean().backward()
        optimizer.step(labels, 0.1, decay=0.0)
    assert all(torch.equal(optimizer.averages()[name], p) for name, p in model.named_parameters())


def test_only_what_is_trained_moves():
    model = Two(COUNTS["even"])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = {name: p for name, p in model.named_parameters() if name in ("second.tailor_v", "third.bias")}
    for name, p in model.named_parameters():
        p.requires_grad_(name in trained)
    optimizer = Optimizer(model, trained, 0.1)
    for x, labels in batches(5):
        optimizer.zero_grad()
        model(x, labels).square().mean().backward()
        optimizer.step(labels, 0.1)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(trained) == set(optimizer.averages())


def test_owners_of_labels():
    gate = ClassGate(4, GROUPS)
    assert present_owners(gate, torch.tensor([4, 4])) == []
    assert present_owners(gate, torch.tensor([1, 4, 1])) == [1, 5]
    assert present_owners(gate, torch.tensor([3, 0])) == [0, 3, 4, 5]


def test_a_model_keeps_its_keys_and_values_when_its_tailors_move_into_stacks(build):
    model = build(learngenes=8, tailors=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = Optimizer(model, dict(model.named_parameters()), 0.0)
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert [len(stack.parameters) for stack in optimizer.tailors.stacks] == [20, 12, 4]
    assert list(optimizer.averages()) == [name for name, _ in model.named_parameters()]


def test_the_work_does_not_grow_with_absent_classes(build, monkeypatch):
    """Elements that any operation of backward pass, clipping, update and averages makes or reads whole."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from kind.models.dit import DiTConfig, build_dit
    from kind.models.presets import PRESETS

    class Elements(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            result = function(*arguments, **(keywords or {}))
            if isinstance(result, torch.Tensor) and result.layout == torch.strided and not function.is_view:
                type(self).total += result.numel() if "index_copy_" not in str(function) else arguments[3].numel()
            return result

    def work(num_classes):
        config = DiTConfig(*PRESETS["micro/2"], image_size=8, channels=3, num_classes=3)
        model = factorize(build_dit(config, 0), Factorization(8, 2, overcomplete=True), 0)
        model.gate.renew(num_classes)
        for layer in model.modules():
            if isinstance(layer, FactorizedLinear):
                layer.renew_tailors(LayerRanks(8, (2,) * num_classes))
        model.gate.sparse_gradients = True
        trained = {name: p for name, p in model.named_parameters() if "tailor" in name}
        optimizer = Optimizer(model, trained, 0.1)
        inputs = torch.randn(4, 3, 8, 8), torch.arange(4), torch.tensor([0, 1, 2, 0])
        output = model(*inputs)
        Elements.total = 0
        with Elements():
            output.square().sum().backward()
            optimizer.step(inputs[2], 1e-3, 1.0, 0.9)
            optimizer.zero_grad()
        return Elements.total

    few, many = work(4), work(400)
    assert many <= 1.02 * few  # a clock for each class is all that grows


def test_stacks_hold_the_parameters_themselves():
    parameter = nn.Parameter(torch.arange(6.0).reshape(3, 2))
    stack = TailorStack((1, 2), {"a": parameter})
    stack.weights += 1
    assert torch.equal(parameter.detach(), torch.arange(6.0).reshape(3, 2) + 1)
    assert stack.rows_of([1]).tolist() == [1, 2]
