"""Checks of tasks whose classes are those of pre-training (`seen: true`), and of which entries run on which tasks.
Imports no torch.  `valid` as in kind/params/checks.py: what could be read, None for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kind.methods import METHODS
from kind.params.messages import some

FOR_SEEN = [name for name, method in METHODS.items() if method.for_seen]


def seen_problems(content: Mapping[str, Any], valid: Mapping[str, Any]) -> Iterator[str]:
    """A line for each mistake.  content: of the file."""
    tasks, pretrain = valid.get("tasks") or {}, valid.get("pretrain")
    for name, task in tasks.items():
        if task.seen and pretrain is not None:
            yield from _task_problems(f"tasks.{name}", task, pretrain)
    for name, task in (getattr(valid.get("tune"), "tasks", None) or {}).items():
        if task.seen:
            yield (
                f"tune.tasks.{name}.seen: on classes of pre-training nothing is trained, and no rate can be chosen; "
                "name classes that are new to the backbone, and of none of `tasks`"
            )
    methods = {label: name for label, (name, _) in (valid.get("methods") or {}).items()}
    interference = getattr(valid.get("analyses"), "interference", None)
    for name in (interference and interference.tasks) or []:
        if name in tasks and tasks[name].seen:
            yield f"analyses.interference.tasks: on {name} nothing is trained that could be put together; leave it out"
    for label in (interference and interference.methods) or {}:
        if methods.get(label) in FOR_SEEN:
            yield f"analyses.interference.methods.{label}: {methods[label]} trains nothing; leave it out"
    if all(
        found and isinstance(content.get(key), dict) and content[key].keys() == found.keys()
        for key, found in {"tasks": tasks, "methods": methods}.items()
    ):  # else what lacks may be unreadable
        yield from _idle(tasks, methods)
    for name, ablation in (valid.get("ablations") or {}).items():
        kinds = {label: methods[label] in FOR_SEEN for label in ablation.entries or [] if label in methods}
        if len(set(kinds.values())) > 1:
            apart = ", ".join(label for label, seen in kinds.items() if seen)
            yield (
                f"ablations.{name}.entries: {apart} run on classes of pre-training, the others on new ones, and no "
                "task has both; make two ablations of them"
            )


def _task_problems(where: str, task: Any, pretrain: Any) -> Iterator[str]:
    if task.images_per_class is not None:
        yield f"{where}.images_per_class: nothing is trained on a task with `seen: true`; leave it out"
    if None not in (task.data, pretrain.data) and task.data != pretrain.data:
        yield f"{where}.data: {task.data!r}, but a task with `seen: true` is of the data of pretrain, {pretrain.data!r}"
    elif task.classes and pretrain.classes:
        new = [name for name in dict.fromkeys(task.classes) if name not in pretrain.classes]
        if new:
            yield (
                f"{where}.classes: {some(map(repr, new), '')} not in pretrain.classes; a task with `seen: true` has "
                "classes of pre-training alone, and new ones need a task of their own without it"
            )


def _idle(tasks: Mapping[str, Any], methods: Mapping[str, str]) -> Iterator[str]:
    """Tasks without entries, and entries without tasks.  methods: label -> name."""
    able = [label for label, name in methods.items() if name in FOR_SEEN]
    adapting = [label for label in methods if label not in able]
    seen, new = ([name for name, task in tasks.items() if task.seen == wanted] for wanted in (True, False))
    if seen and not able:
        yield (
            f"tasks.{seen[0]}.seen: no methods entry draws classes of pre-training; add one of "
            f"{', '.join(FOR_SEEN)}, or leave the task out: a method that trains takes new classes alone"
        )
    if new and not adapting:
        yield f"tasks.{new[0]}: no methods entry adapts to new classes; add one, or say `seen: true` of known ones"
    if able and not seen:
        yield (
            f"methods.{able[0]}: {methods[able[0]]} draws classes of pre-training, and no task has them; add one with "
            "`seen: true`"
        )
    if adapting and not new:
        yield (
            f"methods.{adapting[0]}: {methods[adapting[0]]} trains on new classes, and all tasks have `seen: true`; "
            "add a task of new classes, or leave the entry out"
        )
