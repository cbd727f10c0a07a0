"""The `backbones` section of a params file.  Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from kind.models.factorization import FACTORIZED, MATRICES, Factorization, SoftGating
from kind.params.types import ClassName, NaturalInt, PositiveInt, Section

SOFT_OPTIONS = ("gate", "gate_hidden", "gate_scale")


class DenseBackbone(Section):
    form: Literal["dense"]

    @property
    def given_to(self) -> str:
        """The start of the methods that take it; see `Method`."""
        return "dense"


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
    components in all than the rank of a matrix.  gate: `binary` (KIND's), or `soft`: num_tailors in all, which every
    class uses in shares of its own; gate_hidden, gate_scale: see `kind.models.soft_gate`.
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
    gate: Literal["binary", "soft"] = "binary"
    gate_hidden: Annotated[list[PositiveInt], Field(max_length=4)] = [64]
    gate_scale: Literal["tailors", "none"] = "tailors"

    @model_serializer(mode="wrap")
    def _described(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Options of a soft gate belong to backbones that have one: recipes of the others do not know them."""
        content = handler(self)
        return content if self.gate == "soft" else {k: v for k, v in content.items() if k not in SOFT_OPTIONS}

    @property
    def given_to(self) -> str:
        """The start of the methods that take it; see `Method`."""
        return "soft" if self.gate == "soft" else "kind"

    @property
    def has_tailors(self) -> bool:
        """Whether classes own any."""
        own = (self.num_tailors, *self.class_tailors.values(), *self.groups)
        return any(own) or any(ranks.num_tailors for ranks in self.ranks.values())

    @property
    def most_learngenes(self) -> int:
        """In one matrix."""
        own = (self.ranks.get(kind) or MatrixRanks() for kind in self.matrices)
        return max(ranks.num_learngenes or self.num_learngenes for ranks in own)

    def factorization(self, classes: Sequence[str], embedding_size: int | None = None) -> Factorization:
        """Of a model of these classes.  embedding_size: of a class, where the gate is soft."""
        learngenes, tailors = {}, {}
        for kind in self.matrices:
            own = self.ranks.get(kind) or MatrixRanks()
            learngenes[kind] = own.num_learngenes or self.num_learngenes
            tailors[kind] = count = own.num_tailors or self.num_tailors
            if self.class_tailors:
                tailors[kind] = tuple(self.class_tailors.get(name, count) for name in classes)
        # one number where one says it all
        common = Factorization(
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
        if self.gate == "binary":
            return common
        everyone = ((tuple(range(len(classes))), self.num_tailors),)
        soft = SoftGating(tuple(self.gate_hidden), self.gate_scale, embedding_size)
        return replace(common, num_tailors=0, groups=everyone, soft=soft)

    def components(self, seen_classes: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
        """Of each kind of matrix: learngenes, and the tailors of these classes among those of pre-training."""
        kept = self.factorization(seen_classes).select([seen_classes.index(name) for name in classes])
        ranks = {kind: kept.layer_ranks(name, len(classes)) for name, kind in kept.layers(1)}
        return {kind: one.num_learngenes + one.num_tailors for kind, one in ranks.items()}


Backbone = Annotated[DenseBackbone | KindBackbone, Field(discriminator="form")]
