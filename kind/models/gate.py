"""The class gate: which tailors a sample uses (KIND, figure 3)."""

from __future__ import annotations

import torch
from torch import Tensor


class ClassGate:
    """Binary gate over tailors, one row a class: a sample uses the tailors of its own class and no others.

    One gate is shared by all factorized matrices of a model.  The null class, label `num_classes`, has no tailors.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self._labels: Tensor | None = None

    def open(self, labels: Tensor) -> None:
        """Set whose tailors the samples of the coming forward pass use.  labels: [B], 0..num_classes."""
        self._labels = labels

    @property
    def labels(self) -> Tensor:
        assert self._labels is not None, "the gate is opened by DiT.forward before any factorized layer runs"
        return self._labels

    def mask(self, dtype: torch.dtype) -> Tensor:
        """1 where the sample's class owns the row, else 0; all 0 for the null class.  [B, num_classes]."""
        classes = torch.arange(self.num_classes, device=self.labels.device)
        return (self.labels[:, None] == classes).to(dtype)
