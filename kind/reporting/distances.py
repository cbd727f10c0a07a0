"""Distances run by run, each with its interval, and class by class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kind.artifacts import write_csv
from kind.reporting.comparisons import marked, metric_names, seeds_phrase, select, with_mark_explained
from kind.reporting.labels import in_sentence, metric_label
from kind.reporting.runs import RunRecord, number
from kind.reporting.tables import Column, Table, build_table

MOST_CLASSES = 20  # as columns of a table; of more there is the CSV file


def interval_table(task: str, runs: Sequence[RunRecord], methods: Iterable[str]) -> Table | None:
    """A row a run: its Fréchet distances, and the kernel distance with its interval."""
    kernel = next((name for run in runs for name in run.part("intervals")), None)
    if kernel is None:
        return None
    columns = [
        Column(name, marked(name, runs), name)
        for name in metric_names(runs)
        if metric_label(name).words in ("Fréchet distance", "Spatial Fréchet distance", "FID", "sFID")
    ]
    columns += [
        Column(kernel, metric_label(kernel).words, kernel),
        Column("low", "from", "95 % interval"),
        Column("high", "to", "95 % interval"),
    ]
    rows = []
    for method in methods:
        for run in select(runs, method=method):
            ends = {end: number(run.part("intervals")[kernel][end]) for end in ("low", "high")}
            values = {column.key: number(run.values.get(column.key)) for column in columns[:-2]} | ends
            kept = {key: value for key, value in values.items() if value is not None}
            rows.append(((method, str(run.seed)), method, kept))
    caption = (
        "One row a run. The interval of the kernel distance comes from half-samples of both image sets: it says how "
        "far another draw of images would move the number, not how far another training seed would."
    )
    table = build_table(f"Distances of every run on {task}", ("Method", "Seed"), columns, rows, caption)
    return with_mark_explained(table, runs)


def paired_table(task: str, runs: Sequence[RunRecord], methods: Sequence[str], headline: Sequence[str]) -> Table | None:
    """Each method minus the first (`kind` where it takes part), seed by seed: what both share with a seed cancels."""
    base = "kind" if "kind" in methods else methods[0]
    others = [method for method in methods if method != base]
    seeds = sorted({run.seed for run in runs})
    if not others or len(seeds) < 2:
        return None
    columns = [Column(name, marked(name, runs), name) for name in headline]
    rows = [((f"{method} − {base}",), method, differences(runs, method, base, headline)) for method in others]
    caption = (
        f"Differences of the two runs with the same seed: mean ± sample standard deviation over {len(seeds)} seeds. "
        + better_side(base, runs, headline)
    )
    table = build_table(f"Paired differences on {task}", ("Methods",), columns, rows, caption)
    return with_mark_explained(table, runs)


def differences(
    runs: Sequence[RunRecord], method: str, base: str, names: Iterable[str]
) -> dict[str, list[float | None]]:
    """Metric -> for each seed the method's value minus that of `base`; None where one of the two has none."""
    found = {(run.method, run.seed): run for run in runs}
    pairs = [[found.get((each, seed)) for each in (method, base)] for seed in sorted({run.seed for run in runs})]

    def difference(pair: Sequence[RunRecord | None], name: str) -> float | None:
        ends = [None if run is None else number(run.values.get(name)) for run in pair]
        return None if None in ends else ends[0] - ends[1]

    return {name: [difference(pair, name) for pair in pairs] for name in names}


def better_side(base: str, runs: Sequence[RunRecord], names: Sequence[str]) -> str:
    """How the sign of a difference reads."""
    directions, signs = metric_names(runs), []
    for direction, sign in (("lower", "Above"), ("higher", "Below")):
        words = [in_sentence(metric_label(name).words) for name in names if directions[name] == direction]
        signs += [f"{sign} 0 {base} is better by {', '.join(words)}."] if words else []
    return " ".join(signs)


def class_table(task: str, runs: Sequence[RunRecord], methods: Iterable[str], seeds: Sequence[int]) -> Table | None:
    """Kernel distance by class; None for one class and for more than a table can hold."""
    names = list(dict.fromkeys(name for run in runs for name in run.part("per_class")))
    key = next((key for run in runs for row in run.part("per_class").values() for key in row if _is_kernel(key)), None)
    if key is None or not 2 <= len(names) <= MOST_CLASSES:
        return None
    columns = [Column(name, name.rpartition("/")[2], direction="lower") for name in names]
    rows = [
        ((method,), method, {
            name: [run.part("per_class").get(name, {}).get(key) for run in select(runs, method=method)]
            for name in names
        })
        for method in methods
    ]  # fmt: skip
    counts = {
        side: sorted({row[f"num_{side}"] for run in runs for row in run.part("per_class").values()})
        for side in ("samples", "reference")
    }
    ours, theirs = (f"{found[0]}" + (f" to {found[-1]}" if len(found) > 1 else "") for found in counts.values())
    caption = (
        f"{seeds_phrase(seeds)} Samples of a class against the real images of the same class: {ours} samples, {theirs} "
        "real images a class; each run's intervals are in `summary/classes.csv`. Bold: best mean of a column."
    )
    return build_table(f"{metric_label(key).words} by class of {task}", ("Method",), columns, rows, caption)


def write_classes(path: Path, runs: Iterable[RunRecord]) -> None:
    """One row a run and class, exact values."""
    rows: list[Mapping[str, Any]] = [
        {"task": run.task, "method": run.method, "seed": run.seed, "class": name, **row}
        for run in runs
        for name, row in run.part("per_class").items()
    ]
    if rows:
        write_csv(path, rows)


def _is_kernel(key: str) -> bool:
    return (key == "kid" or key.startswith("kd_")) and not key.endswith(("_low", "_high"))
