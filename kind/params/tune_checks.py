"""Checks of learning rates: the `tune` section, and where each methods entry's rate comes from.  Imports no torch.

`valid` as in kind/params/checks.py: what could be read, None for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kind.methods import METHODS
from kind.params.messages import some
from kind.params.ranks import repeated


def rate_problems(content: Mapping[str, Any], valid: Mapping[str, Any]) -> Iterator[str]:
    """A line for each mistake.  content: of the file, over the methods' defaults."""
    tune, methods = valid.get("tune"), valid.get("methods") or {}
    entries = {label: entry for label, entry in (valid.get("entries") or {}).items() if label in methods}
    if tune is not None:
        yield from _own_mistakes(tune, valid)
        yield from _grids(tune, entries, methods)
        yield from _shared_classes(tune, valid)
        return
    for label, entry in entries.items():
        if entry.learning_rates is not None:
            yield f"methods.{label}.learning_rates: no `tune` section tries them; add it, or give one learning_rate"
    finetune = content.get("finetune")
    if isinstance(finetune, dict) and "learning_rate" not in finetune:
        for label, (name, options) in methods.items():
            if (
                METHODS[name].learns(options)
                and options.learning_rate is None
                and entries[label].learning_rates is None
            ):
                yield (
                    f"methods.{label}.learning_rate: missing; give it here, in params/methods.yaml or for all in "
                    "finetune.learning_rate, or let `tune` choose it"
                )


def _own_mistakes(tune: Any, valid: Mapping[str, Any]) -> Iterator[str]:
    rates, finetune = tune.learning_rate, valid.get("finetune")
    if rates is not None and len(rates) < 2:
        yield f"tune.learning_rate: a choice needs two rates or more, found {len(rates)}"
    for rate in repeated(rates or []):
        yield f"tune.learning_rate: {rate:g} is named twice"
    if tune.seed in (valid.get("seeds") or []):
        yield f"tune.seed: {tune.seed} is one of `seeds`; trials need another, so that no table shows a run that chose"
    for name in tune.tasks or {}:
        if name in (valid.get("tasks") or {}):
            yield f"tune.tasks: {name!r} is one of `tasks`; give it another name (and other classes)"
    if finetune is None:
        return
    if finetune.learning_rate is not None:
        yield (
            f"finetune.learning_rate: {finetune.learning_rate:g} would never be used, because `tune` chooses the rate "
            "of every methods entry without one; delete one of the two"
        )
    if None not in (tune.steps, finetune.warmup_steps) and finetune.warmup_steps > tune.steps:
        yield f"finetune.warmup_steps: {finetune.warmup_steps} exceeds tune.steps {tune.steps}"


def _grids(tune: Any, entries: Mapping[str, Any], methods: Mapping[str, Any]) -> Iterator[str]:
    idle = {label for label, (name, options) in methods.items() if not METHODS[name].learns(options)}
    given = {label for label, (_, options) in methods.items() if options.learning_rate is not None} | idle
    if methods and given == set(methods):
        yield (
            "tune: every methods entry has a learning rate of its own, or trains nothing, so that nothing is left to "
            "choose"
        )
    for label, entry in entries.items():
        rates, where = entry.learning_rates, f"methods.{label}.learning_rates"
        if rates is None:
            continue
        for rate in repeated(rates):
            yield f"{where}: {rate:g} is named twice"
        if label in idle:
            yield f"{where}: the entry trains nothing; leave it out"
        elif label in given:
            yield f"{where}: the entry has a learning_rate too; give one of the two"
        if tune.learning_rate is not None and len(rates) != len(tune.learning_rate):
            yield (
                f"{where}: {len(rates)} rates, but tune.learning_rate has {len(tune.learning_rate)}; every method gets "
                "as many trials"
            )


def _shared_classes(tune: Any, valid: Mapping[str, Any]) -> Iterator[str]:
    """A class of a source is the same whatever options draw it: a rate chosen on it is chosen on the test task."""
    sources = {name: one.source for name, one in (valid.get("data") or {}).items()}
    for name, tuning in (tune.tasks or {}).items():
        for other, task in (valid.get("tasks") or {}).items():
            both = [known for known in tuning.classes or [] if known in (task.classes or [])]
            same = tuning.data == task.data or sources.get(tuning.data) == sources.get(task.data) is not None
            if both and same:
                yield (
                    f"tune.tasks.{name}.classes: {some(map(repr, dict.fromkeys(both)), '')} also in "
                    f"tasks.{other}.classes; rates are chosen on classes that no table shows"
                )
