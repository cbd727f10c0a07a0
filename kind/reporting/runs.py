"""The finished runs and backbones of an experiment, read from their files and checked."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kind.artifacts import read_json
from kind.errors import UserError
from kind.layout import Layout

FORMAT = 1


@dataclass(frozen=True)
class RunRecord:
    """One `(task, method, seed)`: the content of its metrics.json and cost.json.  `drawn`: where its samples lie."""

    task: str
    method: str
    seed: int
    folder: Path
    drawn: Path
    metrics: Mapping[str, Any]
    cost: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.task}/{self.method}/seed_{self.seed}"

    @property
    def values(self) -> Mapping[str, float | None]:
        return self.metrics["values"]

    @property
    def final_step(self) -> int:
        return int(self.metrics["final_step"])

    @property
    def protocol(self) -> Mapping[str, Any]:
        return self.metrics["protocol"]

    @cached_property
    def indicative(self) -> set[str]:
        """Names of metrics whose values, here or at a point of the curve, say more about counts than about images."""
        points = (self.metrics.get("steps") or {}).values()
        return {name for found in (self.metrics, *points) for name in found.get("indicative") or ()}

    @cached_property
    def curve(self) -> dict[int, Mapping[str, float | None]]:
        """Evaluated step -> metric name -> value, in order of steps."""
        steps = self.metrics.get("steps") or {}
        return {int(step): steps[step]["values"] for step in sorted(steps, key=int)}

    @cached_property
    def losses(self) -> tuple[list[int], list[float]]:
        return read_losses(self.folder / "train.csv")

    @property
    def samples_folder(self) -> Path:
        return self.drawn / f"step_{self.final_step:06d}"

    def part(self, name: str) -> Mapping[str, Any]:
        """A section of metrics.json that an evaluation may leave out: `parameters`, `memorisation`, `judge` ..."""
        return self.metrics.get(name) or {}


@dataclass(frozen=True)
class BackboneRecord:
    name: str
    folder: Path
    record: Mapping[str, Any]
    cost: Mapping[str, Any]
    losses: tuple[list[int], list[float]]

    @property
    def preview(self) -> Path | None:
        path = self.folder / "preview.npz"
        return path if path.is_file() else None


def load_runs(
    folder: Path,
    tasks: Iterable[str],
    methods: Iterable[str],
    seeds: Iterable[int],
    entries_on: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[RunRecord]:
    """Every expected run under `folder`/runs, ordered by task, method, seed.

    entries_on: task -> its methods, where those are not all.
    Raises UserError that names all missing files, or the file whose content belongs to another run, or two runs of
    one task that were not evaluated under one protocol.
    """
    layout = Layout(Path(folder))
    places = [(task, method, seed) for task in tasks for method in entries_on.get(task, methods) for seed in seeds]
    files = [layout.run(*place) / name for place in places for name in ("metrics.json", "cost.json", "train.csv")]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(files)} files of {len(places)} runs are missing:\n"
            + "\n".join(f"  {path}" for path in missing[:20])
            + (f"\n  ... and {len(missing) - 20} more" if len(missing) > 20 else ""),
            hint="run finetune, sample and evaluate for these runs (the Snakemake command does), then try again",
        )
    runs = [_load_run(layout, *place) for place in places]
    check_protocols(runs)
    return runs


def _load_run(layout: Layout, task: str, method: str, seed: int) -> RunRecord:
    folder = layout.run(task, method, seed)
    path = layout.metrics(folder)
    metrics = read_json(path)
    absent = [key for key in ("format", "protocol", "protocol_hash", "final_step", "values") if key not in metrics]
    if absent:
        raise UserError(f"{path}: has no {', '.join(absent)}", hint="delete it and run the evaluate stage again")
    if metrics["format"] != FORMAT:
        raise UserError(f"{path}: format {metrics['format']}; this version reads format {FORMAT}")
    found = tuple(metrics.get(key, given) for key, given in (("task", task), ("method", method), ("seed", seed)))
    if found != (task, method, seed):
        raise UserError(
            f"{path}: written for task {found[0]}, method {found[1]}, seed {found[2]}; "
            f"its place says task {task}, method {method}, seed {seed}",
            hint="a copied or renamed folder? delete it and run the evaluate stage again",
        )
    return RunRecord(task, method, seed, folder, layout.sample_folder(folder), metrics, read_json(folder / "cost.json"))


def check_protocols(runs: Iterable[RunRecord]) -> None:
    """One protocol a task: a table never mixes sample counts, samplers, extractors or reference sets."""
    first: dict[str, RunRecord] = {}
    for run in runs:
        other = first.setdefault(run.task, run)
        if run.metrics["protocol_hash"] == other.metrics["protocol_hash"]:
            continue
        ours, theirs = flatten(run.protocol), flatten(other.protocol)
        fields = [key for key in {**theirs, **ours} if ours.get(key) != theirs.get(key)]
        lines = [f"  {key}: {theirs.get(key)!r} in {other.name}, {ours.get(key)!r} in {run.name}" for key in fields]
        raise UserError(
            f"task {run.task}: the runs {other.name} and {run.name} were evaluated under different protocols "
            f"({other.metrics['protocol_hash']}, {run.metrics['protocol_hash']}) and have no common table:\n"
            + "\n".join(lines or ["  (no field differs, only the hash: one of the files was edited)"]),
            hint="sample and evaluate both again with the present params",
        )


def load_backbones(folder: Path, names: Iterable[str] | None = None) -> list[BackboneRecord]:
    """The pre-trained models under `folder`/backbones, those of `names` that were trained; without `names` all."""
    root = Path(folder) / "backbones"
    there = sorted(path.name for path in root.glob("*") if path.is_dir())
    names = there if names is None else [name for name in names if name in there]
    records = []
    for name in names:
        place = root / name
        record = place / "pretrain.json"
        records.append(
            BackboneRecord(
                name=name,
                folder=place,
                record=read_json(record) if record.is_file() else {},
                cost=read_json(place / "cost.json"),
                losses=read_losses(place / "train.csv"),
            )
        )
    return records


def read_losses(path: Path) -> tuple[list[int], list[float]]:
    """Steps and losses of a training log; rows without a finite loss are left out."""
    if not path.is_file():
        raise UserError(f"{path}: no such file", hint="the training stage writes it beside the weights")
    steps, losses = [], []
    with open(path, newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        if not {"step", "loss"} <= set(reader.fieldnames or ()):
            raise UserError(f"{path}: has the columns {reader.fieldnames}; expected step and loss among them")
        for row in reader:
            loss = number(row["loss"])
            if loss is not None:
                steps.append(int(row["step"]))
                losses.append(loss)
    return steps, losses


def number(value: Any) -> float | None:
    """A finite float; None for null, NaN, infinity, an empty cell, a boolean or text that is no number."""
    if value is None or isinstance(value, bool):
        return None
    try:
        value = float(value)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def run_rows(experiment: str, runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """metrics.csv: one row a run, exact values; a metric that only other tasks have is empty."""
    rows = []
    names = list(dict.fromkeys(name for run in runs for name in run.values))
    for run in runs:
        row = {"experiment": experiment, "task": run.task, "method": run.method, "seed": run.seed}
        row |= {"final_step": run.final_step, "protocol_hash": run.metrics["protocol_hash"]}
        row |= {name: number(run.values.get(name)) for name in names}
        for name, interval in run.part("intervals").items():
            row |= {f"{name}_{end}": number(interval.get(end)) for end in ("low", "high")}
        row["indicative"] = " ".join(run.metrics.get("indicative") or ())
        for part in ("parameters", "memorisation", "judge"):
            row |= {f"{part}_{key}": value for key, value in flatten(run.part(part)).items()}
        row |= {f"cost_{key}": value for key, value in flatten(run.cost).items()}
        made = run.part("provenance")
        row |= {key: made.get(key) for key in ("code", "git", "python")}
        rows.append(row)
    return rows


def mean_values(runs: Iterable[RunRecord]) -> dict[str, dict[str, dict[str, float]]]:
    """means.json: task -> method -> metric -> mean over the seeds that have a value; for comparing versions."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for run in runs:
        cell = found.setdefault(run.task, {}).setdefault(run.method, {})
        for name, value in run.values.items():
            if (value := number(value)) is not None:
                cell.setdefault(name, []).append(value)
    return {
        task: {
            method: {name: statistics.fmean(each) for name, each in cell.items()} for method, cell in methods.items()
        }
        for task, methods in found.items()
    }


def curve_rows(experiment: str, runs: Iterable[RunRecord]) -> list[dict[str, Any]]:
    """curves.csv: one row per run and evaluated step."""
    return [
        {"experiment": experiment, "task": run.task, "method": run.method, "seed": run.seed, "step": step}
        | {name: number(value) for name, value in values.items()}
        | {"indicative": " ".join(name for name in values if name in run.indicative)}
        for run in runs
        for step, values in run.curve.items()
    ]
