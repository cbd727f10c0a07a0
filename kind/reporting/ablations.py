"""Ablations of an experiment: for each one and task a table by setting, and a plot of the primary metric."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kind.artifacts import write_json
from kind.params.ablations import Settings, in_words
from kind.reporting.comparisons import (
    COSTS,
    cost_columns,
    cost_values,
    exact_name,
    headline_metrics,
    marked,
    metric_names,
    seeds_phrase,
    select,
    with_mark_explained,
)
from kind.reporting.distances import better_side, differences
from kind.reporting.labels import Style, in_sentence, method_styles, metric_label
from kind.reporting.overall import AT_THE_END, as_json, overall_plot, overall_table
from kind.reporting.paired import comparisons
from kind.reporting.plots import Plot, Series, trade_off_plot
from kind.reporting.resampling import mean_interval
from kind.reporting.runs import RunRecord, number
from kind.reporting.setting_plots import choices_plot, numbers_plot
from kind.reporting.tables import Column, Table, Values, build_table, with_note, write_table

ENDS = {"difference_low": "from", "difference_high": "to"}  # of the interval: what a column's key says -> its words


@dataclass(frozen=True)
class AblationSection:
    """An ablation's part of the page: a table and a plot a task."""

    name: str
    about: str
    tables: Sequence[Table]
    plots: Sequence[Plot]


def ablation_sections(
    ablations: Sequence[Settings],
    runs: Sequence[RunRecord],
    output: Path,
    styles: Mapping[str, Style],
    seeds: Sequence[int],
    headline: Sequence[str],
    note: str | None = None,
) -> list[AblationSection]:
    """Tables and plots, written to `output` too as TASK.ablation-NAME; note: what stands under every table.

    Of several tasks on which entries train one more of each, over all of them: summary/ablation-NAME.
    """
    sections = []
    for one in ablations:
        tables, drawn = [], []
        own = [run for run in runs if run.method in one.values]
        for found in comparisons(own, list(one.values), headline, one.base)[:1]:
            title = f"Ablation {one.name} over all tasks"
            table = with_note(overall_table(found, own, AT_THE_END, title), note)
            write_table(table, output / "summary", f"ablation-{one.name}")
            write_json(output / "summary" / f"ablation-{one.name}.json", as_json(found))
            tables.append(table)
            drawn.append(overall_plot(output / "plots", f"overall.ablation-{one.name}", found, own, styles))
        for task in dict.fromkeys(run.task for run in own):
            of_task = select(own, task=task)
            metrics = headline_metrics(of_task, headline)
            table = with_note(ablation_table(task, of_task, one, metrics, seeds), note)
            name = f"{task}.ablation-{one.name}"
            write_table(table, output / "tables", name)
            tables.append(table)
            drawn.append(_plot(output / "plots", name, task, of_task, one, metrics[0], styles))
        sections.append(AblationSection(one.name, about(one), tables, [plot for plot in drawn if plot]))
    return [section for section in sections if section.tables]


def about(one: Settings) -> str:
    """What is compared, in a line."""
    entries = f"{len(one.values)} entries"
    if one.measured:
        drawn = "Colours are those of methods; a thin line joins entries that differ in numbers alone."
        return f"{entries} by {one.axis.replace('_', ' ')}, as measured; compared with {one.base}. {drawn}"
    if one.axis:
        return f"{entries} grouped by {one.axis}; compared with {one.base}."
    return f"{entries}; compared with {one.base}."


