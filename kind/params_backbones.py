"""The `backbones` section of a params file.  Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kind.models.factorization import FACTORIZED, MATRICES, Factorization
from kind.params_types import ClassName, NaturalInt, PositiveInt, Section


class DenseBackbone(Section):
    form: Literal["dense"]


class MatrixRanks(Section):
    """Counts of one kind of matrix, in place of the backbone's."""

    num_learngenes: PositiveInt | None = None
    num_tailors: PositiveInt | None = None


class TailorGroup(Section):
    """Classes that share tailors, beside those of their own (a superclass)."""

    classes: Annotated[list[ClassName], Field(min_length=1)]
    num_tailors: PositiveInt


class KindBackbone(Section):
    """A factorized backbone; see `Factorization`.  All options but the six matrices are our choice.

    ranks: counts of single kinds of matrices; class_tailors: tailors of single classes, in every matrix; groups: by
    name, classes that share tailors; start: the dense backbone whose trained weights are taken apart; None: a fresh
    draw.  num_tailors: 0 shares all components, which is the control without the gate.  overcomplete: allow more
    components in all than the rank of a matrix.
    """

    may_be_none: ClassVar[tuple[str, ...]] = ("start",)
    form: Literal["kind"]
    num_learngenes: PositiveInt
    num_tailors: NaturalInt
    null_gate: Literal["learngenes", "true_class"] = "learngenes"
    overcomplete: bool = False
    matrices: Annotated[list[Literal[tuple(MATRICES)]], Field(min_length=1)] = list(FACTORIZED)
    ranks: dict[Literal[tuple(MATRICES)], MatrixRanks] = {}
    class_tailors: dict[ClassName, NaturalInt] = {}
    groups: dict[str, TailorGroup] = {}
    start: str | None = None

    @property
    def most_learngenes(self) -> int:
        """In one matrix."""
        own = (self.ranks.get(kind) or MatrixRanks() for kind in self.matrices)
        return max(ranks.num_learngenes or self.num_learngenes for ranks in own)

    def factorization(self, classes: Sequence[str]) -> Factorization:
        """Of a model of these classes."""
        learngenes, tailors = {}, {}
        for kind in self.matrices:
            own = self.ranks.get(kind) or MatrixRanks()
            learngenes[kind] = own.num_learngenes or self.num_learngenes
            tailors[kind] = count = own.num_tailors or self.num_tailors
            if self.class_tailors:
                tailors[kind] = tuple(self.class_tailors.get(name, count) for name in classes)
        # one number where one says it all
        return Factorization(
            num_learngenes=learngenes if self.ranks else self.num_learngenes,
            num_tailors=tailors if self.ranks else tailors[self.matrices[0]],
            null_gate=self.null_gate,
            matrices=tuple(self.matrices),
            groups=tuple(
                (tuple(classes.index(name) for name in group.classes), group.num_tailors)
                for group in self.groups.values()
            ),
            overcomplete=self.overcomplete,
        )


Backbone = Annotated[DenseBackbone | KindBackbone, Field(discriminator="form")]
