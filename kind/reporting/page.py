"""One self-contained HTML page: `page.html` and `page.css` filled in; no script, and all pictures within it."""

from __future__ import annotations

import base64
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind.reporting.ablations import AblationSection
from kind.reporting.analyses import AnalysisSection
from kind.reporting.comparisons import metric_names, protocol_phrase, seeds_phrase
from kind.reporting.grids import Panel, images_per_row, shown_classes
from kind.reporting.labels import (
    ARROWS,
    MISSING,
    MetricLabel,
    Style,
    in_sentence,
    listed_classes,
    metric_label,
    plain,
    settings,
    short_count,
)
from kind.reporting.overall import OverallSection
from kind.reporting.page_facts import backbone_facts, provenance_facts, warnings
from kind.reporting.page_plots import inline
from kind.reporting.plots import Plot
from kind.reporting.runs import BackboneRecord, RunRecord, flatten, number
from kind.reporting.tables import Cell, Column, Table

if TYPE_CHECKING:
    from markupsafe import Markup

MANY_TASKS = 6  # more of them are folded: what differs stands in the table of all tasks
TEMPLATES = Path(__file__).parent
TEMPLATE_FILES = ("page.html", "page.css")  # package data


@dataclass(frozen=True)
class TaskSection:
    """A task's part of the page.  of_set: of which named set its classes are, where its source has sets."""

    name: str
    entry: Mapping[str, Any]
    runs: Sequence[RunRecord]
    quality: Table
    cost: Table
    distances: Sequence[Table]
    memorisation: Table | None
    panels: Sequence[Panel]
    trade_offs: Sequence[Plot]
    plots: Sequence[Plot]
    of_set: str | None = None


@dataclass(frozen=True)
class Page:
    """All that the page shows; everything textual in it is data and is escaped."""

    experiment: str
    description: str
    command: str
    seeds: Sequence[int]
    methods: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Mapping[str, Any]]  # "Fine-tuning" and "Pre-training" -> their params
    styles: Mapping[str, Style]
    choices: Sequence[Table]  # of learning rates and sizes, where the params leave them open
    overview: Table
    sections: Sequence[TaskSection]
    backbones: Sequence[BackboneRecord]
    backbone_plot: Plot | None
    previews: Sequence[Panel]
    overall: OverallSection | None = None  # every method against one over all tasks, where there are several
    ablations: Sequence[AblationSection] = ()
    analyses: AnalysisSection | None = None

    @property
    def folded(self) -> bool:
        """Whether tasks are too many to be read one after another."""
        return len(self.sections) > MANY_TASKS

    @property
    def has_holes(self) -> bool:
        """Whether some methods do not run on some tasks."""
        return any(len({run.method for run in section.runs}) < len(self.methods) for section in self.sections)

    @property
    def runs(self) -> list[RunRecord]:
        return [run for section in self.sections for run in section.runs]

    def learning_rates(self, method: str) -> str:
        """The rate that each method was trained with, its own or the common one."""
        found = (number(run.part("training").get("learning_rate")) for run in self.runs if run.method == method)
        return ", ".join(f"{rate:g}" for rate in sorted({rate for rate in found if rate is not None})) or MISSING


def render_page(page: Page) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "data_uri": data_uri, "inline": inline, "heading": heading, "breakable": breakable, "settings": settings,
        "plain": plain, "task_facts": task_facts, "shown_rows": shown_rows, "judge": judge_line,
        "protocol": protocol_phrase,
    }  # fmt: skip
    template = environment.get_template("page.html")
    return template.render(
        page=page,
        findings=findings(page),
        seeds=seeds_phrase(page.seeds),
        caveats=caveats(page),
        metrics=metric_glossary(page.runs),
        protocol=protocol_fields(page.sections),
        backbones=backbone_facts(page.backbones),
        provenance=provenance_facts(page.runs),
        warnings=warnings(page.runs),
    )


# --- filters ----------------------------------------------------------------------------------------------------