def ablation_table(
    task: str, runs: Sequence[RunRecord], one: Settings, metrics: Sequence[str], seeds: Sequence[int]
) -> Table:
    """A row a setting: metrics, the primary one's difference to the base seed by seed, sizes.  runs: of the entries."""
    primary, directions = metrics[0], metric_names(runs)
    sizes = ("trainable", "deployed", "macs")
    columns = [Column(name, marked(name, runs), name, directions[name]) for name in metrics]
    if paired := len(seeds) > 1:
        apart = Column(f"{primary}.difference", f"{marked(primary, runs)} − {one.base}", primary, together=True)
        columns.append(apart)
        columns += [Column(f"{primary}.{end}", words, "95 % interval", together=True) for end, words in ENDS.items()]
    columns += cost_columns(runs, sizes)
    rows = []
    for label in one.values:
        chosen = select(runs, method=label)
        values: dict[str, Any] = {name: [run.values.get(name) for run in chosen] for name in metrics}
        values |= cost_values(chosen, sizes)
        if paired:
            values |= _to_base(runs, label, one.base, primary)
        rows.append((_labels(one, label), label, values))
    caption = f"{seeds_phrase(seeds)} Bold: best mean of a column."
    if paired:
        caption += (
            f" Differences to {one.base} are of the two runs with the same seed; the 95 % interval is Student's for "
            f"their mean: {_moved_by(runs, one)}. {better_side(one.base, runs, [primary])}"
        )
    table = build_table(f"Ablation {one.name} on {task}", _headings(one), columns, rows, caption)
    return with_mark_explained(table, runs)


def _moved_by(runs: Sequence[RunRecord], one: Settings) -> str:
    """What the interval says of a difference, and what it does not."""
    trained = any(run.final_step for run in runs)
    said = f"how far {'other fine-tuning seeds' if trained else 'another draw of samples'} would move it"
    if len(one.backbones) > 1:
        said += "; backbones have one seed each, so that how far another pre-training would is not in it"
    return said


def _headings(one: Settings) -> tuple[str, ...]:
    if all(value is None for value in one.values.values()):
        return ("Entry",)
    return (one.axis or "Setting", "Entry")


def _labels(one: Settings, label: str) -> tuple[str, ...]:
    value = one.values[label]
    return (label,) if value is None else (in_words(value), label)


def _to_base(runs: Sequence[RunRecord], label: str, base: str, metric: str) -> Values:
    """Of the base itself 0, exactly."""
    keys = [f"{metric}.{end}" for end in ("difference", *ENDS)]
    if label == base:
        return dict.fromkeys(keys, 0.0)
    found = differences(runs, label, base, [metric])[metric]
    return dict(zip(keys, (found, *(mean_interval(found) or (None, None))), strict=True))


# --- plots ------------------------------------------------------------------------------------------------------


def _plot(
    folder: Path,
    name: str,
    task: str,
    runs: Sequence[RunRecord],
    one: Settings,
    metric: str,
    styles: Mapping[str, Style],
) -> Plot | None:
    title, subtitle = (
        metric_label(metric).with_arrow(metric_names(runs)[metric]),
        f"{task}, {one.name}: {exact_name(metric, runs)}",
    )
    if one.measured:
        looks = styles | _by_method(one, styles)
        families: dict[tuple[str, ...], list[str]] = {}
        for label, family in one.families.items():
            families.setdefault(family, []).append(label)
        series = [_by_size(runs, label, one.measured, metric, looks[label]) for label in one.values]
        size = in_sentence(COSTS[one.measured][0])
        return trade_off_plot(folder, name, series, title, subtitle, size, joined=[*families.values()])
    found = {
        label: [value for run in select(runs, method=label) if (value := number(run.values.get(metric))) is not None]
        for label in one.values
    }
    base = statistics.fmean(found[one.base]) if found[one.base] else None
    settings = [
        (label if value is None else value if one.is_numeric else in_words(value), styles[label], found[label])
        for label, value in one.values.items()
    ]
    draw = numbers_plot if one.is_numeric else choices_plot
    return draw(folder, name, settings, base, title, subtitle, one.axis or one.name)


def _by_method(one: Settings, styles: Mapping[str, Style]) -> dict[str, Style]:
    """Entry -> its own mark in the colour of its method."""
    of_method = method_styles(dict.fromkeys(method for method, *_ in one.families.values()))
    return {
        label: replace(styles[label], colour=of_method[method].colour) for label, (method, *_) in one.families.items()
    }


def _by_size(runs: Sequence[RunRecord], label: str, key: str, metric: str, style: Style) -> Series:
    pairs = [
        (number(COSTS[key][2](run).get(key)), number(run.values.get(metric))) for run in select(runs, method=label)
    ]
    return Series(label, style, [[pair] for pair in pairs if None not in pair])
