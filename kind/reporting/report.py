"""The report stage's work: read a finished experiment, write everything that compares its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kind.artifacts import write_csv, write_json, write_text
from kind.methods import METHODS
from kind.params.ablations import Settings
from kind.params.match import Match
from kind.reporting import grids, plots
from kind.reporting.ablations import ablation_sections
from kind.reporting.analyses import analysis_section, load_analyses
from kind.reporting.budgets import TRIALS_APART, deployed, seconds_of, trainable
from kind.reporting.choices import load_choices, match_table, tuning_table
from kind.reporting.comparisons import (
    HEADLINE,
    cost_table,
    curve_metric,
    exact_name,
    headline_metrics,
    memorisation_table,
    metric_names,
    overview_table,
    quality_table,
    select,
)
from kind.reporting.distances import class_table, interval_table, paired_table, write_classes
from kind.reporting.labels import Style, in_sentence, listed_classes, method_styles, metric_label
from kind.reporting.overall import overall_section
from kind.reporting.page import Page, TaskSection, render_page
from kind.reporting.runs import (
    BackboneRecord,
    RunRecord,
    curve_rows,
    load_backbones,
    load_runs,
    mean_values,
    number,
    run_rows,
)
from kind.reporting.tables import with_note, write_table

__all__ = ["HEADLINE", "load_runs", "write_report"]

Levels = Mapping[str, float]  # of real images, by metric
MOST_ROWS = 30  # of a table of single runs on the page; a longer one is in tables/ alone
TRADE_OFFS = {  # file name -> in the title, on the axis, its value for a run
    "trade_off": ("size", "trainable parameters", trainable),
    "trade_off_time": ("time", "seconds of training", lambda run: seconds_of(run, run.final_step)),
}
UNTRAINED = {"trade_off": ("size", "deployed parameters", deployed)}


def write_report(
    experiment: str,
    params: Mapping[str, Any],
    folder: Path,
    output: Path,
    seeds: Sequence[int],
    tasks: Mapping[str, Mapping[str, Any]],
    methods: Mapping[str, Mapping[str, Any]],
    command: str,
    headline: Sequence[str] = HEADLINE,
    entries_on: Mapping[str, Sequence[str]] = MappingProxyType({}),
    tuned: Sequence[str] = (),
    matches: Mapping[tuple[str, str], Match] = MappingProxyType({}),
    class_sets: Mapping[str, str] = MappingProxyType({}),
    ablations: Sequence[Settings] = (),
) -> None:
    """Tables, plots, grids and `index.html` in `output`, from the runs under `folder` (results/<experiment>).

    tasks: name -> its params, with the list `classes`; methods: label -> its params; command: what repeats all;
    entries_on: task -> the methods that run on it, where those are not all; tuned: the methods whose learning rate was
    chosen by trials; matches: (task, method) -> the size that was found for it; class_sets: `pretrain`, `tasks.NAME` ->
    of which set the classes are, as `kind.params.class_sets` says it; ablations: what their entries
    stand for.
    Raises UserError if a run's file is missing, or if the runs of a task have no common protocol.
    """
    folder, output = Path(folder), Path(output)
    runs = load_runs(folder, tasks, methods, seeds, entries_on)
    backbones = load_backbones(folder, params.get("backbones"))
    adapted = [task for task, entry in tasks.items() if not entry.get("seen")]  # on the others nothing is trained
    analysed = load_analyses(folder, params.get("analyses"), tasks)
    styles = method_styles(methods)
    write_csv(output / "metrics.csv", run_rows(experiment, runs))
    write_csv(output / "curves.csv", curve_rows(experiment, runs), _curve_columns(runs))
    write_json(output / "means.json", mean_values(runs))
    write_classes(output / "summary" / "classes.csv", runs)

    tried = load_choices(folder, tuned)
    choices = {"tuning": tuning_table(tried, runs), "matches": match_table(matches, runs)}
    apart = TRIALS_APART if tuned else None
    cost = with_note(cost_table("Cost of every run", runs, methods, seeds, by_task=True), apart)
    summary = {
        "overview": overview_table(runs, tasks, methods, seeds, headline),
        "cost": cost,
        "memorisation": memorisation_table("Distance to the training images", runs, methods, seeds, by_task=True),
    }
    overall = overall_section(runs, list(methods), output, styles, headline)
    summary |= overall.tables if overall else {}
    note = overcomplete_note(params.get("backbones") or {}, methods)
    summary = {name: with_note(table, note) for name, table in summary.items()}
    for name, table in (summary | choices).items():
        if table:
            write_table(table, output / "summary", name)

    sections = []
    for task, entry in tasks.items():
        of_task, own = select(runs, task=task), list(entries_on.get(task, methods))
        real = analysed.real(task) if analysed else {}
        metrics = headline_metrics(of_task, headline)
        quality = with_note(quality_table(task, of_task, own, seeds), note)
        cost_of_task = cost_table(f"Cost on {task}", of_task, own, seeds, by_task=False)
        distances = {
            "paired": paired_table(task, of_task, own, metrics),
            "distances": interval_table(task, of_task, own),
            "classes": class_table(task, of_task, own, seeds),
        }
        distances = {name: with_note(table, note) for name, table in distances.items() if table}
        write_table(quality, output / "tables", task)
        for name, table in distances.items():
            write_table(table, output / "tables", f"{task}.{name}")
        classes = [str(name) for name in entry.get("classes", ())]
        panels = _panels(folder, of_task, task, classes, own, seeds)
        grids.write_grid(output / "grids" / f"{task}.png", f"{experiment}: {task}, seed {seeds[0]}", panels, classes)
        sections.append(
            TaskSection(
                name=task,
                entry=entry,
                runs=of_task,
                quality=quality,
                distances=[table for table in distances.values() if len(table.rows) <= MOST_ROWS],
                cost=with_note(with_note(cost_of_task, apart), note),
                memorisation=with_note(
                    memorisation_table(
                        f"Distance to the training images of {task}", of_task, own, seeds, by_task=False
                    ),
                    note,
                ),
                panels=panels,
                trade_offs=_trade_offs(
                    output / "plots", task, of_task, styles, metrics[0], TRADE_OFFS if task in adapted else UNTRAINED
                ),
                plots=_task_plots(output / "plots", of_task, styles, metrics, real) if task in adapted else [],
                of_set=class_sets.get(f"tasks.{task}"),
            )
        )
    page = Page(
        experiment=experiment,
        description=str(params.get("description") or ""),
        command=command,
        seeds=seeds,
        methods=methods,
        training={"Fine-tuning": params.get("finetune") or {}, "Pre-training": _pretraining(params, class_sets)},
        styles=styles,
        choices=[table for table in choices.values() if table],
        overview=summary["overview"],
        overall=overall and replace(overall, tables={name: summary[name] for name in overall.tables}),
        sections=sections,
        backbones=backbones,
        backbone_plot=_backbone_plot(output / "plots", backbones),
        previews=_previews(backbones, [str(name) for name in params.get("pretrain", {}).get("classes", ())]),
        ablations=ablation_sections(ablations, runs, output, styles, seeds, headline, note),
        analyses=analysis_section(analysed, output, styles, seeds, runs, headline, params),
    )
    write_text(output / "index.html", render_page(page))


def _curve_columns(runs: Sequence[RunRecord]) -> list[str]:
    names = dict.fromkeys(name for run in runs for values in run.curve.values() for name in values)
    return ["experiment", "task", "method", "seed", "step", *names, "indicative"]


# --- plots ------------------------------------------------------------------------------------------------------


def _task_plots(
    folder: Path, runs: Sequence[RunRecord], styles: Mapping[str, Style], metrics: Sequence[str], real: Levels
) -> list[plots.Plot]:
    """Each headline metric against step, then the losses.  real: what real images get, where that was measured."""
    task, by_method = runs[0].task, {method: select(runs, method=method) for method in styles}
    made = [_metric_curve(folder, by_method, styles, metric, real) for metric in metrics]
    losses = [
        plots.Series(method, styles[method], [plots.averaged(*run.losses) for run in chosen])
        for method, chosen in by_method.items()
    ]
    made.append(plots.line_plot(
        folder, f"{task}_loss", losses, "Training loss", f"{task}: mean over stretches of the log", markers=False,
    ))  # fmt: skip
    return [plot for plot in made if plot]


def _trade_offs(
    folder: Path,
    task: str,
    runs: Sequence[RunRecord],
    styles: Mapping[str, Style],
    metric: str,
    costs: Mapping[str, tuple],
) -> list[plots.Plot]:
    """Quality against each of these costs: those of training, or the size where nothing is trained."""
    words = in_sentence(metric_label(metric).with_arrow(metric_names(runs)[metric]))
    made = []
    for name, (short, axis, cost) in costs.items():
        series = []
        for method in styles:
            pairs = [(cost(run), number(run.values.get(metric))) for run in select(runs, method=method)]
            series.append(plots.Series(method, styles[method], [[pair] for pair in pairs if None not in pair]))
        made.append(plots.trade_off_plot(
            folder, f"{task}_{name}", series, f"{task}: {words} against {short}", exact_name(metric, runs), axis
        ))  # fmt: skip
    return [plot for plot in made if plot]


def _metric_curve(
    folder: Path, by_method: Mapping[str, Sequence[RunRecord]], styles: Mapping[str, Style], metric: str, real: Levels
) -> plots.Plot | None:
    """Curve points may use fewer samples than the final table: one metric name a plot, never a mix."""
    label = metric_label(metric)
    runs = [run for chosen in by_method.values() for run in chosen]
    name = curve_metric(runs, label.base)
    if name is None:
        return None
    series = []
    for method, chosen in by_method.items():
        each = [[(step, number(values.get(name))) for step, values in run.curve.items()] for run in chosen]
        points = [[(step, value) for step, value in seed if value is not None] for seed in each]
        series.append(plots.Series(method, styles[method], points))
    title = label.with_arrow(metric_names(runs)[metric])
    task, level = runs[0].task, real.get(name)
    subtitle = f"{task}: {exact_name(name, runs)}"
    return plots.line_plot(folder, f"{task}_{label.base}", series, title, subtitle, markers=True, level=level)


def overcomplete_note(
    backbones: Mapping[str, Mapping[str, Any]], methods: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """What every table says of methods whose backbone may hold more components than a matrix has rank."""
    named = []
    for label, entry in methods.items():
        method = METHODS.get((entry or {}).get("method", label))
        default = method and method.options.model_fields.get("backbone")
        backbone = (entry or {}).get("backbone", default.default if default else None)
        if (backbones.get(backbone) or {}).get("overcomplete"):
            named.append(f"{label} (backbone {backbone})")
    if not named:
        return None
    return (
        f"Overcomplete: {', '.join(named)}. The backbone may hold more components than its matrices have rank; a "
        "choice of this project, not the paper's."
    )


def _backbone_plot(folder: Path, backbones: Sequence[BackboneRecord]) -> plots.Plot | None:
    styles = method_styles(backbone.name for backbone in backbones)
    series = [
        plots.Series(backbone.name, styles[backbone.name], [plots.averaged(*backbone.losses)]) for backbone in backbones
    ]
    return plots.line_plot(
        folder, "pretraining_loss", series, "Pre-training loss", "backbones: mean over stretches of the log",
        markers=False,
    )  # fmt: skip


# --- pictures ---------------------------------------------------------------------------------------------------


def _panels(
    folder: Path,
    runs: Sequence[RunRecord],
    task: str,
    classes: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
) -> list[grids.Panel]:
    """Real test images, then the samples of each method's first seed."""
    panels = [grids.make_panel("real", [grids.read_shard(folder / "reference" / f"{task}.npz")], classes)]
    for method in methods:
        (run,) = select(runs, method=method, seed=seeds[0])
        panels.append(grids.make_panel(method, grids.read_samples(run.samples_folder), classes, method))
    return panels


def _pretraining(params: Mapping[str, Any], class_sets: Mapping[str, str]) -> dict[str, Any]:
    """Its params, for a line of text."""
    given = dict(params.get("pretrain") or {})
    return given | {"classes": listed_classes(given["classes"], class_sets.get("pretrain"))} if given else given


def _previews(backbones: Sequence[BackboneRecord], classes: Sequence[str]) -> list[grids.Panel]:
    panels = []
    for backbone in backbones:
        if backbone.preview is None:
            continue
        images, labels = grids.read_shard(backbone.preview)
        names = list(classes) or [f"class {index}" for index in range(int(labels.max()) + 1)]
        panels.append(grids.make_panel(backbone.name, [(images, labels)], names))
    return panels
