"""Real images and untouched backbones beside the methods of a task: a table, and where plots draw their line."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from kind.layout import Layout
from kind.reporting.comparisons import (
    marked,
    measured_how,
    metric_names,
    seeds_phrase,
    select,
    with_mark_explained,
)
from kind.reporting.csv_rows import Rows, read_rows
from kind.reporting.labels import ARROWS
from kind.reporting.runs import RunRecord, number
from kind.reporting.tables import Column, Table, build_table

PLAIN_RIVAL = "scratch"  # what a method without a backbone comes to


def load_bounds(layout: Layout, tasks: Iterable[str]) -> dict[str, Rows]:
    columns = ("what", "backbone", "words", "num_samples")
    return {task: read_rows(layout.bounds_table(task), columns) for task in tasks}


def real_values(rows: Rows) -> dict[str, float]:
    """What real images get, by the exact name of the metric, whose counts tell numbers of samples apart.

    No accuracies: where they are training images, the classifiers were trained on them.
    """
    found = [(name, number(value)) for row in rows if row["what"] == "real" for name, value in row.items()]
    return {name: value for name, value in found if value is not None and not name.startswith("accuracy")}


def bounds_table(task: str, rows: Rows, runs: Sequence[RunRecord], seeds: Sequence[int], primary: str) -> Table:
    """Real images, then untouched backbones, then training from scratch and the best method by the primary metric."""
    names = {name: arrow for name, arrow in metric_names(runs).items() if any(row.get(name) for row in rows)}
    columns = [Column(name, _with_arrow(marked(name, runs), arrow), name) for name, arrow in names.items()]
    lines = []
    for row in rows:
        values = {name: number(row[name]) for name in names}
        if any(value is not None for value in values.values()):  # else it is of another number of samples
            lines.append(((row["words"],), None, values))
    methods = list(dict.fromkeys(run.method for run in runs))
    best = _best(methods, runs, primary, names)
    for method in dict.fromkeys([*(one for one in (PLAIN_RIVAL,) if one in methods), *([best] if best else [])]):
        chosen = select(runs, method=method)
        words = method if method != best else f"{method} (best of the methods)"
        lines.append(((words,), method, {name: [run.values.get(name) for run in chosen] for name in names}))
    caption = (
        "As many real images as a run has samples, and samples of the backbones as pre-trained, without label or "
        "guidance, measured as samples of runs are; what needs a class is left out where there is no label. The "
        "extractor and the judge were trained on training images: where real images are those, accuracies on them are "
        "too high and their features may differ from those of unseen ones. "
        f"{seeds_phrase(seeds)} {measured_how(runs)}"
    )
    return with_mark_explained(build_table(f"Bounds on {task}", ("Images of",), columns, lines, caption), runs)


def _best(
    methods: Sequence[str], runs: Sequence[RunRecord], primary: str, directions: Mapping[str, str | None]
) -> str | None:
    """None where the metric has no direction, or no method a value of every seed."""
    means = {}
    for method in methods:
        values = [number(run.values.get(primary)) for run in select(runs, method=method)]
        if None not in values:
            means[method] = statistics.fmean(values)
    if not means or directions.get(primary) not in ARROWS:
        return None
    return (min if directions[primary] == "lower" else max)(means, key=means.__getitem__)


def _with_arrow(words: str, direction: str | None) -> str:
    """In the words and not as the column's direction: nothing here is ranked."""
    return f"{words} {ARROWS[direction]}" if direction in ARROWS else words
