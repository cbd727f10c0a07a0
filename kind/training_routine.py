"""What a method may add to the training loop besides its attached parameters: phases, masks, a penalty."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kind.adaptation import learned_buffers
from kind.methods import Method, MethodOptions
from kind.models.dit import DiT
from kind.params import Training
from kind.random_streams import derive_seed


@dataclass(frozen=True)
class RunLength:
    """What a routine may know of a run: its number of steps, and a seed for random choices of its own."""

    steps: int
    seed: int


class Routine:
    """Of most methods: one phase, and nothing added.  Methods with more override what they need.

    A routine may change the attached model, and what requires gradients, when it is made and at its turns.
    turns: steps after which `turn` is called and the optimiser begins anew.  keeps_averages: whether the averaged
    weights go on over a turn, which they can where the same parameters are trained before and after it.
    """

    turns: tuple[int, ...] = ()
    keeps_averages = False

    def __init__(self, model: DiT):
        self.model = model

    def clock(self, step: int, settings: Training) -> tuple[int, Training]:
        """The step that learning rate and averages go by, and the settings with as many steps as its phase has."""
        return step, settings

    def penalty(self, step: int) -> Tensor | None:
        """Added to the loss; None: nothing."""
        return None

    def mask_gradients(self) -> None:
        """After the backward pass, before clipping and the optimiser."""

    def restore(self) -> None:
        """After the optimiser's step: puts back what must not move (weight decay moves it without a gradient)."""

    def turn(self, step: int) -> None:
        """Between two phases."""

    def learned(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is kept of the model, where its trained parameters have these values (averaged or not)."""
        return {**weights, **{name: buffer.clone() for name, buffer in learned_buffers(self.model).items()}}

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs besides trained parameters: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Brings routine and model into the phase that the state is of; parameters are filled in afterwards."""


def routine_of(method: Method, options: MethodOptions, steps: int, seed: int) -> Callable[[DiT], Routine]:
    """What makes the method's routine once the model is attached and lies where it is trained."""
    if method.routine is None:
        return Routine
    return lambda model: method.routine(model, options, RunLength(steps, derive_seed(seed, "routine")))
