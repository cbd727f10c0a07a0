"""The analyses of an experiment as tables and plots; those of weights and of models put together in full."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kind.layout import Layout
from kind.reporting.bounds import bounds_table, load_bounds, real_values
from kind.reporting.comparisons import headline_metrics, seeds_phrase, select
from kind.reporting.components import (
    Found,
    Gallery,
    component_plots,
    correlation_table,
    galleries,
    load_components,
    nearest_table,
)
from kind.reporting.csv_rows import Rows, read_rows
from kind.reporting.guidance import guidance_results, load_guidance
from kind.reporting.labels import Style
from kind.reporting.plots import Plot, Series, line_plot
from kind.reporting.runs import RunRecord, number
from kind.reporting.tables import Column, Table, build_table, write_table

MEASURES = {  # of a matrix: column of the file -> words, title of its plot
    "intruders": ("Intruder dimensions", "Intruder dimensions"),
    "drift": ("Drift from the start", "Drift from the start"),
    "effective_rank": ("Effective rank of the difference", "Effective rank of W − W₀"),
}
SUMMED = "tailors summed"


ABOUT = {  # what the page says of each that is asked for
    "bounds": "what a metric can be at best, and without any adaptation",
    "guidance": "what guidance does to each method",
    "components": "what learngenes and tailors hold",
    "weights": "what adaptation did to the weights",
    "interference": "what becomes of adapted models that are put together",
}


@dataclass(frozen=True)
class Analysed:
    """What the analyse stage found: rows of each task's weights, and of models put together; of each task's bounds;
    of components; and of trials at several guidance scales; empty where not asked."""

    settings: Mapping[str, Any]
    weights: Mapping[str, Rows]
    interference: Rows
    bounds: Mapping[str, Rows]
    components: Found | None
    guidance: Rows

    def real(self, task: str) -> dict[str, float]:
        """Metric name -> what real images get on the task."""
        return real_values(self.bounds.get(task, []))


@dataclass(frozen=True)
class AnalysisSection:
    about: str
    tables: Sequence[Table]
    plots: Sequence[Plot]
    galleries: Sequence[Gallery]


def load_analyses(
    folder: Path, asked: Mapping[str, Any] | None, tasks: Mapping[str, Mapping[str, Any]]
) -> Analysed | None:
    """What the params' `analyses` section asks for; None without one.

    Raises UserError for a file that is not what the analyse stage writes.
    """
    if not asked:
        return None
    layout, weights, together = Layout(Path(folder)), {}, []
    if asked.get("weights"):
        columns = ("method", "seed", "block", *MEASURES)
        adapted = [task for task, entry in tasks.items() if not entry.get("seen")]  # on the others nothing is trained
        weights = {task: read_rows(layout.weights_table(task), columns) for task in adapted}
    if asked.get("interference"):
        columns = ("method", "how", "seed", "task", "num_images", "loss_alone", "loss_together", "difference")
        together = read_rows(layout.interference_table, columns)
    bounds = load_bounds(layout, tasks) if asked.get("bounds") is not None else {}
    components = load_components(layout) if asked.get("components") is not None else None
    guidance = load_guidance(layout) if asked.get("guidance") else []
    return Analysed(asked, weights, together, bounds, components, guidance)


def analysis_section(
    found: Analysed | None,
    output: Path,
    styles: Mapping[str, Style],
    seeds: Sequence[int],
    runs: Sequence[RunRecord],
    headline: Sequence[str],
    params: Mapping[str, Any],
) -> AnalysisSection | None:
    """Tables and plots, written to `output` too."""
    if found is None:
        return None
    tables, plots, pictures = {}, [], []
    for task, rows in found.bounds.items():
        of_task = select(runs, task=task)
        primary = headline_metrics(of_task, headline)[0]
        tables[f"bounds_{task}"] = bounds_table(task, rows, of_task, seeds, primary)
    if found.guidance:
        made, plots = guidance_results(found.guidance, runs, headline, styles, params, output / "plots")
        tables |= made
    for task, rows in found.weights.items():
        tables[f"weights_{task}"] = weights_table(task, rows, styles, seeds, found.settings["weights"])
        plots += [_by_block(output / "plots", task, measure, rows, styles, seeds) for measure in MEASURES]
    if rows := found.interference:
        tables["interference"] = interference_table(rows, seeds)
        plots += [_alone_and_together(output / "plots", task, rows, styles, seeds) for task in _values(rows, "task")]
    if parts := found.components:
        classes = [str(name) for name in params["pretrain"]["classes"]]
        tables |= {"components": correlation_table(parts), "components_nearest": nearest_table(parts, classes)}
        plots += component_plots(parts, output / "plots")
        null_gates = {name: backbone.get("null_gate") for name, backbone in params["backbones"].items()}
        pictures = galleries(parts, output / "grids", params["name"], classes, null_gates)
    for name, table in tables.items():
        write_table(table, output / "summary", name)
    asked = [words for name, words in ABOUT.items() if found.settings.get(name) is not None]
    about = f"{'; '.join(asked)}.".capitalize()
    return AnalysisSection(about, list(tables.values()), [plot for plot in plots if plot], pictures)


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
