"""Reading params files.  Imports no torch.

Every mistake of a file is collected and reported in one message: where it is, what was given, what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import TypeAdapter, ValidationError

from kind.data.sources import SOURCES
from kind.errors import UserError
from kind.methods import METHODS
from kind.params import Experiment
from kind.params_messages import check_name, describe_errors, nearest, show, some


def load_experiment(path: str | Path) -> Experiment:
    """Read and check a params file; raises one UserError that lists every problem."""
    path = Path(path)
    content = _read_yaml(path)
    problems = list(_Checker(content).run())
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
    names = content["experiments"]
    if set(content) != {"experiments"} or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise UserError(f"{path}: a collection has one key, `experiments`, a list of names of params files beside it")
    members = [path.with_name(f"{name}.yaml") for name in names]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: experiments: {names} names one twice")
    return {member: load_experiment(member) for member in members}


def find_params(experiment: str) -> Path:
    """Path of an experiment given as a name (`params/NAME.yaml`) or as a path to a YAML file."""
    if experiment.endswith((".yaml", ".yml")):
        return Path(experiment)
    path = Path("params") / f"{experiment}.yaml"
    if not path.is_file():
        names = sorted(p.stem for p in path.parent.glob("*.yaml"))
        where = (
            f"experiments in {path.parent.resolve()}: {', '.join(names)}" if names else "run from the project's root"
        )
        raise UserError(f"no experiment {experiment!r}: {path} does not exist{nearest(experiment, names)}", hint=where)
    return path


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe loader that refuses a key given twice, which YAML would silently let win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key_node.tag != "tag:yaml.org,2002:merge" and isinstance(key, str | int | float):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is given twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict:
    if not path.is_file():
        raise UserError(f"{path}: no such params file", hint="the experiments are the files in params/")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}")
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of sections, found {type(content).__name__}")
    if "name" in content:
        raise UserError(f"{path}: name: not a key; an experiment's name is its file's name")
    return content


class _Checker:
    """Checks a file section by section, so that a mistake in one does not hide the mistakes in another."""

    def __init__(self, content: Mapping[str, Any]):
        self.content = content
        self.valid: dict[str, Any] = {}  # sections that passed; of mappings, the entries that passed

    def run(self) -> Iterator[str]:
        fields = {name: field for name, field in Experiment.model_fields.items() if name != "name"}
        for key in self.content:
            if key not in fields:
                yield f"{key}: unknown key{nearest(key, fields)}; allowed: {', '.join(fields)}"
        for name, field in fields.items():
            if name not in self.content:
                if field.is_required():
                    yield f"{name}: missing section"
                else:
                    self.valid[name] = field.default
            elif name in ("data", "backbones", "tasks"):
                yield from self._mapping(name, get_args(field.annotation)[1])
            elif name == "methods":
                yield from self._methods()
            else:
                annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
                yield from self._section(name, (name,), annotation, self.content[name], self.valid)
        yield from self._sources()
        yield from self._model()
        yield from self._backbones()
        yield from self._classes()
        yield from self._method_fit()
        yield from self._protocol()

    def _section(self, key: Any, where: tuple, annotation: Any, given: Any, into: dict) -> Iterator[str]:
        try:
            into[key] = TypeAdapter(annotation).validate_python(given)
        except ValidationError as error:
            yield from describe_errors(error, where, annotation)

    def _mapping(self, name: str, annotation: Any) -> Iterator[str]:
        given, entries = self.content[name], {}
        if not isinstance(given, dict) or not given:
            yield f"{name}: expected a mapping of names to entries with at least one entry, found {show(given)}"
            return
        for key, entry in given.items():
            yield from check_name(name, key)
            yield from self._section(key, (name, key), annotation, entry, entries)
        self.valid[name] = entries

    def _methods(self) -> Iterator[str]:
        given, entries = self.content["methods"], {}
        if not isinstance(given, dict) or not given:
            yield f"methods: expected a mapping of method names to options, found {show(given)}"
            return
        for label, options in given.items():
            yield from check_name("methods", label)
            if options is None or not isinstance(options, dict):
                yield f"methods.{label}: expected a mapping of options ({{}} for the defaults), found {show(options)}"
                continue
            options = dict(options)
            name = options.pop("method", label)
            if name not in METHODS:
                yield (
                    f"methods.{label}: no method {name!r}{nearest(name, METHODS)}; methods: {', '.join(METHODS)}"
                    " (an entry of another name says `method: NAME`)"
                )
                continue
            yield from self._section(label, ("methods", label), METHODS[name].options, options, entries)
        self.valid["methods"] = entries

    def _sources(self) -> Iterator[str]:
        self.classes: dict[str, tuple[str, ...] | None] = {}
        self.counts: dict[str, Mapping[str, int] | None] = {}
        for name, data in self.valid.get("data", {}).items():
            source, options = SOURCES[data.source], {}
            yield from self._section("options", ("data", name, "options"), source.options, data.options, options)
            if options:
                self.classes[name] = source.class_names(options["options"])
                self.counts[name] = source.class_counts(options["options"])
            total = data.split.train + data.split.validation + data.split.test
            if not math.isclose(total, 1, abs_tol=1e-9):
                yield f"data.{name}.split: train + validation + test is {total:g}; it must be 1"

    def _model(self) -> Iterator[str]:
        model = self.valid.get("model")
        if model is None:
            return
        shape = model.shape()
        if shape.width % shape.num_heads:
            yield f"model: width {shape.width} is no multiple of num_heads {shape.num_heads}"
        if shape.width % 4:
            yield f"model: width {shape.width} is no multiple of 4, which the position embedding needs"

    def _backbones(self) -> Iterator[str]:
        model, pretrain = self.valid.get("model"), self.valid.get("pretrain")
        for name, backbone in self.valid.get("backbones", {}).items():
            if backbone.form != "kind" or model is None:
                continue
            width = model.shape().width
            active = backbone.num_learngenes + backbone.num_tailors
            if active > width:
                yield (
                    f"backbones.{name}: impossible rank: num_learngenes {backbone.num_learngenes} + num_tailors "
                    f"{backbone.num_tailors} = {active} components are active, but a matrix of width {width} has rank "
                    f"at most {width}"
                )
            elif pretrain is not None and not backbone.overcomplete:
                total = backbone.num_learngenes + len(pretrain.classes) * backbone.num_tailors
                if total > width:
                    yield (
                        f"backbones.{name}: impossible rank: {backbone.num_learngenes} learngenes + "
                        f"{len(pretrain.classes)} classes x {backbone.num_tailors} tailors = {total} components exceed "
                        f"the rank {width}; lower them or say `overcomplete: true`"
                    )

    def _classes(self) -> Iterator[str]:
        users = {f"tasks.{name}": task for name, task in self.valid.get("tasks", {}).items()}
        pretrain = self.valid.get("pretrain")
        if pretrain is not None:
            users["pretrain"] = pretrain
        for where, user in users.items():
            if user.data not in self.content.get("data", {}):
                names = list(self.content.get("data", {}))
                yield f"{where}.data: no data set {user.data!r}{nearest(user.data, names)}; data sets: {', '.join(names)}"
                continue
            for name in sorted({name for name in user.classes if user.classes.count(name) > 1}):
                yield f"{where}.classes: {name!r} is named twice"
            known = self.classes.get(user.data)
            for name in user.classes if known is not None else ():
                if name not in known:
                    yield f"{where}.classes: {user.data} has no class {name!r}{nearest(name, known)}; {some(known)}"
            if where != "pretrain" and pretrain is not None and pretrain.data == user.data:
                both = [name for name in user.classes if name in pretrain.classes]
                if both:
                    yield (
                        f"{where}.classes: {', '.join(map(repr, both))} also in pretrain.classes; a task's classes "
                        "must be new to the backbone"
                    )
            yield from self._shots(where, user)

    def _shots(self, where: str, task: Any) -> Iterator[str]:
        asked, counts = getattr(task, "images_per_class", None), self.counts.get(task.data)
        data = self.valid.get("data", {}).get(task.data)
        if asked is None or not counts or data is None:
            return
        for name in task.classes:
            available = math.floor(counts.get(name, 0) * data.split.train)
            if name in counts and asked > available:
                yield (
                    f"{where}.images_per_class: {asked} asked, but class {name!r} of {task.data} has {available} "
                    f"training images ({counts[name]} in all, split.train {data.split.train:g})"
                )

    def _method_fit(self) -> Iterator[str]:
        model, backbones, pretrain = (self.valid.get(name) for name in ("model", "backbones", "pretrain"))
        for label, options in self.valid.get("methods", {}).items():
            method = METHODS[dict(self.content["methods"][label]).get("method", label)]
            wanted = getattr(options, "backbone", None)
            if wanted is not None and wanted not in self.content.get("backbones", {}):
                names = list(self.content.get("backbones", {}))
                yield f"methods.{label}: starts from backbone {wanted!r}, which backbones does not hold ({', '.join(names)})"
            elif wanted is not None and backbones and wanted in backbones and backbones[wanted].form != method.start:
                form = backbones[wanted].form
                yield f"methods.{label}.backbone: {wanted!r} is of form {form}, but {method.name} needs form {method.start}"
            elif model is not None and pretrain is not None:
                backbone = (backbones or {}).get(wanted)
                for task_name, task in self.valid.get("tasks", {}).items():
                    problem = method.problem(options, model.shape(), backbone, len(pretrain.classes), len(task.classes))
                    if problem:
                        yield f"methods.{label}: {problem} (task {task_name})"

    def _protocol(self) -> Iterator[str]:
        sampling, tasks = self.valid.get("sampling"), self.valid.get("tasks", {})
        seeds = self.valid.get("seeds")
        if seeds and len(set(seeds)) < len(seeds):
            yield f"seeds: {seeds} names one twice"
        if sampling is None:
            return
        for key in ("num_samples", "curve_num_samples"):
            count = getattr(sampling, key)
            for name, task in tasks.items():
                if count is not None and count < len(task.classes):
                    yield f"sampling.{key}: {count} is fewer than the {len(task.classes)} classes of task {name}"
