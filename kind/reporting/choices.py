"""What the params left open and the pipeline chose: learning rates from trials, sizes matched to another method's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kind.artifacts import read_json
from kind.errors import UserError
from kind.layout import Layout
from kind.params.match import Match
from kind.reporting.budgets import trainable
from kind.reporting.comparisons import select
from kind.reporting.labels import MISSING, decimals_for, fixed, metric_label, short_count
from kind.reporting.runs import RunRecord, number
from kind.reporting.tables import Cell, Column, Row, Table

Choice = Mapping[str, Any]
NOTHING = Cell(None, None, 0, 0)


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


def tuning_table(choices: Mapping[str, Choice], runs: Sequence[RunRecord] = ()) -> Table | None:
    """Methods by learning rates: the mean of the metric over the tuning tasks, the chosen one in bold.

    runs: those of the tables, also of methods without trials, which are named under it.
    """
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
    title, notes = f"Learning rates: {words} of every trial", [*_edges(choices), *_untried(choices, runs)]
    return Table(title, ("Method",), columns, rows, caption, notes)


def _trial(choice: Choice, means: Mapping[float, float | None], rate: float, decimals: int) -> Cell:
    mean = means.get(rate)
    if mean is None:
        return NOTHING
    return Cell(mean, 0.0, 1, 1, fixed(mean, decimals), best=rate == choice["learning_rate"])


def _edges(choices: Mapping[str, Choice]) -> list[str]:
    return [
        f"{method}: the best rate, {choice['learning_rate']:g}, is the {choice['edge']} that was tried; a better one "
        "may lie beyond."
        for method, choice in choices.items()
        if choice["edge"]
    ]


def _untried(choices: Mapping[str, Choice], runs: Sequence[RunRecord]) -> list[str]:
    """The methods that trained at a rate that no trial chose: the search was not the same for all."""
    rates = {run.method: rate for run in runs if (rate := number(run.part("training").get("learning_rate")))}
    own = [f"{method} ({rate:g})" for method, rate in rates.items() if method not in choices]
    return [f"Own rate, 0 trials: {', '.join(own)}."] if own else []


def match_table(matches: Mapping[tuple[str, str], Match], runs: Sequence[RunRecord]) -> Table | None:
    """A row for each task and method whose size was matched: what was found, and how close it came.

    matches: (task, method) -> what the params make of it now; the size itself is part of a run's recipe, the target is
    not, so only what was trained is read from the runs.
    """
    if not matches:
        return None
    rows = []
    for (task, method), match in matches.items():
        cells = _closeness(match, select(runs, task=task, method=method))
        rows.append(Row((task, method, match.entry, match.option), cells, method))
    words = {"size": "Found", "parameters": "Parameters", "target": "Wanted", "ratio": "Ratio"}
    columns = [Column(key, heading) for key, heading in words.items()]
    caption = (
        "Trainable parameters without the label table, which is trained with every method; wanted: by the formula."
    )
    return Table("Sizes that were matched", ("Task", "Method", "Matches", "Option"), columns, rows, caption)


def _closeness(match: Match, runs: Sequence[RunRecord]) -> list[Cell]:
    """Size, count, target and ratio; the runs of a method on a task train equally many."""
    whole, table = trainable(runs[0]), number(runs[0].part("parameters").get("trainable_label_table")) or 0
    count = None if whole is None else whole - table
    ratio = None if count is None or not match.target else count / match.target
    return [
        _exact(match.size, f"{match.size:.6g}"),
        NOTHING if count is None else _exact(count, short_count(count)),
        _exact(match.target, short_count(match.target)),
        NOTHING if ratio is None else _exact(ratio, fixed(ratio, 3)),
    ]


def _exact(value: float, text: str) -> Cell:
    return Cell(value, 0.0, 1, 1, text)
