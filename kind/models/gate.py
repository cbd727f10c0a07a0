"""The class gate: which tailors a sample uses (KIND, figure 3)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from kind.models.factorization import LayerRanks


class ClassGate:
    """Binary gate over owners of tailors: a sample uses the tailors of its own class, and of the groups that its class
    is in, and no others.

    sparse_gradients: tailors get sparse gradients, of the rows that the batch uses; dense ones have a row for every
        tailor, zero where no sample used it.
    recompute: the hidden activations of factorized matrices are computed again in the backward pass, not kept.
    soft: whether classes own no tailors but use all, in shares (`SoftGate`).

    One gate is shared by all factorized matrices of a model.  Owners are numbered classes first, then groups (tuples
    of classes that share tailors).  The null class, label `num_classes`, has no tailors.
    """

    soft = False

    def __init__(self, num_classes: int, groups: Sequence[Sequence[int]] = ()):
        self.sparse_gradients = False
        self.recompute = False
        self.plans: dict = {}  # of the open labels; see `chunks_of`
        self.renew(num_classes, groups)

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
        """Set whose tailors the samples of the coming forward pass use.  labels: [B]; 0..num_classes, and what lies
        beyond counts as null (learngenes alone may have a label table already, but no tailors yet)."""
        self._labels, self.plans = labels.clamp(max=self.num_classes), {}

    def renew(self, num_classes: int, groups: Sequence[Sequence[int]] = ()) -> None:
        """Other classes and groups, for the same matrices."""
        self.num_classes, self.groups = num_classes, tuple(tuple(group) for group in groups)
        self._labels, self.plans, self._tables = None, {}, {}

    @property
    def opened(self) -> tuple[Tensor | None, dict]:
        """For whom the gate is open, for `reopened`."""
        return self._labels, self.plans

    @contextmanager
    def reopened(self, opened: tuple[Tensor | None, dict]) -> Iterator[None]:
        """Open as it was once, and afterwards as before: a checkpointed part runs again when others have been."""
        before = self.opened
        self._labels, self.plans = opened
        try:
            yield
        finally:
            self._labels, self.plans = before

    @property
    def labels(self) -> Tensor:
        assert self._labels is not None, "the gate is opened by DiT.forward before any factorized layer runs"
        return self._labels

    def runs(self) -> list[tuple[int, int, int]]:
        """(label, start, stop) of neighbouring samples of one label.  Waits for the device where labels are on one."""
        runs: list[tuple[int, int, int]] = []
        for index, label in enumerate(self.labels.tolist()):
            if runs and runs[-1][0] == label:
                runs[-1] = (label, runs[-1][1], index + 1)
            else:
                runs.append((label, index, index + 1))
        return runs

    def tailor_rows(self, ranks: LayerRanks, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rows of the flat tailors that each label uses, filled up with row 0, and which are not filling.

        [num_classes + 1, most tailors of a class], int64 and bool.  Kept for the life of the gate.
        """
        key = (ranks, device)
        if key not in self._tables:
            rows = [
                [
                    row
                    for owner in self.owners_of(label)
                    for row in range(*ranks.rows_of_owner(owner).indices(sys.maxsize))
                ]
                for label in range(self.num_classes + 1)
            ]
            most = max(map(len, rows))
            filled = torch.tensor([own + [0] * (most - len(own)) for own in rows], dtype=torch.long)
            used = torch.tensor([[True] * len(own) + [False] * (most - len(own)) for own in rows])
            self._tables[key] = filled.to(device), used.to(device)
        return self._tables[key]

    def ownership(self, device: torch.device | str = "cpu") -> Tensor:
        """1 where the label (the null class too) uses the owner's tailors.  [num_classes + 1, num_owners]."""
        table = torch.zeros(self.num_classes + 1, self.num_owners)
        for label in range(self.num_classes):
            table[label, list(self.owners_of(label))] = 1
        return table.to(device)

    def mask(self, dtype: torch.dtype) -> Tensor:
        """1 where the sample uses the owner's tailors, else 0; all 0 for the null class.  [B, num_owners]."""
        return self.ownership(self.labels.device)[self.labels].to(dtype)
