"""The chosen trials at several guidance scales: a table and a plot of each tuning task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kind.errors import UserError
from kind.layout import Layout
from kind.reporting.comparisons import INDICATIVE, INDICATIVE_ONLY, headline_metrics, metric_names
from kind.reporting.csv_rows import Rows, read_rows
from kind.reporting.labels import ARROWS, MISSING, Style, decimals_for, fixed, metric_label
from kind.reporting.plots import Plot, Series, line_plot
from kind.reporting.runs import RunRecord, number
from kind.reporting.tables import Cell, Column, Row, Table

Values = Mapping[tuple[str, float], float | None]  # (method, scale) -> the metric


def load_guidance(layout: Layout) -> Rows:
    return read_rows(layout.guidance_table, ("task", "method", "guidance_scale", "num_samples", "indicative"))


def guidance_results(
    rows: Rows,
    runs: Sequence[RunRecord],
    headline: Sequence[str],
    styles: Mapping[str, Style],
    params: Mapping[str, Any],
    folder: Path,
) -> tuple[dict[str, Table], list[Plot]]:
    """Tables by the names of their files, and plots, which `folder` gets, of the report's primary metric.

    runs: those of the other tables, which say what that is.
    """
    primary = headline_metrics(runs, headline)[0]
    direction, tables, plots = metric_names(runs)[primary], {}, []
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task]
        metric = _counted(primary, task, of_task)
        values = {(row["method"], float(row["guidance_scale"])): number(row[metric]) for row in of_task}
        indicative = any(metric in row["indicative"].split() for row in of_task)
        own = params["tune"]["tasks"][task].get("guidance_scale") or params["sampling"]["guidance_scale"]
        others = {
            label: given["guidance_scale"]
            for label, given in params["methods"].items()
            if given.get("guidance_scale") and any(row["method"] == label for row in of_task)
        }
        tables[f"guidance_{task}"] = _table(task, metric, direction, values, own, others, of_task, indicative)
        plots.append(_plot(folder, task, metric, direction, values, styles, indicative))
    return tables, [plot for plot in plots if plot]


def _counted(primary: str, task: str, rows: Rows) -> str:
    """The same metric with the tuning task's count of real images; raises UserError where it has no value."""
    base = metric_label(primary).base
    names = [name for name in rows[0] if metric_label(name).base == base]
    found = [name for name in names if any(number(row[name]) is not None for row in rows)]
    if not found:
        raise UserError(f"analyses/guidance.csv: no value of {base} on {task}", hint="run the analyse stage again")
    return found[0]


def _table(
    task: str,
    metric: str,
    direction: str | None,
    values: Values,
    own: float,
    others: Mapping[str, float],
    rows: Rows,
    indicative: bool,
) -> Table:
    """own: the protocol's scale; others: those of methods that have one of their own."""
    methods, scales = dict.fromkeys(method for method, _ in values), _scales(values)
    decimals = decimals_for(value for value in values.values() if value is not None)
    lines = []
    for method in methods:
        cells = [_cell(values.get((method, scale)), decimals) for scale in scales]
        lines.append(Row((method,), _best_marked(cells, direction), method))
    columns = [
        Column(f"scale_{scale:g}", f"{scale:g}" + (", the protocol's" if scale == own else "")) for scale in scales
    ]
    caption = (
        f"{metric} of {rows[0]['num_samples']} samples by guidance scale. Single runs on the tuning task {task}, hence "
        "no spread: of each method the trial whose learning rate was chosen, drawn again at each scale, all else as "
        f"the protocol says. Rates were chosen at the scale {own:g}"
        f"{''.join(f', of {label} at {scale:g}' for label, scale in others.items())}. The reference are validation "
        f"images, and nothing of the tasks of other tables was used. Scale 1: no guidance. "
        f"{'Bold: best of a row. ' * (direction in ARROWS)}{MISSING}: not finite."
    )
    title = f"Guidance on {task}: {metric_label(metric).with_arrow(direction)}"
    return Table(title, ("Method",), columns, lines, caption, [INDICATIVE] if indicative else [])


def _cell(value: float | None, decimals: int) -> Cell:
    return Cell(None, None, 0, 0) if value is None else Cell(value, 0.0, 1, 1, fixed(value, decimals))


def _best_marked(cells: Sequence[Cell], direction: str | None) -> list[Cell]:
    """Those that read like the best of them."""
    means = {cell.mean_text: cell.mean for cell in cells if cell.mean is not None}
    if direction not in ARROWS or not means:
        return list(cells)
    best = (min if direction == "lower" else max)(means, key=means.__getitem__)
    return [
        Cell(cell.mean, cell.std, cell.n, cell.expected, cell.mean_text, best=cell.mean_text == best) for cell in cells
    ]


def _plot(
    folder: Path,
    task: str,
    metric: str,
    direction: str | None,
    values: Values,
    styles: Mapping[str, Style],
    indicative: bool,
) -> Plot | None:
    scales = _scales(values)
    series = [
        Series(method, style, [[(scale, y) for scale in scales if (y := values.get((method, scale))) is not None]])
        for method, style in styles.items()
    ]
    return line_plot(
        folder, f"guidance_{task}", series, metric_label(metric).with_arrow(direction),
        f"{task}, single runs, validation images: {metric}{INDICATIVE_ONLY if indicative else ''}", markers=True,
        xlabel="guidance scale", ticks={scale: f"{scale:g}" for scale in scales},
    )  # fmt: skip


def _scales(values: Values) -> list[float]:
    return sorted({scale for _, scale in values})
