"""What SaRA and LT-SFT add to the training loop; the methods are in kind/methods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kind.adaptation import trained_parameters
from kind.errors import UserError
from kind.models.dit import LABEL_TABLE, DiT
from kind.models.sparse_deltas import DELTAS, SparseDeltas, base_weights, largest
from kind.params import Training
from kind.random_streams import stream
from kind.training_routine import Routine, RunLength

VALUES, POSITIONS = f"{DELTAS}.values", f"{DELTAS}.positions"


class SaraRoutine(Routine):
    """A nuclear-norm penalty; after half the steps only entries that are still below the threshold go on.

    active: [K], which deltas are trained; None: all.
    """

    keeps_averages = True

    def __init__(self, model: DiT, run: RunLength, rank_penalty: float):
        super().__init__(model)
        self.run, self.rank_penalty = run, rank_penalty
        self.turns = (run.steps // 2,)
        self.deltas: SparseDeltas = model.get_submodule(DELTAS)
        self.weights = base_weights(model)
        self.threshold = self._start().abs().max()  # of the smallest weights the largest
        if self.threshold == 0:
            raise UserError(
                f"SaRA trains the {len(self.deltas.values)} weights of smallest magnitude, but so many are exactly 0 "
                "that no threshold can tell which of them have grown",
                hint="start from a trained backbone, or give a larger share",
            )
        self.active: Tensor | None = None
        self._frozen: Tensor | None = None

    def penalty(self, step: int) -> Tensor | None:
        """lambda |P * M|_* of one weight matrix P, drawn anew in each step, M its trained entries."""
        if not self.rank_penalty:
            return None
        generator = stream(self.run.seed, "penalty", step)
        index = int(torch.randint(len(self.weights), (1,), generator=generator))
        weight = self.weights[index]
        within, own = self.deltas.of(index)
        changed = weight.detach().flatten()[within] + self.deltas.values[own]
        if self.active is not None:
            changed = changed * self.active[own]
        masked = torch.zeros_like(weight).flatten().index_put((within,), changed).view_as(weight)
        try:
            return self.rank_penalty * torch.linalg.matrix_norm(masked.flatten(1), ord="nuc")
        except torch.linalg.LinAlgError:  # of what is not finite: the loss says so, as of every method
            return self.deltas.values.sum() * math.nan

    def mask_gradients(self) -> None:
        if self.active is not None:
            self.deltas.values.grad *= self.active

    @torch.no_grad()
    def restore(self) -> None:
        if self.active is not None:
            self.deltas.values.copy_(torch.where(self.active, self.deltas.values, self._frozen))

    def turn(self, step: int) -> None:
        self._freeze((self._start() + self.deltas.values.detach()).abs() <= self.threshold)

    def _start(self) -> Tensor:
        """The backbone's weights at the trained entries.  [K]."""
        return torch.cat([weight.detach().flatten() for weight in self.weights])[self.deltas.positions]

    def _freeze(self, active: Tensor) -> None:
        self.active, self._frozen = active, self.deltas.values.detach().clone()

    def state_dict(self) -> dict[str, Any]:
        return {"active": self.active, "frozen": self._frozen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.active, self._frozen = state["active"], state["frozen"]


class LotteryRoutine(Routine):
    """Phase one trains all weights; then they are rewound, and phase two trains the deltas of those that moved most."""

    def __init__(self, model: DiT, run: RunLength):
        super().__init__(model)
        self.half, self.steps = max(1, run.steps // 2), run.steps
        self.turns = (self.half,)
        self.deltas: SparseDeltas = model.get_submodule(DELTAS)
        self.weights = base_weights(model)
        self.start = [weight.detach().clone() for weight in self.weights]
        self.label_start = model.label_table.detach().clone()
        self._train_all(True)

    def _train_all(self, everything: bool) -> None:
        for weight in self.weights:
            weight.requires_grad_(everything)
        self.deltas.values.requires_grad_(not everything)
        self.deltas.in_use = not everything
        self._names = {id(weight): name for name, weight in trained_parameters(self.model).items()}

    def clock(self, step: int, settings: Training) -> tuple[int, Training]:
        if step < self.half:
            return step, settings.model_copy(update={"steps": self.half})
        return step - self.half, settings.model_copy(update={"steps": self.steps - self.half})

    @torch.no_grad()
    def turn(self, step: int) -> None:
        positions, _ = self._moved_most([weight.detach() for weight in self.weights])
        for weight, start in zip(self.weights, self.start, strict=True):
            weight.copy_(start)
        self.model.label_table.copy_(self.label_start)
        self.deltas.put(positions)
        self._train_all(False)

    def _moved_most(self, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        changes = [weight - start for weight, start in zip(weights, self.start, strict=True)]
        return largest(changes, len(self.deltas.values))

    def learned(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.deltas.in_use:
            return super().learned(weights)
        positions, values = self._moved_most([weights[self._names[id(weight)]] for weight in self.weights])
        return {VALUES: values, LABEL_TABLE: weights[LABEL_TABLE], POSITIONS: positions}

    def state_dict(self) -> dict[str, Any]:
        return {"selecting": not self.deltas.in_use, "positions": self.deltas.positions.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.deltas.put(state["positions"])
        self._train_all(state["selecting"])