def data_uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def breakable(name: str) -> Markup:
    """A metric's exact name, escaped, that a narrow column may break after an underscore."""
    from markupsafe import Markup, escape

    return Markup("_<wbr>").join(escape(part) for part in name.split("_"))


def task_facts(section: TaskSection) -> str:
    """What a task is, in a line."""
    classes = [str(name) for name in section.entry.get("classes", ())]
    counted = section.of_set or f"{len(classes)} class{'es' if len(classes) != 1 else ''}"
    facts = [listed_classes(classes, counted)] if classes else []
    rest = {key: value for key, value in section.entry.items() if key != "classes" and value is not None}
    return "; ".join(facts + [f"{key.replace('_', ' ')}: {plain(value)}" for key, value in flatten(rest).items()])


def shown_rows(section: TaskSection) -> str:
    """Which classes the rows of the pictures are."""
    classes = [str(name) for name in section.entry.get("classes", ())]
    height = next((tile.shape[0] for panel in section.panels for row in panel.tiles for tile in row), 1)
    shown = shown_classes(len(classes), height)
    names = ", ".join(classes[index] for index in shown)
    which = "one row a class" if len(shown) == len(classes) else f"{len(shown)} of {len(classes)} classes"
    return f"{which} ({names}), the first {images_per_row(height)} images of each, not selected"


def judge_line(section: TaskSection) -> str | None:
    """The judge's accuracy on real test images beside its agreement with samples."""
    real = {number(run.part("judge").get("accuracy_on_real_test")) for run in section.runs} - {None}
    if not real:
        return None
    found = " to ".join(f"{100 * value:.1f} %" for value in sorted({min(real), max(real)}))
    line = f"A classifier that plays no other part is right on {found} of the real test images."
    for place, column in enumerate(section.quality.columns):
        if metric_label(column.name).base.startswith("accuracy_svc"):
            cells = [(row.method, row.cells[place]) for row in section.quality.rows]
            line += " Its agreement with the class asked for, on samples: "
            line += ", ".join(f"{name} {_percent(cell)}" for name, cell in cells) + "."
    return line


def _percent(cell: Cell) -> str:
    if cell.mean is None:
        return MISSING
    return f"{100 * cell.mean:.1f} %" + (f" ({cell.shortfall})" if cell.shortfall else "")


def heading(column: Column) -> str:
    """A column's heading whose arrow never starts a line."""
    return column.heading.replace(" ↓", "\u00a0↓").replace(" ↑", "\u00a0↑")


# --- what the page says -----------------------------------------------------------------------------------------


def findings(page: Page) -> list[str]:
    """Over all tasks, which methods are apart; per task, the best by the primary metric and the next."""
    lines = []
    for place, column in enumerate(page.overview.columns):
        cells = [(row.method, row.cells[place]) for row in page.overview.rows]
        ranked = [(name, cell) for name, cell in cells if cell.mean is not None and not cell.shortfall]
        ranked.sort(key=lambda pair: pair[1].mean, reverse=column.direction == "higher")
        if column.direction not in ARROWS or len(ranked) < 2:
            continue
        (first, best), (second, following) = ranked[:2]
        sizes = {method: _size_on(page, column.key, method) for method in (first, second)}
        words = in_sentence(metric_label(column.name).words)
        extreme = "lowest" if column.direction == "lower" else "highest"
        line = f"{column.key}: {first} has the {extreme} {words}, {_spelled(best)}{sizes[first]}; "
        line += f"next is {second}, {_spelled(following)}{sizes[second]}"
        if best.std is not None and following.std is not None:
            apart = abs(best.mean - following.mean) > best.std + following.std
            line += "" if apart else ", a difference within the spread of the seeds"
        lines.append(f"{line}.")
    return [*(page.overall.findings if page.overall else ()), *lines]


def _size_on(page: Page, task: str, method: str) -> str:
    """The deployed size in brackets, where nothing is trained: what is best there may only be larger."""
    runs = [run for run in page.runs if run.task == task]
    found = [number(run.part("parameters").get("deployed")) for run in runs if run.method == method]
    if any(run.final_step for run in runs) or not found or None in found:
        return ""
    return f" ({short_count(statistics.fmean(found))} parameters)"


