"""The analyses of an experiment as tables and plots: what adaptation did to the weights, and models put together."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kind.errors import UserError
from kind.layout import Layout
from kind.reporting.comparisons import seeds_phrase
from kind.reporting.labels import Style
from kind.reporting.plots import Plot, Series, line_plot
from kind.reporting.runs import number
from kind.reporting.tables import Column, Table, build_table, write_table

Rows = list[dict[str, str]]
MEASURES = {  # of a matrix: column of the file -> words, title of its plot
    "intruders": ("Intruder dimensions", "Intruder dimensions"),
    "drift": ("Drift from the start", "Drift from the start"),
    "effective_rank": ("Effective rank of the difference", "Effective rank of W − W₀"),
}
SUMMED = "tailors summed"


@dataclass(frozen=True)
class Analysed:
    """What the analyse stage found: rows of each task's weights, and of models put together; empty where not asked."""

    settings: Mapping[str, Any]
    weights: Mapping[str, Rows]
    interference: Rows


@dataclass(frozen=True)
class AnalysisSection:
    tables: Sequence[Table]
    plots: Sequence[Plot]


def load_analyses(folder: Path, asked: Mapping[str, Any] | None, tasks: Iterable[str]) -> Analysed | None:
    """What the params' `analyses` section asks for; None without one.

    Raises UserError for a file that is not what the analyse stage writes.
    """
    if not asked:
        return None
    layout, weights, together = Layout(Path(folder)), {}, []
    if asked.get("weights"):
        columns = ("method", "seed", "block", *MEASURES)
        weights = {task: read_rows(layout.weights_table(task), columns) for task in tasks}
    if asked.get("interference"):
        columns = ("method", "how", "seed", "task", "num_images", "loss_alone", "loss_together", "difference")
        together = read_rows(layout.interference_table, columns)
    return Analysed(asked, weights, together)


def analysis_section(
    found: Analysed | None, output: Path, styles: Mapping[str, Style], seeds: Sequence[int]
) -> AnalysisSection | None:
    """Tables and plots, written to `output` too."""
    if found is None:
        return None
    tables, plots = {}, []
    for task, rows in found.weights.items():
        tables[f"weights_{task}"] = weights_table(task, rows, styles, seeds, found.settings["weights"])
        plots += [_by_block(output / "plots", task, measure, rows, styles, seeds) for measure in MEASURES]
    if rows := found.interference:
        tables["interference"] = interference_table(rows, seeds)
        plots += [_alone_and_together(output / "plots", task, rows, styles, seeds) for task in _values(rows, "task")]
    for name, table in tables.items():
        write_table(table, output / "summary", name)
    return AnalysisSection(list(tables.values()), [plot for plot in plots if plot])


