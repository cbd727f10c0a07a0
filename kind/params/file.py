"""Reading params files.  Imports no torch.

Every mistake of a file is collected and reported in one message: where it is, what was given, what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from kind.data.sources import SOURCES
from kind.errors import UserError
from kind.methods import METHODS
from kind.params import Experiment
from kind.params.checks import Checks
from kind.params.class_sets import with_class_lists
from kind.params.extends import Layered, read_layered
from kind.params.latent_checks import latent_problems
from kind.params.messages import check_name, nearest, show
from kind.params.methods import Entry, about, options_of, with_defaults
from kind.params.read import optional_fields, read_into
from kind.params.yaml import NOT_EXPERIMENTS, names_beside


def load_experiment(path: str | Path) -> Experiment:
    """Read and check a params file; raises one UserError that lists every problem."""
    path = Path(path)
    layered = _read_experiment(path)
    content = layered.content
    if "experiments" in content:
        names = content["experiments"]
        raise UserError(
            f"{path}: a collection of experiments, where one experiment is needed",
            hint=f"name one of {', '.join(map(str, names))}" if isinstance(names, list) and names else None,
        )
    content = with_class_lists(with_defaults(content))
    problems = [*check_name("the name of the file", path.stem), *_Reader(content).problems()]
    if problems:
        lines = "\n".join(f"  {number}. {problem}{layered.note(problem)}" for number, problem in enumerate(problems, 1))
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError(f"{path}: {count}\n{lines}", hint=f"mend {path} and run the same command again")
    return Experiment.model_validate({"name": path.stem, **content})


def load_experiments(path: str | Path) -> dict[Path, Experiment]:
    """The experiment of a params file, or those that a collection file (`experiments: [names]`) names."""
    path = Path(path)
    content = _read_experiment(path).content
    if "experiments" not in content:
        return {path: load_experiment(path)}
    names, others = content["experiments"], [key for key in content if key != "experiments"]
    if others or not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        found = f"found also {', '.join(map(show, others))}" if others else f"found {show(names)}"
        raise UserError(
            f"{path}: a collection has one key, `experiments`, a list of names of params files beside it; {found}"
        )
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise UserError(f"{path}: experiments: {', '.join(map(repr, twice))} named twice")
    members = [path.with_name(f"{name}{path.suffix}") for name in names if Path(name).name == name]
    lacking = [name for name in names if not path.with_name(f"{Path(name).name}{path.suffix}").is_file()]
    if lacking or len(members) < len(names):
        there = sorted(set(names_beside(path)) - {path.stem})
        wrong = ", ".join(f"{name!r}{nearest(name, there)}" for name in lacking or names)
        raise UserError(f"{path}: experiments: no params file for {wrong}; beside it are {', '.join(there) or 'none'}")
    experiments, problems = {}, []
    for member in members:
        try:
            experiments[member] = load_experiment(member)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return experiments


def _read_experiment(path: Path) -> Layered:
    if path.stem in NOT_EXPERIMENTS:
        names = names_beside(path)
        raise UserError(
            f"{path}: holds the defaults of methods and is no experiment",
            hint=f"experiments beside it: {', '.join(names) or 'none'}",
        )
    return read_layered(path)


def find_params(experiment: str) -> Path:
    """Path of an experiment given as a name (`params/NAME.yaml`) or as a path to a YAML file."""
    if experiment.endswith((".yaml", ".yml")):
        return Path(experiment)
    path = Path("params") / f"{experiment}.yaml"
    if not path.is_file():
        names = names_beside(path)
        here = f"experiments in {path.parent.resolve()}: {', '.join(names)}"
        hint = here if names else "run from the project's root, or give the path of a params file"
        raise UserError(f"no experiment {experiment!r}: {path} does not exist{nearest(experiment, names)}", hint=hint)
    return path


# --- sections -------------------------------------------------------------------------------------------------


class _Reader:
    """Reads a file section by section, so that a mistake in one does not hide the mistakes in another."""

    def __init__(self, content: Mapping[Any, Any]):
        self.content = content
        self.valid: dict[str, Any] = {}  # what could be read; see kind/params/checks.py

    def problems(self) -> Iterator[str]:
        fields = {name: field for name, field in Experiment.model_fields.items() if name != "name"}
        for key in self.content:
            if key == "name":
                yield "name: not a key; an experiment's name is its file's name"
            elif key not in fields:
                yield f"{show(key)[:60]}: unknown section{nearest(key, fields)}; allowed: {', '.join(fields)}"
        for name, field in fields.items():
            if name not in self.content:
                if field.is_required():
                    yield f"{name}: missing section"
                else:
                    self.valid[name] = field.default
            elif name in ("data", "backbones", "tasks", "ablations"):
                yield from self._entries(name, get_args(field.annotation)[1])
            elif name == "methods":
                yield from self._methods()
            elif name == "tune":
                yield from self._tune(field.annotation)
            else:
                annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
                partly = name != "model"  # where None says: as in the preset
                yield from read_into(name, (name,), annotation, self.content[name], self.valid, partly=partly)
        options: dict[str, Any] = {}
        yield from self._source_options(options)
        yield from Checks(self.content, self.valid, options).run()
        yield from latent_problems(self.valid, options)

    def _mapping(self, name: str) -> Iterator[str]:
        given = self.content[name]
        if not isinstance(given, dict) or not given:
            found = "an empty mapping" if given == {} else show(given)
            yield f"{name}: expected a mapping of names to entries, at least one, found {found}"
        else:
            for key in given:
                yield from check_name(name, key)

    def _entries(self, name: str, annotation: Any) -> Iterator[str]:
        yield from self._mapping(name)
        entries = self.valid[name] = {}
        for key, entry in _items(self.content[name]):
            yield from read_into(key, (name, key), annotation, entry, entries)

    def _methods(self) -> Iterator[str]:
        yield from self._mapping("methods")
        entries, said_of = self.valid["methods"], self.valid["entries"] = {}, {}
        for label, given in _items(self.content["methods"]):
            if not isinstance(given, dict):
                yield f"methods.{label}: expected a mapping of options ({{}} for the defaults), found {show(given)}"
                continue
            name = given.get("method", label)
            if not isinstance(name, str) or name not in METHODS:
                key = "methods" if "method" not in given else f"methods.{label}.method"
                also = "" if "method" in given else " (an entry of another name says `method: NAME`)"
                yield f"{key}: no method {show(name)}{nearest(name, METHODS)}; methods: {', '.join(METHODS)}{also}"
                continue
            said: dict[str, Any] = {}
            yield from read_into(label, ("methods", label), Entry, about(given), said)
            said_of[label] = said.get(label, Entry())
            method, read = METHODS[name], {}
            found_later = [method.size_option] if "match" in given and method.size_option else []
            for key in method.finds:
                if key in given:
                    yield f"methods.{label}.{key}: found from the backbone that `like` names; leave it out"
            model, own = optional_fields(method.options, [*found_later, *method.finds]), options_of(given)
            own = {key: value for key, value in own.items() if key not in method.finds}
            yield from read_into(label, ("methods", label), model, own, read, partly=False)
            entries |= {label: (name, found) for label, found in read.items()}

    def _tune(self, annotation: Any) -> Iterator[str]:
        given = self.content["tune"]
        if given is None:
            yield "tune: expected a mapping, found nothing; leave the section out to choose no learning rates"
            return
        tasks = given.get("tasks") if isinstance(given, dict) else None
        for key, _ in _items(tasks):
            yield from check_name("tune.tasks", key)
        yield from read_into("tune", ("tune",), annotation, given, self.valid)

    def _source_options(self, into: dict[str, Any]) -> Iterator[str]:
        for name, data in list(self.valid.get("data", {}).items()):
            if data.source is None:
                del self.valid["data"][name]  # nothing can be said about it
            elif data.options is not None:
                where, model = ("data", name, "options"), SOURCES[data.source].options
                yield from read_into(name, where, model, data.options, into, partly=False)


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []
