"""Reading params files.  Imports no torch.

Every mistake of a file is collected and reported in one message: where it is, what was given, what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError, create_model

from kind.data.sources import SOURCES
from kind.errors import UserError
from kind.methods import METHODS
from kind.params import Experiment
from kind.params_checks import Checks
from kind.params_messages import check_name, describe_errors, nearest, show

MAX_KEYS = 10_000  # of one mapping, after merging; a few lines of YAML can merge into more than any memory holds


def load_experiment(path: str | Path) -> Experiment:
    """Read and check a params file; raises one UserError that lists every problem."""
    path = Path(path)
    content = _read_yaml(path)
    if "experiments" in content:
        names = content["experiments"]
        raise UserError(
            f"{path}: a collection of experiments, where one experiment is needed",
            hint=f"name one of {', '.join(map(str, names))}" if isinstance(names, list) and names else None,
        )
    problems = [*check_name("the name of the file", path.stem), *_Reader(content).problems()]
    if problems:
        lines = "\n".join(f"  {number}. {problem}" for number, problem in enumerate(problems, 1))
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError(f"{path}: {count}\n{lines}", hint=f"mend {path} and run the same command again")
    return Experiment.model_validate({"name": path.stem, **content})


def load_experiments(path: str | Path) -> dict[Path, Experiment]:
    """The experiment of a params file, or those that a collection file (`experiments: [names]`) names."""
    path = Path(path)
    content = _read_yaml(path)
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
        there = sorted(set(_names_beside(path)) - {path.stem})
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


def find_params(experiment: str) -> Path:
    """Path of an experiment given as a name (`params/NAME.yaml`) or as a path to a YAML file."""
    if experiment.endswith((".yaml", ".yml")):
        return Path(experiment)
    path = Path("params") / f"{experiment}.yaml"
    if not path.is_file():
        names = _names_beside(path)
        here = f"experiments in {path.parent.resolve()}: {', '.join(names)}"
        hint = here if names else "run from the project's root, or give the path of a params file"
        raise UserError(f"no experiment {experiment!r}: {path} does not exist{nearest(experiment, names)}", hint=hint)
    return path


def _names_beside(path: Path) -> list[str]:
    return sorted(found.stem for found in path.parent.glob("*.y*ml"))


# --- YAML -----------------------------------------------------------------------------------------------------


class _CarefulLoader(yaml.SafeLoader):
    """Safe loader that refuses a key given twice, which YAML would silently let win, and merges without end."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    problem = f"the key {key.value!r} is given twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add((key.tag, key.value))
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MAX_KEYS:
            raise yaml.constructor.ConstructorError(None, None, "merges into too many keys", node.start_mark)


def _read_yaml(path: Path) -> dict:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _CarefulLoader)  # noqa: S506  a SafeLoader
    except FileNotFoundError:
        names = _names_beside(path)
        hint = f"params files in {path.parent}: {', '.join(names)}" if names else "the experiments are in params/"
        raise UserError(f"{path}: no such params file{nearest(path.stem, names)}", hint=hint)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}; save the file as UTF-8")
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {_yaml_problem(error)}")
    except RecursionError:
        raise UserError(f"{path}: not valid YAML: nested too deeply")
    except (ValueError, OverflowError, TypeError, AttributeError) as error:  # PyYAML's own, for 2020-99-99 or !!int x
        raise UserError(f"{path}: not valid YAML: a value cannot be read: {error}")
    if content is None:
        raise UserError(f"{path}: the file is empty", hint="params/smoke.yaml shows what a params file holds")
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of sections, found {show(content)}")
    return content


def _yaml_problem(error: yaml.YAMLError) -> str:
    """Where and what, in one line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    if "'\\t'" in problem:
        problem = "a tab where YAML wants spaces"
    elif "python/" in problem:
        problem += " (params files hold plain values only)"
    context = getattr(error, "context", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{f' ({context})' if context else ''}"


# --- sections -------------------------------------------------------------------------------------------------


class _Reader:
    """Reads a file section by section, so that a mistake in one does not hide the mistakes in another."""

    def __init__(self, content: Mapping[Any, Any]):
        self.content = content
        self.valid: dict[str, Any] = {}  # what could be read; see kind/params_checks.py

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
            else:
                annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
                partly = name != "model"  # where None says: as in the preset
                yield from _read(name, (name,), annotation, self.content[name], self.valid, partly=partly)
        options: dict[str, Any] = {}
        yield from self._source_options(options)
        yield from Checks(self.content, self.valid, options).run()

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
            yield from _read(key, (name, key), annotation, entry, entries)

    def _methods(self) -> Iterator[str]:
        yield from self._mapping("methods")
        entries = self.valid["methods"] = {}
        for label, given in _items(self.content["methods"]):
            if not isinstance(given, dict):
                yield f"methods.{label}: expected a mapping of options ({{}} for the defaults), found {show(given)}"
                continue
            options = dict(given)
            name = options.pop("method", label)
            if not isinstance(name, str) or name not in METHODS:
                key = "methods" if "method" not in given else f"methods.{label}.method"
                also = "" if "method" in given else " (an entry of another name says `method: NAME`)"
                yield f"{key}: no method {show(name)}{nearest(name, METHODS)}; methods: {', '.join(METHODS)}{also}"
                continue
            read: dict[str, Any] = {}
            yield from _read(label, ("methods", label), METHODS[name].options, options, read, partly=False)
            entries |= {label: (name, found) for label, found in read.items()}

    def _source_options(self, into: dict[str, Any]) -> Iterator[str]:
        for name, data in list(self.valid.get("data", {}).items()):
            if data.source is None:
                del self.valid["data"][name]  # nothing can be said about it
            elif data.options is not None:
                where, model = ("data", name, "options"), SOURCES[data.source].options
                yield from _read(name, where, model, data.options, into, partly=False)


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _read(key: Any, where: tuple, annotation: Any, given: Any, into: dict, *, partly: bool = True) -> Iterator[str]:
    """Put the typed value at `into[key]`; of a section with mistakes (`partly`) what is right, None for the rest."""
    try:
        into[key] = TypeAdapter(annotation).validate_python(given, strict=True)
    except ValidationError as error:
        yield from describe_errors(error, where, annotation)
        if partly and isinstance(given, dict) and (found := _read_partly(annotation, given)) is not None:
            into[key] = found


def _read_partly(annotation: Any, given: dict) -> BaseModel | None:
    for model in (arg for arg in (annotation, *_leaves(annotation)) if _is_model(arg)):
        wrong: set[Any] = set()
        try:
            model.model_validate(given)
        except ValidationError as error:
            wrong = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
        if "form" in wrong:
            continue  # another form of the union
        right = {name: value for name, value in given.items() if name not in wrong}
        fields = wrong & set(model.model_fields)
        try:
            return _all_optional(model).model_validate(right).model_copy(update=dict.fromkeys(fields))
        except ValidationError:  # what remains does not fit together
            return None
    return None


def _leaves(annotation: Any) -> Iterator[Any]:
    for inner in get_args(annotation):
        yield inner
        yield from _leaves(inner)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@cache
def _all_optional(model: type[BaseModel]) -> type[BaseModel]:
    """The same section, None where a required field is not given."""
    required = {name: field for name, field in model.model_fields.items() if field.is_required()}
    optional = {name: (field.annotation | None, None) for name, field in required.items()}
    return create_model(model.__name__, __base__=model, **optional)
