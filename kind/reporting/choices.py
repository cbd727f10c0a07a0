"""What the params left open and the pipeline chose: learning rates from trials, sizes matched to another method's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kind.artifacts import read_json
from kind.errors import UserError
from kind.layout import Layout
from kind.reporting.comparisons import select
from kind.reporting.labels import MISSING, decimals_for, fixed, metric_label, short_count
from kind.reporting.runs import RunRecord, number
from kind.reporting.tables import Cell, Column, Row, Table

Choice = Mapping[str, Any]


def load_choices(folder: Path, methods: Iterable[str]) -> dict[str, Choice]:
    """Method -> the content of its tuning file; see kind/stages/choose.py."""
    found = {}
    for method in methods:
        path = Layout(Path(folder)).tuned(method)
        content = read_json(path)
        absent = [key for key in ("learning_rate", "means", "trials", "edge", "steps", "seed") if key not in content]
        if absent:
            raise UserError(f"{path}: has no {', '.join(absent)}", hint="delete it and run the choose stage again")
        found[method] = content
    return found


def tuning_table(choices: Mapping[str, Choice]) -> Table | None:
    """Methods by learning rates: the mean of the metric over the tuning tasks, the chosen one in bold."""
    if not choices:
        return None
    rates = sorted({one["learning_rate"] for choice in choices.values() for one in choice["means"]})
    means = {
        method: {one["learning_rate"]: number(one["mean"]) for one in choice["means"]}
        for method, choice in choices.items()
    }
    decimals = decimals_for(mean for each in means.values() for mean in each.values() if mean is not None)
    rows = [
        Row((method,), [_trial(choice, means[method], rate, decimals) for rate in rates], method)
        for method, choice in choices.items()
    ]
    first = next(iter(choices.values()))
    metrics = dict.fromkeys(one["metric"] for one in first["trials"])
    tasks = dict.fromkeys(one["task"] for one in first["trials"])
    words = " / ".join(dict.fromkeys(metric_label(name).words for name in metrics))
    caption = (
        f"Mean of {', '.join(metrics)} over the validation images of {', '.join(tasks)}, which no other table shows; "
        f"trials of {first['steps']} steps with seed {first['seed']}. Bold: chosen. {MISSING}: not tried or not finite."
    )
    columns = [Column(f"rate_{rate:g}", f"{rate:g}") for rate in rates]
    return Table(f"Learning rates: {words} of every trial", ("Method",), columns, rows, caption, _edges(choices))


def _trial(choice: Choice, means: Mapping[float, float | None], rate: float, decimals: int) -> Cell:
    mean = means.get(rate)
    if mean is None:
        return Cell(None, None, 0, 0)
    return Cell(mean, 0.0, 1, 1, fixed(mean, decimals), best=rate == choice["learning_rate"])


def _edges(choices: Mapping[str, Choice]) -> list[str]:
    return [
        f"{method}: the best rate, {choice['learning_rate']:g}, is the {choice['edge']} that was tried; a better one "
        "may lie beyond."
        for method, choice in choices.items()
        if choice["edge"]
    ]


def match_table(runs: Sequence[RunRecord]) -> Table | None:
    """A row for each task and method whose size was matched: what was found, and how close it came."""
    rows = []
    for task in dict.fromkeys(run.task for run in runs):
        for method in dict.fromkeys(run.method for run in runs):
            first = next(iter(select(runs, task=task, method=method)))
            found = first.part("training").get("match")
            if found:
                size, count, target = (number(found[key]) for key in ("size", "parameters", "target"))
                texts = (f"{size:.6g}", short_count(count), short_count(target), fixed(count / target, 3))
                values = (size, count, target, count / target)
                cells = [Cell(value, 0.0, 1, 1, text) for value, text in zip(values, texts, strict=True)]
                rows.append(Row((task, method, found["entry"], found["option"]), cells, method))
    if not rows:
        return None
    words = {"size": "Found", "parameters": "Parameters", "target": "Wanted", "ratio": "Ratio"}
    columns = [Column(key, heading) for key, heading in words.items()]
    caption = (
        "Trainable parameters without the label table, which is trained with every method; by the methods' formulas."
    )
    return Table("Sizes that were matched", ("Task", "Method", "Matches", "Option"), columns, rows, caption)