def _spelled(cell: Cell) -> str:
    return f"{cell.mean_text} ± {cell.std_text}" if cell.std_text not in ("", MISSING) else cell.mean_text


def caveats(page: Page) -> list[str]:
    """What a reader must know before believing a number."""
    labels = [metric_label(name) for name in metric_names(page.runs)]
    inception = any(label.base in ("fid", "sfid", "kid", "is") for label in labels)
    own = any(label.base.startswith(("fd_", "sfd_", "kd_")) for label in labels)
    lines = []
    if own and not inception:
        lines.append(
            "None of these metrics is FID: features come from a small network trained on this experiment's own data. "
            "The numbers rank methods within this report and compare with no other publication."
        )
    elif own:
        lines.append(
            "Only FID, sFID, KID and Inception Score use Inception features; other names carry their extractor."
        )
    lines.append(
        f"Counts stand in the names, samples first, then real images{_example(labels)}. "
        "Distances between small sets are biased upwards, so only equal counts compare. "
        "Points along a training curve may use fewer samples than the final table; each plot says its exact metric."
    )
    if any(flatten(run.part("protocol")).get("reference.set") == "validation" for run in page.runs):
        lines.append("The reference images are validation images: these numbers select settings and are no results.")
    closed = sorted({run.method for run in page.runs if run.final_step and _contrasts_with_the_past(run)})
    if closed:
        lines.append(
            f"{', '.join(closed)}: a dropped label closes all tailors, so that guidance contrasts the task with what "
            "the backbone knew before, while other methods adapt both halves. Guidance moves these methods more."
        )
    if len(page.seeds) < 5:
        many = f"{len(page.seeds)} seeds give" if len(page.seeds) > 1 else "one seed gives"
        lines.append(f"Only {many} a rough idea of the spread: small differences are no evidence.")
    steps = {section.name: sorted({run.final_step for run in section.runs}) for section in page.sections}
    for task, different in steps.items():
        if len(different) > 1:
            lines.append(f"{task}: runs end at different steps ({', '.join(map(str, different))}).")
    lines.append("Times and memory were measured on the machine named in the cost tables, under whatever load it had.")
    return lines


def metric_glossary(runs: Sequence[RunRecord]) -> list[tuple[str, list[str], str]]:
    """Words with arrow, exact names, meaning."""
    entries: dict[str, tuple[str, list[str], str]] = {}
    for name, direction in metric_names(runs).items():
        label = metric_label(name)
        entries.setdefault(label.base, (label.with_arrow(direction), [], label.meaning))[1].append(name)
    return list(entries.values())


def protocol_fields(sections: Sequence[TaskSection]) -> dict[str, Any]:
    """shared: field -> value; tasks: task -> hash and the fields in which the tasks differ."""
    flat = {section.name: flatten(section.runs[0].protocol) for section in sections}
    hashes = {section.name: section.runs[0].metrics["protocol_hash"] for section in sections}
    keys = list(dict.fromkeys(key for fields in flat.values() for key in fields))
    shared = [key for key in keys if len({plain(fields.get(key)) for fields in flat.values()}) == 1]
    differing = [key for key in keys if key not in shared]
    return {
        "shared": [(key, plain(next(iter(flat.values()))[key])) for key in shared],
        "differing": differing,
        "tasks": [(task, hashes[task], [plain(fields.get(key)) for key in differing]) for task, fields in flat.items()],
    }


def _contrasts_with_the_past(run: RunRecord) -> bool:
    """Whether the unconditional half of guidance is learngenes alone, which a task does not train."""
    scale = number(run.metrics.get("guidance_scale", flatten(run.part("protocol")).get("sampling.guidance_scale")))
    return run.part("training").get("null_gate") == "learngenes" and scale is not None and scale > 1


def _example(labels: Sequence[MetricLabel]) -> str:
    """`: NAME is 500 against 180` for the first metric that has two counts."""
    pair = next((label for label in labels if None not in label.counts), None)
    return f": {pair.name} is {pair.counts[0]} against {pair.counts[1]}" if pair else ""