def read_rows(path: Path, columns: Sequence[str]) -> Rows:
    again = "delete it and run the analyse stage again, or snakemake"
    if not path.is_file():
        raise UserError(f"{path}: no such file", hint="run the analyse stage, or snakemake")
    with open(path, newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        absent = [name for name in columns if name not in (reader.fieldnames or ())]
        if absent:
            raise UserError(f"{path}: has no column {', '.join(absent)}", hint=again)
        return list(reader)


def weights_table(
    task: str, rows: Rows, methods: Sequence[str], seeds: Sequence[int], settings: Mapping[str, Any]
) -> Table:
    columns = [Column(measure, words) for measure, (words, _) in MEASURES.items()]
    lines = []
    for method in methods:
        chosen = [row for row in rows if row["method"] == method]
        values = {measure: [_mean(chosen, measure, "seed", seed) for seed in seeds] for measure in MEASURES}
        lines.append(((method,), method, values))
    caption = (
        f"{seeds_phrase(seeds)} Means over the adapted matrices, and over classes where a matrix depends on them. "
        f"Intruder dimensions: of the {settings['num_vectors']} largest left singular vectors of W, those whose cosine "
        f"with every one of W₀ is below {settings['max_cosine']:g}. Drift: |W − W₀| / |W₀|. W₀ is the dense backbone's "
        "matrix, or the learngenes' where a method leaves tailors."
    )
    return build_table(f"Weights on {task}", ("Method",), columns, lines, caption)


def interference_table(rows: Rows, seeds: Sequence[int]) -> Table:
    columns = [
        Column("loss_alone", "Loss alone"),
        Column("loss_together", "Loss together"),
        Column("difference", "Difference", direction="lower"),
    ]
    lines = []
    for task in _values(rows, "task"):
        for method, how in dict.fromkeys((row["method"], row["how"]) for row in rows):
            chosen = [row for row in rows if (row["task"], row["method"], row["how"]) == (task, method, how)]
            values = {c.key: [_mean(chosen, c.key, "seed", seed) for seed in seeds] for c in columns}
            lines.append(((task, method, how), method, values))
    counts = ", ".join(f"{row['num_images']} of {row['task']}" for row in _first_of_each(rows, "task"))
    caption = (
        f"{seeds_phrase(seeds)} Models adapted to {' and '.join(_values(rows, 'task'))} apart, then put together: mean "
        f"denoising loss on validation images ({counts}), the same noise and timesteps for all."
    )
    return build_table("Interference", ("Task", "Method", "Put together by"), columns, lines, caption)


# --- plots ------------------------------------------------------------------------------------------------------


def _by_block(
    folder: Path, task: str, measure: str, rows: Rows, styles: Mapping[str, Style], seeds: Sequence[int]
) -> Plot | None:
    blocks = sorted({int(row["block"]) for row in rows})

    def points(method: str, seed: int) -> list[tuple[float, float]]:
        own = [row for row in rows if (row["method"], row["seed"]) == (method, str(seed))]
        found = [(block, _mean(own, measure, "block", block)) for block in blocks]
        return [(block, value) for block, value in found if value is not None]

    series = _series(styles, seeds, points)
    shown = blocks[:: -(-len(blocks) // 12)] if blocks else []
    return line_plot(
        folder, f"{task}_{measure}", series, MEASURES[measure][1], f"{task}: mean over the matrices of a block",
        markers=True, xlabel="block", ticks={block: str(block) for block in shown},
    )  # fmt: skip


def _alone_and_together(
    folder: Path, task: str, rows: Rows, styles: Mapping[str, Style], seeds: Sequence[int]
) -> Plot | None:
    of_task = [row for row in rows if row["task"] == task]
    ways = dict.fromkeys((row["method"], row["how"]) for row in of_task)
    names = {f"{method}, summed" if how == SUMMED else method: (method, how) for method, how in ways}
    own = {
        name: replace(styles[method], line=":") if how == SUMMED else styles[method]
        for name, (method, how) in names.items()
    }

    def points(name: str, seed: int) -> list[tuple[float, float]]:
        (row,) = [row for row in of_task if (row["method"], row["how"], row["seed"]) == (*names[name], str(seed))]
        pair = [number(row[key]) for key in ("loss_alone", "loss_together")]
        return [] if None in pair else list(enumerate(pair))

    return line_plot(
        folder, f"{task}_interference", _series(own, seeds, points), "Denoising loss",
        f"{task}: its adapted model alone, and with the others", markers=True, xlabel="adapted models",
        ticks={0: "alone", 1: "together"},
    )  # fmt: skip


def _series(
    styles: Mapping[str, Style], seeds: Sequence[int], points: Callable[[str, int], list[tuple[float, float]]]
) -> list[Series]:
    return [Series(name, style, [points(name, seed) for seed in seeds]) for name, style in styles.items()]


def _mean(rows: Rows, measure: str, key: str, value: Any) -> float | None:
    """Of the rows of this seed or block that have a number."""
    found = [number(row[measure]) for row in rows if row[key] == str(value)]
    present = [one for one in found if one is not None]
    return statistics.fmean(present) if present else None


def _values(rows: Rows, key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


def _first_of_each(rows: Rows, key: str) -> list[dict[str, str]]:
    return list({row[key]: row for row in reversed(rows)}.values())[::-1]
