"""The `analyses` section: what is asked of models beyond their samples, and its checks.  Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from kind.methods import METHODS
from kind.params.messages import nearest, some
from kind.params.ranks import known, repeated
from kind.params.types import NaturalInt, PositiveInt, Section


class WeightAnalysis(Section):
    """Every run's matrices against those that it began with.

    num_vectors, max_cosine: of intruder dimensions (k and epsilon of Shuttleworth et al. 2024).
    """

    num_vectors: PositiveInt = 10
    max_cosine: Annotated[float, Field(gt=0, le=1)] = 0.6


class Interference(Section):
    """Models adapted to these tasks, put together: what it costs each.

    methods: a methods entry -> the entries that stand in for it on some tasks, as runs of `ortho-lora` that are to be
    added up need other slots; `{}`: the entry itself on all.  num_draws: of noise and timestep for an image.
    """

    tasks: Annotated[list[str], Field(min_length=2)]
    methods: Annotated[dict[str, dict[str, str]], Field(min_length=1)]
    num_draws: PositiveInt = 8
    seed: NaturalInt = 0

    def entry(self, label: str, task: str) -> str:
        """The methods entry whose run on the task takes part."""
        return self.methods[label].get(task, label)


class Bounds(Section):
    """Real images and untouched backbones, measured as samples of runs are."""


class Components(Section):
    """What learngenes and tailors of the gated backbones hold.

    num_permutations: of the Mantel test.  images_per_class: at most so many training images of a class are looked at.
    """

    num_permutations: PositiveInt = 10_000
    images_per_class: PositiveInt = 100
    seed: NaturalInt = 0


class Guidance(Section):
    """Samples of the trials whose learning rates were chosen, drawn again at each of these guidance scales."""

    scales: Annotated[list[Annotated[float, Field(ge=1)]], Field(min_length=2)]


class Analyses(Section):
    weights: WeightAnalysis | None = None
    interference: Interference | None = None
    bounds: Bounds | None = None
    components: Components | None = None
    guidance: Guidance | None = None

    @model_serializer(mode="wrap")
    def _described(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Recipes of reports that were made before there was one of these do not know it."""
        unsaid = {name for name in ("bounds", "components", "guidance") if getattr(self, name) is None}
        return {key: value for key, value in handler(self).items() if key not in unsaid}


def is_gated(backbone: Any) -> bool:
    """Whether classes own tailors of it, behind KIND's class gate."""
    return backbone.given_to == "kind" and backbone.has_tailors


SHARED = {"learngenes": "frozen", "train_dense": "none"}  # options of KIND's adaptation that keep what classes share


def analysis_problems(content: Mapping[str, Any], valid: Mapping[str, Any]) -> Iterator[str]:
    """A line for each mistake.  content, valid: see `kind.params.checks`."""
    given = content.get("analyses")
    if isinstance(given, dict) and all(value is None for value in given.values()):
        yield (
            "analyses: names no analysis; write one or more of `weights: {}`, `bounds: {}`, `components: {}`, "
            "`guidance: ...` and `interference: ...`, or leave the section out"
        )
    analyses, model = valid.get("analyses"), valid.get("model")
    if analyses and analyses.weights and model and analyses.weights.num_vectors > model.shape().width:
        yield (
            f"analyses.weights.num_vectors: {analyses.weights.num_vectors} exceeds the {model.shape().width} singular "
            f"vectors of a matrix of width {model.shape().width}"
        )
    if analyses and analyses.components:
        yield from _component_problem(content, valid)
    if analyses and analyses.guidance:
        yield from _guidance_problems(analyses.guidance, content)
    interference = analyses and analyses.interference
    if interference is None:
        return
    yield from _task_problems(interference.tasks, _names(content, "tasks"), valid.get("tasks") or {})
    entries, named, where = valid.get("methods") or {}, _names(content, "methods"), "analyses.interference.methods"
    for label, stand_ins in interference.methods.items():
        for key, name in [(label, label), *((f"{label}.{task}", entry) for task, entry in stand_ins.items())]:
            if named and name not in named:
                yield f"{where}.{key}: no methods entry {name!r}{nearest(name, named)}; {some(named, 'entries: ')}"
        for task in stand_ins:
            if task not in interference.tasks:
                known = ", ".join(interference.tasks)
                yield f"{where}.{label}.{task}: not among the tasks that are put together, {known}"
        if all(name in entries for name in (label, *stand_ins.values())):
            yield from _method_problems(f"{where}.{label}", label, stand_ins, entries)
            if not set(stand_ins) <= set(interference.tasks):
                continue  # said already
            chosen = [entries[stand_ins.get(task, label)][1] for task in interference.tasks]
            yield from _slot_problems(f"{where}.{label}", chosen)


def _names(content: Mapping[str, Any], section: str) -> list[str]:
    """Of the section's entries; none where it is no mapping, which is said elsewhere."""
    found = content.get(section)
    return list(map(str, found)) if isinstance(found, dict) else []


