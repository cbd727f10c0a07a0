"""How many components each factorized matrix has, and who owns them.  Imports no torch: params are made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

# Where the factorized matrices of a block are.  The six are the sibling paper DivControl's set; that AdaLN may be
# factorized too is our choice (FINE, another sibling paper, does it).
FACTORIZED = {
    "q": "attn1.to_q",
    "k": "attn1.to_k",
    "v": "attn1.to_v",
    "o": "attn1.to_out.0",
    "in": "ff.net.0.proj",
    "out": "ff.net.2",
}
MATRICES = {"adaln": "norm1.linear"} | FACTORIZED  # in the order of a block
BLOCK = "transformer_blocks.{}.{}"

Counts = int | tuple[int, ...]  # of every class, or one number a class


def matrix_shape(kind: str, width: int) -> tuple[int, int]:
    """(in, out) of a matrix of this kind in a block of this width."""
    outer = {"in": (1, 4), "out": (4, 1), "adaln": (1, 6)}
    inputs, outputs = outer.get(kind, (1, 1))
    return inputs * width, outputs * width


class Numbers(NamedTuple):
    """Of one matrix: numbers that it holds, and those that a sample of the class that uses most makes use of."""

    held: int
    used: int


@dataclass(frozen=True)
class LayerRanks:
    """Components of one matrix: learngenes, and tailors of each owner (classes first, then groups of classes)."""

    num_learngenes: int
    tailor_counts: tuple[int, ...]

    @property
    def num_tailors(self) -> int:
        """Of all owners."""
        return sum(self.tailor_counts)

    def rows_of_owner(self, owner: int) -> slice:
        """Where the owner's tailors lie among all, which are stored by owner."""
        start = sum(self.tailor_counts[:owner])
        return slice(start, start + self.tailor_counts[owner])


@dataclass(frozen=True)
class SoftGating:
    """A gate that gives each class a share of all tailors; see `kind.models.soft_gate`.

    hidden: sizes of the layers between the class embedding and the shares.  scale: `tailors` multiplies the shares by
    the number of tailors, `none` leaves their sum at 1.  embedding_size: None where only params are known, no data.
    """

    hidden: tuple[int, ...]
    scale: str
    embedding_size: int | None = None


