"""Classes of pre-training, tasks and data sets by the name of a set, or as a choice from one.  Imports no torch, needs
no data.

    classes: seen                               # a set that the data set's source names
    classes: {of: novel, count: 20, seed: 0}    # 20 of them at random
    classes: {of: novel, count: 20, seed: 0, skip: 20}    # the next 20 of the same shuffle: none of the first

The `classes` of a data set's options say it in the same words, where its source has both: so much is prepared.  They
are replaced by lists as soon as a file is read, so that all the rest, recipes too, knows lists alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kind.data.class_sets import Unresolved, describe, select
from kind.data.sources import SOURCES, Source
from kind.params.messages import describe_errors, nearest, some
from kind.params.types import NaturalInt, PositiveInt, Section

if TYPE_CHECKING:
    from kind.params import Experiment


class Choice(Section):
    """Some classes of a set: see `kind.data.class_sets.select`.  count: None for all from `skip` on."""

    of: str
    count: PositiveInt | None = None
    skip: NaturalInt = 0
    seed: NaturalInt = 0


def with_class_lists(content: Mapping[str, Any]) -> dict[str, Any]:
    """The file's content with a list in the place of every set; `Unresolved` where there is none."""
    if isinstance(content.get("data"), dict):
        content = {**content, "data": {name: _taken(name, entry) for name, entry in content["data"].items()}}
    new = dict(content)
    if isinstance(content.get("pretrain"), dict):
        new["pretrain"] = _listed(("pretrain",), content["pretrain"], content)
    if isinstance(content.get("tasks"), dict):
        new["tasks"] = _all_listed(("tasks",), content["tasks"], content)
    tune = content.get("tune")
    if isinstance(tune, dict) and isinstance(tune.get("tasks"), dict):
        new["tune"] = tune | {"tasks": _all_listed(("tune", "tasks"), tune["tasks"], content)}
    return new


def _taken(name: Any, entry: Any) -> Any:
    """An entry of `data` with a list of the classes that it takes, where its source names sets and takes lists."""
    options, source = _options_and_source(entry)
    given = options.get("classes")
    if source is None or not isinstance(given, str | dict) or "classes" not in source.options.model_fields:
        return entry
    whole = {key: value for key, value in options.items() if key != "classes"}
    sets = _sets(name, source, whole)
    classes = _chosen(("data", name, "options", "classes"), given, name, sets)
    return {**entry, "options": {**options, "classes": classes}}


def class_sets(experiment: Experiment) -> dict[str, str]:
    """`pretrain` and task -> `20 of the 461 classes of the set novel`, where their sources name sets."""
    found = {}
    for name, user in experiment.class_users():
        data = experiment.data[user.data]
        source = SOURCES[data.source]
        whole = {key: value for key, value in data.options.items() if key != "classes"}  # what it takes has no name
        found[name] = describe(user.classes, source.class_sets(source.options.model_validate(whole)))
    return {name: words for name, words in found.items() if words}


def _all_listed(where: tuple, tasks: Mapping[Any, Any], content: Mapping[str, Any]) -> dict[Any, Any]:
    return {
        name: _listed((*where, name), entry, content) if isinstance(entry, dict) else entry
        for name, entry in tasks.items()
    }


def _listed(where: tuple, entry: Mapping[Any, Any], content: Mapping[str, Any]) -> dict[Any, Any]:
    given = entry.get("classes")
    if not isinstance(given, str | dict) or not given:
        return dict(entry)
    return {**entry, "classes": _classes((*where, "classes"), given, entry.get("data"), content)}


def _classes(where: tuple, given: Any, data: Any, content: Mapping[str, Any]) -> list[str] | Unresolved:
    sections = content.get("data")
    options, source = _options_and_source(sections.get(data) if isinstance(sections, dict) else None)
    if not isinstance(data, str) or source is None:
        sets = "which classes a set holds is known only when `data` names a data set that is in order; mend that first"
    else:
        sets = _sets(data, source, options)
    return _chosen(where, given, data, sets)


def _chosen(where: tuple, given: Any, data: str, sets: Mapping[str, Any] | str) -> list[str] | Unresolved:
    """sets: those of the data set, or why none are known."""
    key = ".".join(map(str, where))
    try:
        choice = Choice.model_validate({"of": given} if isinstance(given, str) else given)
    except ValidationError as error:
        return Unresolved(tuple(describe_errors(error, where, Choice)))
    if isinstance(sets, str):
        return Unresolved((f"{key}: {sets}",))
    for problem in _problems(choice, data, sets):
        return Unresolved((f"{key}{problem}",))
    names = sets[choice.of]
    return select(names, choice.count or len(names) - choice.skip, choice.skip, choice.seed)


def _problems(choice: Choice, data: str, sets: Mapping[str, Any]) -> Iterator[str]:
    if choice.of not in sets:
        yield f": {data} has no set of classes {choice.of!r}{nearest(choice.of, sets)}; {some(sets, 'sets: ')}"
        return
    size = len(sets[choice.of])
    if choice.skip >= size:
        yield f".skip: {choice.skip} leaves none of the {size} classes of the set {choice.of}"
    elif choice.count is not None and choice.skip + choice.count > size:
        skipped = f" after the {choice.skip} that are skipped" if choice.skip else ""
        yield f".count: {choice.count} asked, but the set {choice.of} has {size - choice.skip} classes{skipped}"


def _options_and_source(entry: Any) -> tuple[Mapping[str, Any], Source | None]:
    """Of an entry of `data`; None for the source where it names none."""
    entry = entry if isinstance(entry, dict) else {}
    name, options = entry.get("source"), entry.get("options", {})
    return options if isinstance(options, dict) else {}, SOURCES.get(name) if isinstance(name, str) else None


def _sets(data: str, source: Source, options: Mapping[str, Any]) -> Mapping[str, Any] | str:
    """The sets of a data set, or why none are known."""
    try:
        sets = source.class_sets(source.options.model_validate(options))
    except ValidationError:
        return f"which classes a set holds depends on data.{data}.options; mend these first"
    if not sets:
        return f"the source {source.name} of {data} names no sets of classes; give a list of classes"
    return sets
