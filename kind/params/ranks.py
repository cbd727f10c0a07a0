"""Checks of a factorized backbone: its ranks, and the classes that own tailors.  Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kind.params.messages import nearest, some


def known(section: Any) -> bool:
    """Whether every field that cannot be left empty was read."""
    if section is None:
        return False
    fields = type(section).model_fields.keys() - set(section.may_be_none)
    return all(getattr(section, name) is not None for name in fields)


def repeated(values: Sequence) -> list:
    return [value for value in dict.fromkeys(values) if values.count(value) > 1]


def fits(backbone: Any, width: int) -> bool:
    """Whether no matrix has more active components than its rank, as far as that does not depend on the classes."""
    return all(learngenes + tailors <= width for _, learngenes, tailors in _counts(backbone))


def _counts(backbone: Any) -> Iterator[tuple[str, int, int]]:
    """(kind of matrix, learngenes, tailors of a class that has no number of its own)."""
    for kind in backbone.matrices:
        own = backbone.ranks.get(kind)
        learngenes, tailors = own and own.num_learngenes, own and own.num_tailors
        yield kind, learngenes or backbone.num_learngenes, tailors or backbone.num_tailors


def backbone_problems(where: str, backbone: Any, width: int | None, classes: Sequence[str]) -> Iterator[str]:
    """A line for each mistake; width None and classes [] where they could not be read."""
    mistakes = [*_names(where, backbone, classes), *_gate(where, backbone)]
    yield from mistakes
    if width is not None and not mistakes:
        yield from dict.fromkeys(_ranks(where, backbone, width, classes))


def _names(where: str, backbone: Any, classes: Sequence[str]) -> Iterator[str]:
    for kind in repeated(backbone.matrices):
        yield f"{where}.matrices: {kind!r} is named twice"
    for kind in backbone.ranks:
        if kind not in backbone.matrices:
            yield f"{where}.ranks: {kind!r} is not factorized; matrices: {', '.join(backbone.matrices)}"
    owners = {"class_tailors": list(backbone.class_tailors)}
    owners |= {f"groups.{name}.classes": group.classes for name, group in backbone.groups.items() if known(group)}
    for key, names in owners.items():
        for name in repeated(names):
            yield f"{where}.{key}: {name!r} is named twice"
        for name in dict.fromkeys(names) if classes else ():
            if name not in classes:
                yield f"{where}.{key}: no pre-training class {name!r}{nearest(name, classes)}; {some(classes)}"


def _gate(where: str, backbone: Any) -> Iterator[str]:
    """Options that go with one gate only."""
    if backbone.gate == "binary":
        for key in ("gate_hidden", "gate_scale"):
            if key in backbone.model_fields_set:
                yield f"{where}.{key}: is of a soft gate; leave it out, or say `gate: soft`"
        return
    for key in ("class_tailors", "groups"):
        if getattr(backbone, key):
            yield f"{where}.{key}: behind a soft gate no class owns tailors; leave it out, or say `gate: binary`"
    for kind, own in backbone.ranks.items():
        if own is not None and own.num_tailors is not None:
            yield (
                f"{where}.ranks.{kind}.num_tailors: a soft gate has one row of shares for all matrices, and so one "
                "number of tailors; leave it out"
            )
    if backbone.num_tailors == 0:
        yield f"{where}.num_tailors: 0 tailors leave a soft gate nothing to share out; give 1 or more"


def _ranks(where: str, backbone: Any, width: int, classes: Sequence[str]) -> Iterator[str]:
    """Every matrix has rank `width`: so many components a sample may use, and so many a matrix may hold unless it is
    overcomplete."""
    groups = [group for group in backbone.groups.values() if known(group)]
    for kind, shared, own in _counts(backbone):
        which = f"{where}.ranks.{kind}" if kind in backbone.ranks else where
        counts = {name: backbone.class_tailors.get(name, own) for name in classes} or {"": own}
        active = {
            name: count + sum(group.num_tailors for group in groups if name in group.classes)
            for name, count in counts.items()
        }
        largest = max(active, key=active.get)
        tailors = active[largest]
        if shared + tailors > width:
            what = f"num_tailors {own}" if tailors == own else f"{tailors} tailors of class {largest!r}"
            yield (
                f"{which}: impossible rank: num_learngenes {shared} + {what} = {shared + tailors} components are "
                f"active, but a matrix of width {width} has rank at most {width}"
            )
            continue
        if backbone.gate == "soft":
            continue  # all classes share the same tailors
        total = sum(counts.values()) + sum(group.num_tailors for group in groups)
        if classes and not backbone.overcomplete and shared + total > width:
            plain = not backbone.class_tailors and not groups
            what = f"{len(classes)} classes x num_tailors {own}" if plain else f"{total} tailors of classes and groups"
            yield (
                f"{which}: impossible rank: num_learngenes {shared} + {what} = {shared + total} components exceed the "
                f"rank {width} of a matrix of width {width}; lower them or say `overcomplete: true`"
            )
