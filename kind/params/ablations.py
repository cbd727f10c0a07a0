"""The `ablations` section of a params file: entries that differ in one setting.  Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

from kind.methods import METHODS
from kind.params.messages import nearest, show, some
from kind.params.ranks import repeated
from kind.params.types import Section

MEASURED = {  # axis -> its name among the `parameters` of a run's metrics
    "trainable_parameters": "trainable",
    "deployed_parameters": "deployed",
    "deployed_macs": "macs",  # which are counted of the deployed model
}
INHERITED = ("null_gate",)  # options of methods that are the backbone's where an entry gives none
Value = float | str  # a number, or a choice in words


def _entries(given: Any) -> Any:
    """Told in one message: a union would have one for each of its forms."""
    if isinstance(given, list) and all(isinstance(label, str) for label in given):
        return given
    if isinstance(given, dict) and all(
        isinstance(text, str) and text.strip() for pair in given.items() for text in pair
    ):
        return given
    raise ValueError("expected a list of methods entries, or a mapping of such entries to words for each")


class Ablation(Section):
    """Methods entries that are compared with one of them.

    axis: what they differ in: an option of their method or backbone, or one of `MEASURED`; None: entries stand for
    themselves.  entries: a list; or, without an axis, a mapping to words for what each stands for.  base: the one that
    the others are compared with; None: `kind` if it takes part, else the first.
    """

    axis: str | None = None
    entries: Annotated[list[str] | dict[str, str], BeforeValidator(_entries)]
    base: str | None = None


@dataclass(frozen=True)
class Settings:
    """An ablation with what each entry stands for: a value on the axis or words; None: itself, or what is measured.

    families: of each entry its method and what is chosen of it beside numbers, for plots by what is measured.
    backbones: those that entries start from.
    """

    name: str
    axis: str | None
    base: str
    values: Mapping[str, Value | None]
    families: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    backbones: frozenset[str | None] = frozenset()

    @property
    def measured(self) -> str | None:
        """What is measured of a run to find its place on the axis; see `MEASURED`."""
        return MEASURED.get(self.axis)

    @property
    def is_numeric(self) -> bool:
        """Whether the params give every entry a number."""
        return all(isinstance(value, int | float) for value in self.values.values())


def settings_of(name: str, ablation: Ablation, values: Mapping[str, Value]) -> Settings:
    """values: of the entries on the axis, where it is an option."""
    labels = list(ablation.entries)
    words = ablation.entries if isinstance(ablation.entries, dict) else values
    base = ablation.base or ("kind" if "kind" in labels else labels[0])
    return Settings(name, ablation.axis, base, {label: words.get(label) for label in labels})


def axis_value(axis: str, options: BaseModel, finetune: BaseModel | None, backbone: BaseModel | None) -> Value | None:
    """An option; where none is given, the common one of `finetune`, or for some the backbone's; else the backbone's."""
    if axis in type(options).model_fields:
        places = (options, backbone if axis in INHERITED else finetune)
    else:
        places = (backbone,)
    found = [value for place in places if (value := _field(place, axis)) is not None]
    if not found and axis in getattr(backbone, "may_be_none", ()) and backbone in places:
        return "none"  # which is a choice of its own: a start from nothing
    return _as_value(found[0]) if found else None


def family_of(method: str, options: BaseModel) -> tuple[str, ...]:
    """The same for entries that differ in numbers alone: the method, then `option=choice`s."""
    choices = {key: value for key, value in options.model_dump().items() if isinstance(value, str | bool)}
    return method, *(f"{key}={_as_value(value)}" for key, value in choices.items())


def _field(place: BaseModel | None, name: str) -> Any:
    return getattr(place, name) if name in getattr(type(place), "model_fields", ()) else None


def _as_value(value: Any) -> Value | None:
    """None for what is neither a number nor said in a few words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        items = [_as_value(item) for item in value]
        return None if not items or None in items else ", ".join(map(in_words, items))
    return value if isinstance(value, int | float | str) else None


def in_words(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:.10g}"


# --- checks -----------------------------------------------------------------------------------------------------


def ablation_problems(content: Mapping[str, Any], valid: Mapping[str, Any]) -> Iterator[str]:
    """A line for each mistake.  content: as the file has it; valid: what could be read (see kind/params/checks.py)."""
    methods = content.get("methods")
    labels = list(methods) if isinstance(methods, dict) else []
    for name, ablation in (valid.get("ablations") or {}).items():
        where, entries = f"ablations.{name}", ablation.entries
        if entries is None:
            continue
        if len(entries) < 2:
            yield f"{where}.entries: an ablation compares two entries or more, found {len(entries)}"
        for label in repeated(list(entries)):
            yield f"{where}.entries: {label!r} is named twice"
        for label in dict.fromkeys(entries):
            if label not in labels:
                yield f"{where}.entries: no method entry {label!r}{nearest(label, labels)}; {some(labels, 'entries: ')}"
        if ablation.base is not None and ablation.base not in entries:
            near = nearest(ablation.base, entries)
            yield f"{where}.base: {ablation.base!r} is none of its entries{near}; {some(entries, 'entries: ')}"
        if isinstance(entries, dict):
            yield from _words_problems(where, ablation)
        elif ablation.axis is not None and ablation.axis not in MEASURED:
            yield from _axis_problems(where, ablation, valid)


def _words_problems(where: str, ablation: Ablation) -> Iterator[str]:
    if ablation.axis is not None:
        yield (
            f"{where}: the axis {ablation.axis} and words of entries both say what an entry stands for; give a list of "
            "entries, or no axis"
        )
    by_words: dict[str, list[str]] = {}
    for label, words in ablation.entries.items():
        by_words.setdefault(words.strip(), []).append(label)
    for words, same in by_words.items():
        if len(same) > 1:
            yield f"{where}.entries: {', '.join(same)} have the same words {show(words)}; each needs its own"


def _axis_problems(where: str, ablation: Ablation, valid: Mapping[str, Any]) -> Iterator[str]:
    axis, methods, found = ablation.axis, valid.get("methods") or {}, {}
    for label in dict.fromkeys(ablation.entries):
        if label not in methods:
            continue  # said already
        name, options = methods[label]
        backbone = (valid.get("backbones") or {}).get(getattr(options, "backbone", None))
        if getattr((valid.get("entries") or {}).get(label), "match", None) and axis == METHODS[name].size_option:
            yield (
                f"{where}.axis: {axis} of {label} is no value of the file, `match` finds it for each task; use words "
                "in the place of the axis (entries: {ENTRY: words})"
            )
            continue
        value = axis_value(axis, options, valid.get("finetune"), backbone)
        if value is not None:
            found.setdefault(value, []).append(label)
            continue
        names = [*type(options).model_fields, *getattr(type(backbone), "model_fields", ())]
        if axis not in names:
            known, measured = ", ".join(dict.fromkeys(names)), ", ".join(MEASURED)
            near = nearest(axis, [*names, *MEASURED])
            yield f"{where}.axis: {axis!r} is no option of {label}{near}; its options: {known}; measured: {measured}"
        elif all(_field(place, axis) is None for place in (options, backbone)):
            yield f"{where}.axis: {label} gives no {axis}; an axis needs a value in every entry"
        else:
            yield f"{where}.axis: {axis} of {label} is no number and no choice; an axis is one or the other"
    for value, same in found.items():
        if len(same) > 1:
            yield (
                f"{where}: {', '.join(same)} have the same {axis} {in_words(value)}; each needs its own, or words in "
                "the place of the axis (entries: {ENTRY: words})"
            )
