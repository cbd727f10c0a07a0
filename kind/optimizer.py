"""The optimiser: AdamW (Loshchilov & Hutter 2019), which treats every owner of tailors as a model of its own.

An owner's moments, weight decay and bias correction advance only in steps in which it occurs in the global batch
through the gate: what torch's AdamW would do if it held that owner's tailors alone and were stepped only then.
Nothing here costs more for owners that are absent.  Our choice, as all of it: a sample whose label was dropped does
not count as an occurrence where the dropped label closes the gate (null gate policy `learngenes`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kind.models.factorized import TAILOR_TENSORS, factorized_layers
from kind.models.gate import ClassGate

BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's, and DiT's


class Optimizer:
    """AdamW over what is trained of a model, with gradient clipping and averaged weights (EMA).

    trained: the parameters that require gradients, by name.  Tailors among them get new storage, shared by all
    matrices of one shape.  rate_scales: factors of the learning rate of parameters other than tailors, where not 1.
    """

    def __init__(
        self,
        model: nn.Module,
        trained: Mapping[str, nn.Parameter],
        weight_decay: float,
        rate_scales: Mapping[str, float] | None = None,
    ):
        gate = getattr(model, "gate", None)
        owned_by_classes = gate is not None and not gate.soft  # behind a soft gate tailors are as any other parameter
        tailors = _tailor_stacks(model, trained) if owned_by_classes else []
        owned = {name for stack in tailors for name in stack.parameters}
        self.dense = {name: parameter for name, parameter in trained.items() if name not in owned}
        self.names = list(trained)
        self.tailors = OwnerAdamW(gate, tailors, weight_decay) if tailors else None
        self.averaged = {name: p.detach().clone() for name, p in self.dense.items()}
        self._adam = None
        scaled: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.dense.items():
            scaled.setdefault((rate_scales or {}).get(name, 1.0), []).append(parameter)
        groups = [{"params": parameters, "rate_scale": scale} for scale, parameters in scaled.items()]
        if groups:
            self._adam = torch.optim.AdamW(
                groups, lr=0.0, betas=BETAS, eps=EPSILON, weight_decay=weight_decay, fused=True
            )

    def zero_grad(self) -> None:
        for parameter in (*self.dense.values(), *(self.tailors.parameters() if self.tailors else ())):
            parameter.grad = None

    def step(self, gate_labels: Tensor, rate: float, max_norm: float = math.inf, decay: float = 0.0) -> Tensor:
        """One step along the gradients; returns their norm before clipping, without waiting for the device.

        gate_labels: of all samples whose gradients these are, whichever process had them.
        max_norm: over all parameters together, as `clip_grad_norm_` does it.  decay: of the averages in this step.
        """
        dense = [p for p in self.dense.values() if p.grad is not None]
        rows = self.tailors.gradients(gate_labels) if self.tailors else []
        norm = torch.nn.utils.get_total_norm([p.grad for p in dense] + rows)
        if max_norm < math.inf:
            torch.nn.utils.clip_grads_with_norm_(dense, max_norm, norm)
            for one in rows:
                one.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        if self._adam is not None:
            for group in self._adam.param_groups:
                group["lr"] = rate * group["rate_scale"]
            self._adam.step()
            torch._foreach_lerp_(list(self.averaged.values()), [p.detach() for p in self.dense.values()], 1 - decay)
        if self.tailors:
            self.tailors.step(rate, decay)
        return norm

    def averages(self) -> dict[str, Tensor]:
        """The averaged weights after the last step, by name; copies."""
        found = {name: tensor.clone() for name, tensor in self.averaged.items()}
        found |= self.tailors.averages() if self.tailors else {}
        return {name: found[name] for name in self.names}

    def put_averages(self, averages: Mapping[str, Tensor]) -> None:
        """In the place of those so far, for parameters other than tailors."""
        for name, tensor in self.averaged.items():
            tensor.copy_(averages[name])

    def state_dict(self) -> dict[str, Any]:
        return {
            "adam": self._adam.state_dict() if self._adam else None,
            "averaged": self.averaged,
            "tailors": self.tailors.state_dict() if self.tailors else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._adam:
            self._adam.load_state_dict(state["adam"])
        for name, tensor in self.averaged.items():
            tensor.copy_(state["averaged"][name])
        if self.tailors:
            self.tailors.load_state_dict(state["tailors"])


class TailorStack:
    """Tailor tensors of one shape and one division among owners, of several matrices, in one tensor [L, K, ...]."""

    def __init__(self, counts: tuple[int, ...], parameters: Mapping[str, nn.Parameter]):
        self.counts, self.parameters = counts, dict(parameters)
        self.weights = torch.stack([p.detach() for p in parameters.values()])
        for parameter, own in zip(parameters.values(), self.weights, strict=True):
            parameter.data = own
        self.first, self.second = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self.averaged = self.weights.clone()
        starts = [sum(counts[:owner]) for owner in range(len(counts))]
        self._rows = [list(range(start, start + count)) for start, count in zip(starts, counts, strict=True)]
        self.owner_of_row = torch.tensor([owner for owner, count in enumerate(counts) for _ in range(count)])

    def rows_of(self, owners: Sequence[int]) -> Tensor:
        rows = [row for owner in owners for row in self._rows[owner]]
        return torch.tensor(rows, dtype=torch.long, device=self.weights.device)

    def gradient(self, rows: Tensor) -> Tensor:
        """Of these rows, which rise.  [L, k, ...]."""
        return torch.stack([_rows_of_gradient(parameter, rows) for parameter in self.parameters.values()])

    def by_row(self, of_owner: Tensor, rows: Tensor | None = None) -> Tensor:
        """An owner's number [owners], float64, for each row: [k], or [k, 1] beside vectors, in the weights' type."""
        owners = self.owner_of_row if rows is None else self.owner_of_row[rows.cpu()]
        numbers = of_owner[owners].to(self.weights.dtype).to(self.weights.device)
        return numbers if self.weights.dim() == 2 else numbers[:, None]

    def caught_up(self, owed: Tensor) -> dict[str, Tensor]:
        averaged = torch.lerp(self.weights, self.averaged, self.by_row(owed))
        return dict(zip(self.parameters, averaged.unbind(), strict=True))


class OwnerAdamW:
    """Lazy AdamW and averages over stacks of tailors, one clock an owner.  Clocks are float64 and on the CPU."""

    def __init__(self, gate: ClassGate, stacks: Sequence[TailorStack], weight_decay: float):
        self.gate, self.stacks, self.weight_decay = gate, stacks, weight_decay
        self.steps = torch.zeros(gate.num_owners, dtype=torch.float64)
        # product of the averages' decays in the steps that an owner has missed since it last occurred
        self.owed = torch.ones(gate.num_owners, dtype=torch.float64)
        self._owners: list[int] = []
        self._gradients: list[tuple[TailorStack, Tensor, Tensor]] = []

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for stack in self.stacks for parameter in stack.parameters.values()]

    def gradients(self, gate_labels: Tensor) -> list[Tensor]:
        """Of the rows whose owners occur, for `step`; they may be changed in place before it (clipping)."""
        self._owners = present_owners(self.gate, gate_labels)
        found = [(stack, stack.rows_of(self._owners)) for stack in self.stacks]
        self._gradients = [(stack, rows, stack.gradient(rows)) for stack, rows in found if len(rows)]
        return [gradient for _, _, gradient in self._gradients]

    @torch.no_grad()
    def step(self, rate: float, decay: float) -> None:
        """Of the owners whose gradients were asked for; the averages of the others owe one decay more."""
        owners = torch.tensor(self._owners, dtype=torch.long)
        self.steps[owners] += 1
        # first and second: see AdamW; bias corrections 1 - beta^t with the owner's own t
        corrections = [1 - beta**self.steps for beta in BETAS]
        step_sizes, scales = rate / corrections[0], corrections[1].sqrt()
        for stack, rows, gradient in self._gradients:
            _step_rows(stack, rows, gradient, rate * self.weight_decay, step_sizes, scales, self.owed, decay)
        self.owed *= decay
        self.owed[owners] = 1.0
        self._gradients = []

    def averages(self) -> dict[str, Tensor]:
        """As if each owner's average had been taken in every step: a + p decays towards an unchanged p by the product
        of the decays, a' = p + (a - p) d_1 d_2 ..."""
        return {name: tensor for stack in self.stacks for name, tensor in stack.caught_up(self.owed).items()}

    def state_dict(self) -> dict[str, Any]:
        tensors = [[stack.first, stack.second, stack.averaged] for stack in self.stacks]
        return {"steps": self.steps, "owed": self.owed, "stacks": tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps.copy_(state["steps"])
        self.owed.copy_(state["owed"])
        for stack, (first, second, averaged) in zip(self.stacks, state["stacks"], strict=True):
            stack.first.copy_(first)
            stack.second.copy_(second)
            stack.averaged.copy_(averaged)


def _step_rows(
    stack: TailorStack,
    rows: Tensor,
    gradient: Tensor,
    shrink: float,
    step_sizes: Tensor,
    scales: Tensor,
    owed: Tensor,
    decay: float,
) -> None:
    """AdamW of the rows [k] along `gradient` [L, k, ...], and their averages, caught up first.

    m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  p = (1 - lr wd) p - lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + e)
    """
    everything = len(rows) == stack.weights.shape[1]
    tensors = (stack.weights, stack.first, stack.second, stack.averaged)
    weights, first, second, averaged = (t if everything else t.index_select(1, rows) for t in tensors)
    averaged.copy_(torch.lerp(weights, averaged, stack.by_row(owed, rows)))
    first.lerp_(gradient, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    denominator = second.sqrt().div_(stack.by_row(scales, rows)).add_(EPSILON)
    weights.mul_(1 - shrink).sub_((first / denominator).mul_(stack.by_row(step_sizes, rows)))
    averaged.lerp_(weights, 1 - decay)
    if not everything:
        for tensor, new in zip(tensors, (weights, first, second, averaged), strict=True):
            tensor.index_copy_(1, rows, new)


def present_owners(gate: ClassGate, labels: Tensor) -> list[int]:
    """Owners that occur among these gate labels, rising."""
    return sorted({owner for label in set(labels.tolist()) for owner in gate.owners_of(label)})


def _tailor_stacks(model: nn.Module, trained: Mapping[str, nn.Parameter]) -> list[TailorStack]:
    alike: dict[tuple, dict[str, nn.Parameter]] = {}
    for name, layer in factorized_layers(model):
        for tensor in TAILOR_TENSORS:
            full, parameter = f"{name}.{tensor}", getattr(layer, tensor)
            if full in trained and parameter.numel():
                alike.setdefault((layer.ranks.tailor_counts, parameter.shape[1:]), {})[full] = parameter
    return [TailorStack(counts, parameters) for (counts, _), parameters in alike.items()]


def _rows_of_gradient(parameter: nn.Parameter, rows: Tensor) -> Tensor:
    """[k, ...]; zero where a row has none."""
    gradient = parameter.grad
    if gradient is None:
        return parameter.new_zeros(len(rows), *parameter.shape[1:])
    if not gradient.is_sparse:
        return gradient.index_select(0, rows)
    if gradient._nnz() == len(rows) and torch.equal(gradient._indices()[0], rows):
        return gradient._values()
    gradient = gradient.coalesce()  # of several backward passes
    found = parameter.new_zeros(len(rows), *parameter.shape[1:])
    indices, values = gradient.indices()[0], gradient.values()
    places = torch.searchsorted(rows, indices).clamp(max=len(rows) - 1)
    own = rows[places] == indices
    return found.index_copy_(0, places[own], values[own])
