"""Entries of an experiment: one a run, backbone, report and ablation; each read again only when its files change."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kind.artifacts import digest, read_json, sha256
from kind.errors import UserError
from kind.layout import Layout
from kind.params import Experiment
from kind.records import check_recorded
from kind.reporting.runs import flatten, number
from kind.tracked.ablations import Ablations
from kind.tracked.entry import Entry, Point, Rows, as_text
from kind.tracked.pictures import backbone_picture, run_picture
from kind.tracked.progress import FINISHED, Pipeline, Progress, read_progress, state_files
from kind.tracked.view import table_view

RUN_STAGES = ("finetune", "sample", "evaluate")
COUNTS = ("num_samples", "num_test", "num_train", "processes", "steps", "threads")  # they are params or always the same


@dataclass(frozen=True)
class Source:
    """An entry that the params ask for.  watched: the files that it is read from."""

    key: str
    watched: list[Path]
    read: Callable[[Pipeline], Entry | None]


@dataclass
class Reader:
    experiment: Experiment
    layout: Layout
    pipeline: Pipeline = "unknown"
    problems: dict[str, str] = field(default_factory=dict)  # key -> why its files cannot be read
    _seen: dict[str, tuple] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)

    def keys(self) -> set[str]:
        """Of all entries that the params ask for, whether their files are there or not."""
        return {source.key for source in self._sources()}

    def changed(self, again: bool = False) -> Iterator[Entry]:
        """Entries whose files changed since the last call; `again`: those that were not finished too."""
        for source in self._sources():
            signature = tuple(map(_signature, source.watched))
            if signature == self._seen.get(source.key) and not (again and source.key in self._open):
                continue
            try:
                entry = source.read(self.pipeline)
            except (OSError, UserError, KeyError, TypeError, ValueError) as error:
                # a job may be replacing its files: they are read again at the next look
                self.problems[source.key] = f"{source.key}: {type(error).__name__}: {error}"
                continue
            self.problems.pop(source.key, None)
            self._seen[source.key] = signature
            if entry is not None:
                (self._open.discard if entry.status == FINISHED else self._open.add)(source.key)
                yield entry

    def forget(self, key: str) -> None:
        """Read it again at the next call: MLflow could not be told."""
        self._seen.pop(key, None)

    def _sources(self) -> Iterator[Source]:
        experiment, layout = self.experiment, self.layout
        yield from Ablations(experiment, layout).sources()
        for name in experiment.backbones:
            files = [layout.record(layout.backbone(name), "pretrain"), layout.backbone(name) / "cost.json"]
            watched = [*files, *state_files(layout.state("pretrain", name))]
            yield Source(f"pretrain/{name}", watched, lambda pipeline, name=name: self._backbone(name, pipeline))
        for run in experiment.runs():
            folder = layout.run(*run)
            watched = [layout.metrics(folder), folder / "cost.json", folder / "train.csv"]
            for stage in RUN_STAGES:
                watched += [layout.record(folder, stage), *state_files(layout.state(stage, *run))]
            yield Source("run/{}/{}/{}".format(*run), watched, lambda pipeline, run=run: self._run(*run, pipeline))
        yield Source("report", [layout.record(layout.report, "report")], self._report)

    # --- runs and backbones -----------------------------------------------------------------------------------------

    def _run(self, task: str, label: str, seed: int, pipeline: Pipeline) -> Entry | None:
        layout, folder = self.layout, self.layout.run(task, label, seed)
        progress = read_progress(
            folder, {stage: layout.state(stage, task, label, seed) for stage in RUN_STAGES}, pipeline
        )
        if progress is None:
            return None
        metrics = {}
        if "evaluate" in progress.records:
            metrics = read_json(layout.metrics(folder))
            check_recorded(layout.metrics(folder))
        cost = read_json(folder / "cost.json") if progress.records else {}
        final = int(metrics.get("final_step", self.experiment.finetune.steps))
        points = progress.training_points() | metric_points(metrics, final)
        parameters = metrics.get("parameters") or progress.jobs["finetune"].get("parameters")
        parts = {"parameters": parameters, "cost": cost}
        for name, values in (parts | {key: metrics.get(key) for key in ("memorisation", "judge")}).items():
            points |= as_points(f"{name}/", values)
        place = Ablations(self.experiment, layout).of_run(task, label)
        pictures, classes = {}, list(self.experiment.tasks[task].classes)
        drawn = layout.sample_folder(folder) / f"step_{final:06d}"
        # a killed Snakemake takes samples away and leaves their record; of a clone they may not have been pulled
        if "sample" in progress.records and layout.reference(task).is_file() and any(drawn.glob("shard_*.npz")):
            outputs = sorted(progress.records["sample"]["outputs"].values())
            title = f"{self.experiment.name}: {task} / {label} / seed {seed}"
            pictures["samples.png"] = (
                digest(outputs), lambda: run_picture(drawn, layout.reference(task), title, label, classes),
            )  # fmt: skip
        tags = {"task": task, "method": label, "seed": seed, "protocol_hash": metrics.get("protocol_hash")}
        return self._entry(
            f"run/{task}/{label}/{seed}",
            f"{task} / {label} / seed {seed}",
            progress,
            folder,
            tags=tags | {"device": cost.get("device")} | place.tags,
            params=place.params | run_params(progress.jobs),
            points=points | as_points("ablation/", place.params),
            parent=place.parent,
            pictures=pictures,
        )

    def _backbone(self, name: str, pipeline: Pipeline) -> Entry | None:
        layout, folder = self.layout, self.layout.backbone(name)
        progress = read_progress(folder, {"pretrain": layout.state("pretrain", name)}, pipeline)
        if progress is None:
            return None
        recipe, record = progress.jobs["pretrain"]["recipe"], progress.records.get("pretrain")
        settings, points, pictures, cost = recipe["pretrain"], progress.training_points(), {}, {}
        if record:
            cost, classes = read_json(folder / "cost.json"), list(settings["classes"])
            points |= as_points("parameters/", record.get("parameters")) | as_points("cost/", cost)
            pictures["preview.png"] = (
                digest(sorted(record["outputs"].values())),
                lambda: backbone_picture(folder / "preview.npz", name, classes),
            )
        shape = flatten({key: recipe[key] for key in ("model", "diffusion")})
        return self._entry(
            f"pretrain/{name}",
            f"pretrain / {name}",
            progress,
            folder,
            tags={"backbone": name, "seed": settings["seed"], "device": cost.get("device")},
            params={**recipe["backbone"], **settings, **shape, "precision": recipe["precision"]},
            points=points,
            pictures=pictures,
        )

    def _entry(
        self, key: str, name: str, progress: Progress, folder: Path, *, tags: dict, params: dict, **rest: Any
    ) -> Entry:
        git, stage = progress.code.get("git"), progress.stage
        common = {
            "experiment": self.experiment.name,
            "stage": stage,
            "git": git,
            "code": progress.code.get("code"),
            "mlflow.source.git.commit": git,
            "mlflow.source.name": f"kind {stage}",
            "mlflow.source.type": "LOCAL",
        }
        return Entry(
            key=key,
            name=name,
            parts=progress.parts,
            status=progress.status,
            started=progress.started,
            trained=progress.trained,
            ended=progress.ended,
            tags={tag: str(value) for tag, value in (common | tags).items() if value is not None},
            description=f"Files: `{folder}`",
            params={key: as_text(value) for key, value in params.items() if value is not None},
            **rest,
        )

    # --- the report -------------------------------------------------------------------------------------------------

    def _report(self, pipeline: Pipeline) -> Entry | None:
        layout, experiment = self.layout, self.experiment
        path = layout.record(layout.report, "report")
        if not path.is_file():
            return None
        record, when = read_json(path), path.stat().st_mtime
        progress = Progress(
            {"report": record}, {}, {"report": record["recipe_digest"]}, FINISHED, when, when, when, path
        )
        rows = read_rows(layout.report / "metrics.csv")
        names = ("index.html", "metrics.csv", "curves.csv")
        pictures = [*layout.report_grids.glob("*.png"), *layout.report_plots.glob("*.png")]
        listed = [*(layout.report / name for name in names), *sorted(pictures)]
        tables = {path.stem: path for name in names[1:] for path in [layout.report / name]}
        for folder in (layout.report_summary, layout.report_tables):
            tables |= {f"{folder.name}/{path.stem}": path for path in sorted(folder.glob("*.csv"))}
        protocols = sorted({row["protocol_hash"] for row in rows})
        return self._entry(
            "report",
            "report",
            progress,
            layout.report,
            tags={"protocol_hash": ", ".join(protocols)},
            params={key: list(getattr(experiment, key)) for key in ("tasks", "methods", "seeds")},
            files={str(path.relative_to(layout.report)): (sha256(path), path) for path in listed},
            tables={
                f"tables/{name.removeprefix('tables/')}.json": (sha256(path), lambda path=path: read_rows(path))
                for name, path in tables.items()
            },
            view=table_view(rows[0] if rows else ()),
        )


def run_params(jobs: Mapping[str, Any]) -> dict[str, Any]:
    """The recipes of a run, flat: options and training settings by their own names, the others with a prefix."""
    recipe = jobs["finetune"]["recipe"]
    settings = recipe["finetune"]
    if settings["learning_rate"] is None:  # chosen by tuning: the record has it when training has ended
        settings = settings | {"learning_rate": jobs["finetune"].get("training", {}).get("learning_rate")}
    options = {key if key not in settings else f"options.{key}": value for key, value in recipe["options"].items()}
    options.pop("options.learning_rate", None)  # the settings hold the rate that is used
    params = {"method": recipe["method"], **options, **settings, "seed": recipe["seed"]}
    params |= {"curve_steps": recipe["steps"], "precision": recipe["precision"]}
    params |= flatten({key: recipe[key] for key in ("task", "model", "diffusion") if key in recipe})
    if "sample" in jobs:
        params |= flatten({"sampling": jobs["sample"]["recipe"]["sampling"]})
    if "evaluate" in jobs:
        params |= flatten({"evaluation": jobs["evaluate"]["recipe"]["protocol"]["reference"]})
    return params


def metric_points(metrics: Mapping[str, Any], final: int) -> dict[Point, float]:
    """Curves by step; a metric that was measured at the end alone is of the run, not of a step."""
    curves: dict[Point, float] = {}
    for step, found in (metrics.get("steps") or {}).items():
        curves |= as_points("", found["values"], int(step))
    names = {name for name, step in curves if step != final}
    at_end = {
        (name, final if name in names else 0): value
        for (name, _), value in as_points("", metrics.get("values")).items()
    }
    return {point: value for point, value in curves.items() if point[0] in names} | at_end


def as_points(prefix: str, values: Mapping[str, Any] | None, step: int = 0) -> dict[Point, float]:
    """Those of the values that are numbers and tell runs apart; the UI draws what has step 0 alone as bars."""
    numbers = {name: number(value) for name, value in flatten(values or {}).items() if not isinstance(value, str)}
    return {(prefix + name, step): value for name, value in numbers.items() if value is not None and name not in COUNTS}


def read_rows(path: Path) -> Rows:
    """A CSV file, its numbers as numbers."""
    with open(path, newline="", encoding="utf-8") as handle:
        return [
            {key: value if (found := number(value)) is None else found for key, value in row.items()}
            for row in csv.DictReader(handle)
        ]


def _signature(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