@dataclass(frozen=True)
class Factorization:
    """What is factorized, into how many components, and what the gate does with label-dropped samples.

    num_learngenes: in every matrix, or by kind of matrix (a mapping).
    num_tailors: of every class, or of each class (a tuple), in every matrix or by kind of matrix (a mapping).
    null_gate: `learngenes` (a dropped label closes all tailors) or `true_class` (the true class's stay open).
    matrices: kinds of the factorized matrices; groups: (classes, number of tailors that they share, a matrix).
    ranks: by layer name; where it is given it replaces all counts above (a model cut by budget has no common count).
    overcomplete: a matrix may hold more components than its rank; `False` is only a promise that params are held to.
    soft: of a soft gate; all classes are one group then, whose tailors each class uses in its own shares.

    The paper states none of these but the six matrices: all are our parameters.
    """

    num_learngenes: int | Mapping[str, int]
    num_tailors: Counts | Mapping[str, Counts]
    null_gate: str = "learngenes"
    matrices: tuple[str, ...] = tuple(FACTORIZED)
    groups: tuple[tuple[tuple[int, ...], int], ...] = ()
    ranks: Mapping[str, LayerRanks] | None = None
    overcomplete: bool = False
    soft: SoftGating | None = None

    @property
    def group_classes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(classes for classes, _ in self.groups)

    def layers(self, depth: int) -> Iterator[tuple[str, str]]:
        """Name and kind of every factorized matrix of a model of this depth, in the model's order."""
        kinds = [kind for kind in MATRICES if kind in self.matrices]
        return ((BLOCK.format(index, MATRICES[kind]), kind) for index in range(depth) for kind in kinds)

    def layer_ranks(self, name: str, num_classes: int) -> LayerRanks:
        """The components of the matrix called `name` in a model of `num_classes` classes."""
        if self.ranks is not None:
            return self.ranks[name]
        kind = next(kind for kind, path in MATRICES.items() if name.endswith(f".{path}"))
        learngenes, tailors = self.num_learngenes, self.num_tailors
        learngenes = learngenes[kind] if isinstance(learngenes, Mapping) else learngenes
        tailors = tailors[kind] if isinstance(tailors, Mapping) else tailors
        if isinstance(tailors, int):
            tailors = (tailors,) * num_classes
        if len(tailors) != num_classes:
            raise ValueError(f"{name}: numbers of tailors for {len(tailors)} classes, but there are {num_classes}")
        return LayerRanks(learngenes, (*tailors, *(count for _, count in self.groups)))

    def numbers(self, width: int, num_classes: int) -> dict[str, Numbers]:
        """Of each kind of matrix in a block of this width; a component of R has in + out + 1."""
        owned = {kind: self.layer_ranks(name, num_classes) for name, kind in self.layers(1)}
        size = {kind: sum(matrix_shape(kind, width)) + 1 for kind in owned}
        uses = [
            {kind: size[kind] * self._num_active(ranks, label) for kind, ranks in owned.items()}
            for label in range(num_classes)
        ] or [{kind: size[kind] * ranks.num_learngenes for kind, ranks in owned.items()}]
        most = max(uses, key=lambda used: sum(used.values()))
        held = {kind: size[kind] * (ranks.num_learngenes + ranks.num_tailors) for kind, ranks in owned.items()}
        return {kind: Numbers(held[kind], most[kind]) for kind in owned}

    def _num_active(self, ranks: LayerRanks, label: int) -> int:
        shared = sum(count for classes, count in self.groups if label in classes)
        return ranks.num_learngenes + ranks.tailor_counts[label] + shared

    def select(self, classes: Sequence[int]) -> Factorization:
        """That of a model of these classes, in this order; a group keeps its tailors while one member is left."""
        kept = self.kept_groups(classes)
        ranks = self.ranks
        if ranks is not None:
            owners = [*classes, *(len(self._counted_classes()) + group for group in kept)]
            ranks = {
                name: LayerRanks(one.num_learngenes, tuple(one.tailor_counts[owner] for owner in owners))
                for name, one in ranks.items()
            }
        groups = tuple(
            (tuple(new for new, old in enumerate(classes) if old in self.groups[group][0]), self.groups[group][1])
            for group in kept
        )
        tailors = self.num_tailors
        if isinstance(tailors, Mapping):
            tailors = {kind: _of_classes(counts, classes) for kind, counts in tailors.items()}
        else:
            tailors = _of_classes(tailors, classes)
        return replace(self, num_tailors=tailors, groups=groups, ranks=ranks, soft=self.soft if groups else None)

    def kept_groups(self, classes: Sequence[int]) -> list[int]:
        """Indices of the groups that have a member among these classes."""
        return [index for index, (members, _) in enumerate(self.groups) if set(members) & set(classes)]

    def with_tailors(self, num_classes: int, num_tailors: int) -> Factorization:
        """The same learngenes with `num_tailors` tailors for each of `num_classes` other classes."""
        ranks = self.ranks
        if ranks is not None:
            own = (num_tailors,) * num_classes
            ranks = {name: LayerRanks(one.num_learngenes, own) for name, one in ranks.items()}
        return replace(self, num_tailors=num_tailors, groups=(), ranks=ranks)

    def _counted_classes(self) -> range:
        """Classes that explicit ranks have tailors for."""
        one = next(iter(self.ranks.values()))
        return range(len(one.tailor_counts) - len(self.groups))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: what the header of a file holds."""

        def plain(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {key: plain(item) for key, item in value.items()}
            return [plain(item) for item in value] if isinstance(value, tuple) else value

        content = {name: plain(getattr(self, name)) for name in self.__dataclass_fields__ if name != "soft"}
        if self.soft is not None:  # headers of models with a binary gate say nothing of it
            content["soft"] = {name: plain(value) for name, value in asdict(self.soft).items()}
        if self.ranks is not None:
            content["ranks"] = {
                name: {"learngenes": one.num_learngenes, "tailors": list(one.tailor_counts)}
                for name, one in self.ranks.items()
            }
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Factorization:
        def counts(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {key: counts(item) for key, item in value.items()}
            return tuple(value) if isinstance(value, list) else value

        ranks = content["ranks"]
        if ranks is not None:
            ranks = {name: LayerRanks(one["learngenes"], tuple(one["tailors"])) for name, one in ranks.items()}
        soft = content.get("soft")
        return cls(
            num_learngenes=counts(content["num_learngenes"]),
            num_tailors=counts(content["num_tailors"]),
            null_gate=content["null_gate"],
            matrices=tuple(content["matrices"]),
            groups=tuple((tuple(classes), count) for classes, count in content["groups"]),
            ranks=ranks,
            overcomplete=content["overcomplete"],
            soft=soft and SoftGating(**soft | {"hidden": tuple(soft["hidden"])}),
        )


def _of_classes(counts: Counts, classes: Sequence[int]) -> Counts:
    if not classes:
        return 0
    return counts if isinstance(counts, int) else tuple(counts[index] for index in classes)
