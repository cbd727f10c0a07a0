"""The class gate: which tailors a sample uses (KIND, figure 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class ClassGate:
    """Binary gate over owners of tailors: a sample uses the tailors of its own class, and of the groups that its class
    is in, and no others.

    One gate is shared by all factorized matrices of a model.  Owners are numbered classes first, then groups (tuples
    of classes that share tailors).  The null class, label `num_classes`, has no tailors.
    """

    def __init__(self, num_classes: int, groups: Sequence[Sequence[int]] = ()):
        self.num_classes = num_classes
        self.groups = tuple(tuple(group) for group in groups)
        self._labels: Tensor | None = None

    @property
    def num_owners(self) -> int:
        return self.num_classes + len(self.groups)

    def owners_of(self, label: int | None) -> tuple[int, ...]:
        """Whose tailors a sample of this label uses: its class, then its groups; none for the null class and None."""
        if label is None or label == self.num_classes:
            return ()
        groups = (self.num_classes + index for index, group in enumerate(self.groups) if label in group)
        return (label, *groups)

    def open(self, labels: Tensor) -> None:
        """Set whose tailors the samples of the coming forward pass use.  labels: [B], 0..num_classes."""
        self._labels = labels

    @property
    def labels(self) -> Tensor:
        assert self._labels is not None, "the gate is opened by DiT.forward before any factorized layer runs"
        return self._labels

    def ownership(self, device: torch.device | str = "cpu") -> Tensor:
        """1 where the label (the null class too) uses the owner's tailors.  [num_classes + 1, num_owners]."""
        table = torch.zeros(self.num_classes + 1, self.num_owners)
        for label in range(self.num_classes):
            table[label, list(self.owners_of(label))] = 1
        return table.to(device)

    def mask(self, dtype: torch.dtype) -> Tensor:
        """1 where the sample uses the owner's tailors, else 0; all 0 for the null class.  [B, num_owners]."""
        return self.ownership(self.labels.device)[self.labels].to(dtype)
