"""Checks of a params file that look at several of its sections.  Imports no torch.

`valid` holds the sections and entries that could be read.  Of one with mistakes it holds what was right, the rest is
None, and a check that misses something says nothing: the mistake itself is reported already.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kind.data.sources import SOURCES
from kind.data.splits import split_sizes
from kind.layout import SPLITS
from kind.methods import METHODS
from kind.params.ablations import ablation_problems
from kind.params.analyses import analysis_problems
from kind.params.compute import batch_problems
from kind.params.entries import replay_problems, soup_problems
from kind.params.match import match_problems
from kind.params.messages import nearest, some
from kind.params.methods import default_note
from kind.params.protocol import spacing_problem
from kind.params.ranks import backbone_problems, fits, known, repeated
from kind.params.seen_checks import seen_problems
from kind.params.tune_checks import rate_problems

MOST_SHARDS = 100_000  # files of samples of one step


class Checks:
    """Yields a line for each mistake.  `methods`: label -> (name of the method, options)."""

    def __init__(self, content: Mapping[str, Any], valid: Mapping[str, Any], options: Mapping[str, Any]):
        self.content, self.valid = content, valid
        self.tasks, self.data, self.backbones = (valid.get(name) or {} for name in ("tasks", "data", "backbones"))
        self.pretrain, self.sampling = valid.get("pretrain"), valid.get("sampling")
        self.methods = valid.get("methods") or {}
        tuning = getattr(valid.get("tune"), "tasks", None) or {}
        self.all_tasks = tuning | self.tasks
        self.task_places = [(f"tasks.{name}", task) for name, task in self.tasks.items()]
        self.task_places += [(f"tune.tasks.{name}", task) for name, task in tuning.items()]
        self.classes: dict[str, tuple[str, ...] | None] = {}
        self.counts: dict[str, Mapping[str, int]] = {}
        self.images: dict[str, tuple[str, Any]] = {}  # two data sets that are alike here may hold the same
        for name, given in options.items():  # options of the sources, which could be read
            source = SOURCES[self.data[name].source]
            self.images[name] = source.name, source.drawn_from(given)
            self.classes[name] = source.class_names(given)
            self.counts[name] = source.class_counts(given) or {}

    def run(self) -> Iterator[str]:
        for check in (
            self._seeds, self._splits, self._model, self._factorized, self._training, self._classes, self._shots,
            self._starts, self._method_problems, self._sampling, self._reference,
        ):  # fmt: skip
            yield from check()
        yield from seen_problems(self.content, self.valid)
        yield from ablation_problems(self.content, self.valid)
        yield from batch_problems(self.valid)
        yield from rate_problems(self.content, self.valid)
        yield from replay_problems(self.valid, self.methods)
        yield from soup_problems(list(_mapping(self.content.get("methods"))), self.methods)
        yield from analysis_problems(self.content, self.valid)

    def _seeds(self) -> Iterator[str]:
        seeds = self.valid.get("seeds") or []
        for seed in repeated(seeds):
            yield f"seeds: {seed} is named twice"

    def _splits(self) -> Iterator[str]:
        for name, data in self.data.items():
            fractions = self._fractions(name)
            if fractions is None and known(data.split):
                shares = [getattr(data.split, split) for split in SPLITS]
                yield (
                    f"data.{name}.split: train {shares[0]:g} + validation {shares[1]:g} + test {shares[2]:g} = "
                    f"{sum(shares):g}; the sum must be 1"
                )
            empty: dict[tuple[str, ...], list[str]] = {}
            for label, sizes in self._sizes(name).items():
                without = tuple(split for split, size in sizes.items() if size == 0)
                empty.setdefault(without, []).append(f"{label!r} ({self.counts[name][label]} images)")
            for without, labels in empty.items():
                if without:
                    yield (
                        f"data.{name}.split: leaves no {' and no '.join(without)} images of {some(labels, '')}; ask "
                        "for more images or give larger shares"
                    )

    def _fractions(self, name: str) -> dict[str, float] | None:
        data = self.data.get(name)
        if data is None or not known(data.split):
            return None
        fractions = {split: getattr(data.split, split) for split in SPLITS}
        return fractions if math.isclose(sum(fractions.values()), 1, abs_tol=1e-9) else None

    def _sizes(self, name: str) -> dict[str, dict[str, int]]:
        """Images of each class in each split, as far as they can be known without the data."""
        fractions = self._fractions(name)
        if fractions is None:
            return {}
        counts = self.counts.get(name, {})
        sizes = {count: split_sizes(count, fractions) for count in set(counts.values())}  # most classes have one count
        return {label: sizes[count] for label, count in counts.items()}

    def _model(self) -> Iterator[str]:
        shape = self._shape()
        if shape is not None and shape.width % shape.num_heads:
            yield f"model: width {shape.width} is no multiple of num_heads {shape.num_heads}"
        if shape is not None and shape.width % 4:
            yield f"model: width {shape.width} is no multiple of 4, which the position embedding needs"

    def _shape(self) -> Any:
        model = self.valid.get("model")
        return None if model is None else model.shape()

    def _factorized(self) -> Iterator[str]:
        shape = self._shape()
        for name, backbone in self.backbones.items():
            if backbone.form == "kind" and known(backbone):
                width, classes = shape and shape.width, self.pretrain and self.pretrain.classes
                yield from backbone_problems(f"backbones.{name}", backbone, width, classes or [])
                yield from self._start_problem(name, backbone.start)

    def _start_problem(self, name: str, start: str | None) -> Iterator[str]:
        names = list(_mapping(self.content.get("backbones")))
        if start is None:
            return
        if start not in names:
            yield f"backbones.{name}.start: no backbone {start!r}{nearest(start, names)}; backbones: {_listed(names)}"
        elif start in self.backbones and self.backbones[start].form != "dense":
            yield f"backbones.{name}.start: {start!r} is of form {self.backbones[start].form}; a start is of form dense"

    def _training(self) -> Iterator[str]:
        for name in ("pretrain", "finetune"):
            section = self.valid.get(name)
            if section is None or None in (section.steps, section.warmup_steps):
                continue
            if section.warmup_steps > section.steps:
                yield f"{name}.warmup_steps: {section.warmup_steps} exceeds {name}.steps {section.steps}"

    def _classes(self) -> Iterator[str]:
        for where, user in self._users():
            names = list(_mapping(self.content.get("data")))
            if user.data is not None and user.data not in names:
                yield f"{where}.data: no data set {user.data!r}{nearest(user.data, names)}; data sets: {_listed(names)}"
                continue
            classes, known = user.classes or [], self.classes.get(user.data)
            for name in repeated(classes):
                yield f"{where}.classes: {name!r} is named twice"
            for name in dict.fromkeys(classes) if known is not None else ():
                if name not in known:
                    yield f"{where}.classes: {user.data} has no class {name!r}{nearest(name, known)}; {some(known)}"
            if where == "pretrain" or self.pretrain is None or user.seen:
                continue
            both = [name for name in dict.fromkeys(classes) if name in (self.pretrain.classes or [])]
            if both and self._same_images(self.pretrain.data, user.data):
                known = "" if where.startswith("tune.") else "; where nothing is trained, all are known: `seen: true`"
                yield (
                    f"{where}.classes: {some(map(repr, both), '')} also in pretrain.classes; a task's classes "
                    f"must be new to the backbone{known}"
                )

    def _same_images(self, one: str | None, other: str | None) -> bool:
        return one == other or (one in self.images and self.images[one] == self.images.get(other))

    def _users(self) -> Iterator[tuple[str, Any]]:
        if self.pretrain is not None:
            yield "pretrain", self.pretrain
        yield from self.task_places

    def _shots(self) -> Iterator[str]:
        for where, task in self.task_places:
            if None in (task.images_per_class, task.data, task.classes):
                continue
            sizes = self._sizes(task.data)
            fewer = [
                f"{name!r} {sizes[name]['train']} (of {self.counts[task.data][name]})"
                for name in dict.fromkeys(task.classes)
                if name in sizes and sizes[name]["train"] < task.images_per_class
            ]
            if fewer:
                yield (
                    f"{where}.images_per_class: {task.images_per_class} asked, but {task.data} has fewer "
                    f"training images: {some(fewer, '')}; split.train is {self.data[task.data].split.train:g}"
                )

    def _starts(self) -> Iterator[str]:
        names = list(_mapping(self.content.get("backbones")))
        for label, (method_name, options) in self.methods.items():
            wanted, method = getattr(options, "backbone", None), METHODS[method_name]
            if wanted is None:
                continue
            if wanted not in names:
                yield (
                    f"methods.{label}.backbone: no backbone {wanted!r}{nearest(wanted, names)}; backbones: "
                    f"{_listed(names)} ({method_name} starts from {method.takes!r} unless `backbone` names another)"
                )
            elif wanted in self.backbones and self.backbones[wanted].given_to != method.takes:
                form = self.backbones[wanted].given_to
                yield (
                    f"methods.{label}.backbone: {wanted!r} is of form {form}, but {method_name} needs form "
                    f"{method.takes}"
                )
            yield from self._like_problem(label, options)

    def _like_problem(self, label: str, options: Any) -> Iterator[str]:
        names, like = list(_mapping(self.content.get("backbones"))), getattr(options, "like", None)
        if like is None:
            return
        if like not in names:
            yield f"methods.{label}.like: no backbone {like!r}{nearest(like, names)}; backbones: {_listed(names)}"
        elif like in self.backbones and self.backbones[like].given_to != "kind":
            yield (
                f"methods.{label}.like: {like!r} is of form {self.backbones[like].given_to}, but its size is to be "
                "that of a recombined model, which needs form kind"
            )

    def _method_problems(self) -> Iterator[str]:
        matched_on = {name: task for name, task in self.all_tasks.items() if not task.seen}
        yield from match_problems(_mapping(self.content.get("methods")), self.valid, matched_on)
        shape, num_seen = self._shape(), len((self.pretrain and self.pretrain.classes) or [])
        for label, (method_name, options) in self.methods.items():
            if "match" in self.content["methods"][label]:
                continue  # a size that fits is found
            method, backbone = METHODS[method_name], self.backbones.get(getattr(options, "backbone", None))
            if shape is None or (backbone is not None and (backbone.given_to != method.takes or not known(backbone))):
                continue
            if method.takes in ("kind", "soft") and backbone is not None and not fits(backbone, shape.width):
                continue  # said of the backbone already
            found: dict[str, list[str]] = {}
            for task_name, task in self.all_tasks.items():
                if task.classes and task.seen == method.for_seen:
                    problem = method.problem(options, shape, backbone, num_seen, len(task.classes))
                    found.setdefault(problem, []).append(task_name)
            for problem, tasks in found.items():
                if problem:
                    where = f" (task {', '.join(tasks)})" if len(found) > 1 else ""
                    yield f"methods.{label}: {problem}{default_note(method_name, options, problem)}{where}"

    def _sampling(self) -> Iterator[str]:
        sampling = self.sampling
        if sampling is None:
            return
        counts = {key: getattr(sampling, key) for key in ("num_samples", "curve_num_samples")}
        for key, count in counts.items():
            for name, task in self.all_tasks.items():
                if count is not None and count < len(task.classes or []):
                    yield f"sampling.{key}: {count} is fewer than the {len(task.classes)} classes of task {name}"
        size, batch = sampling.shard_size, sampling.batch_size
        most = max((count for count in counts.values() if count is not None), default=0)
        if None not in (size, batch) and most > size and size % batch:
            yield (
                f"sampling.shard_size: {size} is no multiple of sampling.batch_size {batch}, so that a batch would "
                f"lie in two shards; write {-(-size // batch) * batch}"
            )
        if size is not None and most > size * MOST_SHARDS:
            yield (
                f"sampling.shard_size: {most} samples in shards of {size} are more than {MOST_SHARDS} files; write at "
                f"least {-(-most // MOST_SHARDS)}, or lower num_samples"
            )
        diffusion, steps = self.valid.get("diffusion"), sampling.num_inference_steps
        trained = None if diffusion is None else diffusion.num_train_timesteps
        if None not in (steps, trained) and steps > trained:
            yield f"sampling.num_inference_steps: {steps} exceeds diffusion.num_train_timesteps {trained}"
        evaluation = self.valid.get("evaluation")
        if sampling.weights == "raw" and evaluation is not None and evaluation.curve:
            yield (
                "sampling.weights: raw weights are kept of the last step only, so that a curve would mix two models; "
                "write evaluation.curve: [] or weights: ema"
            )
        if problem := spacing_problem(sampling.sampler, sampling.timestep_spacing):
            yield f"sampling.timestep_spacing: {problem}"

    def _reference(self) -> Iterator[str]:
        evaluation = self.valid.get("evaluation")
        if evaluation is None or None in (evaluation.num_reference, evaluation.reference):
            return
        splits = SPLITS if evaluation.reference == "all" else (evaluation.reference,)
        for name, task in self.tasks.items():
            sizes = self._sizes(task.data) if task.data is not None else {}
            if not task.classes or any(label not in sizes for label in task.classes):
                continue
            held = sum(sizes[label][split] for label in dict.fromkeys(task.classes) for split in splits)
            if evaluation.num_reference > held:
                yield (
                    f"evaluation.num_reference: {evaluation.num_reference} asked, but the {evaluation.reference} "
                    f"images of task {name} are {held}"
                )


def _mapping(value: Any) -> Mapping:
    return value if isinstance(value, dict) else {}


def _listed(names: list) -> str:
    return ", ".join(map(str, names)) or "none"
