"""Checks of methods entries that need other sections or entries than their backbone.  Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kind.methods import METHODS, Method
from kind.params.messages import nearest, some
from kind.params.protocol import spacing_problem
from kind.params.ranks import repeated


def replay_problems(valid: Mapping[str, Any], methods: Mapping[str, tuple[str, Any]]) -> Iterator[str]:
    """`objective: diff-tuning` trains on samples of a source model, and `replay` says how they are drawn.

    methods: label -> (name of the method, options).
    """
    replaying = [label for label, (_, options) in methods.items() if options.objective == "diff-tuning"]
    for label in replaying:
        name, options = methods[label]
        if getattr(options, "backbone", None) is None:
            yield (
                f"methods.{label}.objective: diff-tuning trains on samples of the backbone that the method starts "
                f"from, and {name} starts from none; leave it out"
            )
    finetune, replay, diffusion = valid.get("finetune"), valid.get("replay"), valid.get("diffusion")
    if replaying and finetune is not None and finetune.batch_size == 1:
        yield (
            f"methods.{replaying[0]}.objective: diff-tuning needs room for the task's images and replayed ones, but "
            "finetune.batch_size is 1"
        )
    if replay is None:
        return
    steps, trained = replay.num_inference_steps, diffusion and diffusion.num_train_timesteps
    if replaying and None not in (steps, trained) and steps > trained:
        yield f"replay.num_inference_steps: {steps} exceeds diffusion.num_train_timesteps {trained}"
    if problem := spacing_problem(replay.sampler, replay.timestep_spacing):
        yield f"replay.timestep_spacing: {problem}"


def soup_problems(labels: list, methods: Mapping[str, tuple[str, Any]]) -> Iterator[str]:
    """A soup is made of runs of one method from one backbone, whose weights can be averaged.

    labels: of all entries; methods: label -> (name, options) of those that could be read.
    """
    for label, (name, options) in methods.items():
        if METHODS[name].combines:
            yield from _members_problems(label, options, labels, methods)


def _members_problems(label: str, options: Any, labels: list, methods: Mapping[str, tuple[str, Any]]) -> Iterator[str]:
    where, names = f"methods.{label}.of", {}
    for member in repeated(options.of):
        yield f"{where}: {member!r} is named twice"
    for member in dict.fromkeys(options.of):
        if member not in labels:
            yield f"{where}: no method entry {member!r}{nearest(member, labels)}; {some(labels, 'entries: ')}"
        elif member in methods:
            its_name, its_options = methods[member]
            problem = _member_problem(METHODS[its_name], its_options, options.backbone)
            if problem:
                yield f"{where}: {member} {problem}"
            else:
                names[member] = its_name
    if len(set(names.values())) > 1:
        listed = ", ".join(f"{member} ({name})" for member, name in names.items())
        yield f"{where}: entries of one method are averaged, found {listed}"


def _member_problem(method: Method, options: Any, backbone: str) -> str | None:
    if method.combines:
        return f"is a {method.name} itself; name the entries that it is made of"
    if method.start != "dense" or not method.has_plain_form:
        return f"is of method {method.name}, whose result is no plain dense model"
    if options.backbone != backbone:
        return f"starts from backbone {options.backbone!r}; models are averaged that have one start, here {backbone!r}"
    return None