def _component_problem(content: Mapping[str, Any], valid: Mapping[str, Any]) -> Iterator[str]:
    """Whether some entry starts from a gated backbone; nothing where an entry or a backbone could not be read."""
    backbones, entries = valid.get("backbones") or {}, valid.get("methods") or {}
    used = dict.fromkeys(getattr(options, "backbone", None) for _, options in entries.values())
    used.pop(None, None)
    readable = all(name in backbones and known(backbones[name]) for name in used)
    if not readable or len(entries) < len(_names(content, "methods")) or not entries:
        return
    if not any(is_gated(backbones[name]) for name in used):
        found = some((f"{name} ({_gate_of(backbones[name])})" for name in used), "")
        yield (
            "analyses.components: looks at learngenes and tailors of backbones that methods start from, and none has "
            f"tailors behind a class gate; found {found or 'no backbone at all'}; add a method that starts from one of "
            "form kind with gate binary and num_tailors 1 or more, or leave components out"
        )


def _guidance_problems(guidance: Any, content: Mapping[str, Any]) -> Iterator[str]:
    for scale in repeated(guidance.scales or []):
        yield f"analyses.guidance.scales: {scale:g} is named twice"
    if "tune" not in content:
        yield (
            "analyses.guidance: draws from trials of learning rates on the tasks of `tune`, and there is no `tune` "
            "section; add one, or leave guidance out"
        )


def _gate_of(backbone: Any) -> str:
    if backbone.form != "kind":
        return f"form {backbone.form}"
    return "gate soft" if backbone.given_to == "soft" else "no tailors"


def _task_problems(chosen: list[str], names: list[str], tasks: Mapping[str, Any]) -> Iterator[str]:
    where = "analyses.interference.tasks"
    for name in repeated(chosen):
        yield f"{where}: {name!r} is named twice"
    for name in dict.fromkeys(chosen):
        if names and name not in names:
            yield f"{where}: no task {name!r}{nearest(name, names)}; {some(names, 'tasks: ')}"
    known = {name: tasks[name] for name in chosen if name in tasks and tasks[name].classes and tasks[name].data}
    for one, other in combinations(known, 2):
        both = [name for name in known[one].classes if name in known[other].classes]
        if known[one].data == known[other].data and both:
            listed = some(map(repr, both), "")
            yield f"{where}: {one} and {other} share {listed}; each class must be of one task alone"


def _method_problems(
    where: str, label: str, stand_ins: Mapping[str, str], entries: Mapping[str, tuple[str, Any]]
) -> Iterator[str]:
    """Of an entry and its stand-ins: whether their runs can be put together at all."""
    name, options = entries[label]
    method = METHODS[name]
    for task, entry in stand_ins.items():
        other, others = entries[entry]
        if (other, getattr(others, "backbone", None)) != (name, getattr(options, "backbone", None)):
            yield f"{where}.{task}: {entry!r} is of another method or backbone than {label!r}; name one of the same"
    if method.start == "soft":
        yield f"{where}: behind a soft gate classes share all tailors, and models cannot be combined; leave it out"
    if method.renews:
        yield f"{where}: {name} draws blocks anew, so that its runs begin apart and cannot be added; leave it out"
    if method.start is None:
        yield f"{where}: {name} begins with nothing that its runs share, so that they cannot be added; leave it out"
    if not method.has_plain_form:
        yield f"{where}: {name} leaves layers that are no plain matrices, which cannot be added; leave it out"
    for entry in dict.fromkeys([label, *stand_ins.values()]):
        found = {key: getattr(entries[entry][1], key, frozen) for key, frozen in SHARED.items()}
        changed = ", ".join(f"{key}: {value}" for key, value in found.items() if value != SHARED[key])
        if changed:
            yield f"{where}: {entry} has {changed}, which changes what tailors share; name an entry that freezes it"


def _slot_problems(where: str, chosen: Sequence[Any]) -> Iterator[str]:
    """Orthogonal Adaptation: runs that are added up have other rows of one basis.  chosen: options, task by task."""
    if not hasattr(chosen[0], "slot"):
        return
    if any(options.rank is None for options in chosen):
        yield f"{where}: with `match` its rank differs between tasks, and its slots overlap; give every entry the rank"
        return
    if len({options.basis_seed for options in chosen}) > 1:
        yield f"{where}: entries of different basis_seed take rows of different bases; give all the same"
    for one, other in combinations(chosen, 2):
        first, second = ((o.rank * o.slot, o.rank * (o.slot + 1)) for o in (one, other))
        if first[0] < second[1] and second[0] < first[1]:
            yield (
                f"{where}: rank {one.rank}, slot {one.slot} (rows {first[0]} to {first[1] - 1} of the basis) and rank "
                f"{other.rank}, slot {other.slot} (rows {second[0]} to {second[1] - 1}) overlap; give each task an "
                "entry with a slot of its own"
            )
