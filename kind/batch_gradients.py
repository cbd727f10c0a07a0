"""Gradients of a batch's loss: of its parts one after the other, and with other processes, which have other shares."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kind import distributed
from kind.batches import Batch
from kind.devices import autocast
from kind.diffusion import Objective
from kind.models.dit import DiT
from kind.training_routine import Routine

if TYPE_CHECKING:
    from kind.training import Plan


class BatchGradients:
    """Made anew whenever other parameters of the model require gradients."""

    def __init__(self, model: DiT, plan: Plan, routine: Routine):
        first = next(model.parameters())
        self.plan, self.routine, self.device, self.dtype = plan, routine, first.device, first.dtype
        self.objective = Objective(plan.diffusion, self.device)
        self.model = distributed.replica(torch.compile(model) if plan.compiled else model)

    def leave(self, batch: Batch, step: int) -> Tensor:
        """Leave those of the whole batch in the parameters, whose gradients are None before; returns what this
        process's share adds to the loss.

        L = 1/B sum_b w_b l_b, and the routine's penalty; the mean of N L_n over N processes is L = sum_n L_n.
        """
        parts, added = list(batch.parts(self.plan.accumulation)), []
        for number, part in enumerate(parts, start=1):
            is_last = number == len(parts)
            with nullcontext() if is_last else distributed.apart(self.model):
                loss = self._loss_of(part)
                added.append(loss.detach())
                loss = loss * distributed.count()
                if is_last and (penalty := self.routine.penalty(step)) is not None:
                    loss = loss + penalty
                loss.backward()
        return sum(added)

    def _loss_of(self, part: Batch) -> Tensor:
        """What these samples add to the mean loss of the batch."""

        def predict(noisy: Tensor, times: Tensor) -> Tensor:
            with autocast(self.plan.precision, self.device):
                return self.model(noisy, times, part.labels, part.gate_labels)

        images, noise = part.images.to(self.dtype), part.noise.to(self.dtype)
        losses = self.objective.loss(predict, images, part.timesteps, noise)
        return (losses if part.weights is None else losses * part.weights).sum() / self.plan.settings.batch_size
