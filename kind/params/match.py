"""`match` of a methods entry: the size with which it trains about as many numbers as another entry.  Imports no torch.

Found task by task from the methods' own formulas, before there is any model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from kind.data.sources import SOURCES
from kind.methods import METHODS, Adaptation, Method, Outline, Unknown
from kind.models.presets import Preset
from kind.params.backbones import Backbone
from kind.params.messages import nearest, some
from kind.params.methods import options_of
from kind.params.ranks import fits, known
from kind.params.read import leaves

HALVINGS = 40  # of the range of a share


class NoMatch(ValueError):
    """Why there is no size; its text is for the person who wrote the params."""


@dataclass(frozen=True)
class Match:
    """What was found.  entry: whose count was to be met; parameters and target are without the label table."""

    entry: str
    option: str
    size: float
    parameters: int
    target: int


@dataclass(frozen=True)
class Place:
    """What a method is run on: the model's sizes, the backbone (None for no start) and its classes, the number of the
    task's, the channels of its images (None where only the data can tell)."""

    shape: Preset
    backbone: Backbone | None
    seen_classes: Sequence[str]
    num_classes: int
    channels: int | None = None
    learned_variance: bool = False

    def count(self, method: Method, options: BaseModel) -> int:
        """Trainable parameters without the label table; raises NoMatch where only data and weights could tell."""
        factorized = self.backbone is not None and self.backbone.form == "kind"
        learngenes = self.backbone.factorization(self.seen_classes) if factorized else None
        outline = Outline(self.shape, self.channels, self.learned_variance, learngenes)
        try:
            return method.trainable_parameters(outline, options, Adaptation(self.num_classes, seed=0))
        except Unknown:
            raise NoMatch(
                f"how much {method.name} trains is known only of a whole model; name an entry whose size is an option"
            )

    def problem(self, method: Method, options: BaseModel) -> str | None:
        return method.problem(options, self.shape, self.backbone, len(self.seen_classes), self.num_classes)


def find_match(method: Method, given: Mapping[str, Any], place: Place, entry: str, target: int) -> Match:
    """The size whose count comes closest to `target`, the smaller one of two; raises NoMatch where none is possible.

    given: the entry's other options.
    """
    option = method.size_option

    def count(size: float) -> int:
        return place.count(method, method.options.model_validate({**given, option: size}))

    annotation = method.options.model_fields[option].annotation
    if float in (annotation, *leaves(annotation)):
        sizes = _shares(lambda share: count(share) < target)
    else:
        sizes = _neighbours(list(_whole_sizes(method, given, place)), lambda size: count(size) < target)
    size = min(sizes, key=lambda one: (abs(count(one) - target), one))
    return Match(entry, option, size, count(size), target)


def _whole_sizes(method: Method, given: Mapping[str, Any], place: Place) -> Iterator[int]:
    """Ascending: those that the method allows in this place, at least one."""
    reason, found = "", False
    for size in range(1, place.shape.width + 1):
        try:
            options = method.options.model_validate({**given, method.size_option: size})
        except ValidationError:  # below the option's own limit
            continue
        problem = place.problem(method, options)
        if problem is None:
            found = True
            yield size
        reason = reason or problem
    if not found:
        raise NoMatch(f"no {method.size_option} is possible: {reason}")


def _neighbours(sizes: list[int], too_small: Callable[[int], bool]) -> list[int]:
    """The last size that is too small and the first that is not; counts grow with sizes."""
    low, high = 0, len(sizes)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if too_small(sizes[middle]) else (low, middle)
    return sizes[max(low - 1, 0) : low + 1]


def _shares(too_small: Callable[[float], bool]) -> list[float]:
    """The same among the numbers between 0 and 1."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return [share for share in (low, high) if 0 < share < 1]


def match_problems(methods: Mapping[str, Any], valid: Mapping[str, Any], tasks: Mapping[str, Any]) -> Iterator[str]:
    """A line for each mistake of an entry with `match`.  methods: as the file has them; valid, tasks: what was read."""
    labels, entries = list(methods), valid.get("entries") or {}
    matched = {label: entry.match for label, entry in entries.items() if entry.match is not None}
    for label, wanted in matched.items():
        where, method = f"methods.{label}.match", METHODS[methods[label].get("method", label)]
        option = method.size_option
        if option is None:
            able = ", ".join(name for name, one in METHODS.items() if one.size_option)
            yield f"{where}: {method.name} has no option that sets how much it trains; those that have: {able}"
        elif option in methods[label]:
            yield f"{where}: finds {option}, which the entry gives too; give one of the two"
        elif wanted not in labels:
            yield f"{where}: no method entry {wanted!r}{nearest(wanted, labels)}; {some(labels, 'entries: ')}"
        elif wanted == label or wanted in matched:
            yield f"{where}: {wanted!r} has `match` itself; name an entry of a size of its own"
        elif label in valid["methods"] and wanted in valid["methods"]:
            yield from _unreachable(label, wanted, methods, valid, tasks)


def _unreachable(label: str, wanted: str, methods: Any, valid: Any, tasks: Mapping[str, Any]) -> Iterator[str]:
    (name, _), (other_name, other_options) = valid["methods"][label], valid["methods"][wanted]
    reasons: dict[str, list[str]] = {}
    for task, one in tasks.items():
        own, other = (_place(valid, valid["methods"][entry][1], one) for entry in (label, wanted))
        if own is None or other is None:
            continue
        try:
            target = other.count(METHODS[other_name], other_options)
            if not target:
                raise NoMatch(f"{wanted} trains nothing but label rows; name an entry that trains more")
            find_match(METHODS[name], options_of(methods[label]), own, wanted, target)
        except NoMatch as error:
            reasons.setdefault(str(error), []).append(task)
    for reason, where in reasons.items():
        yield f"methods.{label}.match: {reason} (task {', '.join(where)})"


def _place(valid: Mapping[str, Any], options: BaseModel, task: Any) -> Place | None:
    """None where something that it needs could not be read."""
    name, model, pretrain = getattr(options, "backbone", None), valid.get("model"), valid.get("pretrain")
    backbone = (valid.get("backbones") or {}).get(name)
    if None in (model, pretrain) or not (pretrain.classes and task.classes):
        return None
    shape = model.shape()
    if name is not None and (not known(backbone) or (backbone.form == "kind" and not fits(backbone, shape.width))):
        return None
    diffusion, data = valid.get("diffusion"), (valid.get("data") or {}).get(task.data)
    if diffusion is None or not known(data):
        return None
    return Place(shape, backbone, pretrain.classes, len(task.classes), channels_of(data), diffusion.learned_variance)


def channels_of(data: Any) -> int | None:
    """Of what a model sees of a data set; None where only the data can tell, or where its options are wrong."""
    if data.latents is not None:
        return data.latents.channels
    source = SOURCES[data.source]
    try:
        return source.channels(source.options.model_validate(data.options))
    except ValidationError:
        return None
