"""Adapting a start to a task: the treatment that all methods share, around the method's own `attach`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from kind.diffusion import Diffusion
from kind.errors import UserError
from kind.methods import Adaptation, Material, Method, MethodOptions
from kind.models.dit import DiT, DiTConfig, build_dit, keep_label_rows, renew_label_table
from kind.models.recombine import keep
from kind.params.messages import some
from kind.random_streams import derive_seed


@dataclass(frozen=True)
class Start:
    """What a method begins with.

    diffusion: that of pre-training; None for fresh weights.  identity: sha256 of the file; None for fresh weights.
    classes: those of pre-training, in the order of the model's labels; none for fresh weights.
    """

    model: DiT
    diffusion: Diffusion | None = None
    identity: str | None = None
    classes: tuple[str, ...] = ()

    @classmethod
    def fresh(cls, config: DiTConfig, seed: int) -> Start:
        return cls(build_dit(config, derive_seed(seed, "fresh weights")))

    def of_classes(self, classes: Sequence[str]) -> Start:
        """What a method `for_seen` is given: these classes alone, with the label rows and tailors that they have.

        Raises UserError for a class that is not of pre-training.
        """
        unknown = [name for name in classes if name not in self.classes]
        if unknown:
            raise UserError(
                f"{some(map(repr, unknown), '')}: not among the backbone's classes, {some(self.classes, '')}",
                hint="a method that trains nothing draws classes of pre-training alone",
            )
        labels = [self.classes.index(name) for name in classes]
        kept = keep(self.model, labels) if self.model.gate is not None else keep_label_rows(self.model, labels)
        return replace(self, model=kept, classes=tuple(classes))


def adapt(
    start: Start,
    method: Method,
    options: MethodOptions,
    num_classes: int,
    seed: int,
    label_table: str,
    material: Material | None = None,
) -> DiT:
    """The start's model with the task's label rows and the method attached; exactly what is to be trained requires
    gradients.  label_table: `random` or `null`, see `renew_label_table`; the table is trained with every method, but
    for one that trains nothing at all: then it is `null`.  material: see `Adaptation`.
    start: for a method `for_seen` that of the task's classes (`Start.of_classes`), whose rows stay.
    """
    model, idle = start.model, method.trains_nothing(options)
    if not method.for_seen:
        renew_label_table(model, num_classes, derive_seed(seed, "label table"), "null" if idle else label_table)
    model.requires_grad_(False)
    method.attach(model, options, Adaptation(num_classes, derive_seed(seed, "method"), material))
    model.label_table.requires_grad_(not idle)
    return model


def trained_parameters(model: DiT) -> dict[str, nn.Parameter]:
    """By name, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def learned_tensors(model: DiT) -> dict[str, Tensor]:
    """What training, or the task's data, decides: trained parameters, and buffers that a module names in its attribute
    `learned_buffers`.  This is what an adapted model's file holds; everything else follows from start and options."""
    found: dict[str, Tensor] = dict(trained_parameters(model))
    return found | learned_buffers(model)


def learned_buffers(model: nn.Module) -> dict[str, Tensor]:
    names = (
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        for name in getattr(module, "learned_buffers", ())
    )
    return {name: model.get_buffer(name) for name in names}


def fill(model: DiT, tensors: Mapping[str, Tensor]) -> None:
    """Put what was learned into an attached model, in place; modules that keep something derived from their buffers
    renew it in their method `filled`."""
    with torch.no_grad():
        for name, tensor in learned_tensors(model).items():
            tensor.copy_(tensors[name])
    for module in model.modules():
        if hasattr(module, "filled"):
            module.filled()
