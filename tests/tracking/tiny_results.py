"""Results of an experiment as the stages leave them, without any training: tiny, and true in every file's form."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np

from kind import recipes
from kind.artifacts import digest, save_arrays, sha256, write_csv, write_json, write_text
from kind.layout import Layout
from kind.params import Experiment
from kind.params.file import load_experiment
from kind.reporting.runs import curve_rows, load_runs, run_rows

ROOT = Path(__file__).parents[2]
PROVENANCE = {"code": "a1b2c3d4e5f6", "git": "0123456789ab", "python": "3.11.7", "versions": {"torch": "2.15.0"}}
LOG = ("step", "loss", "learning_rate", "gradient_norm")


class TinyResults:
    """Writes under `folder`/results what the experiment of `params` would."""

    def __init__(self, folder: Path, params: Path):
        self.folder, self.params = folder, params
        self.experiment: Experiment = load_experiment(params)
        self.layout = Layout(folder / "results" / self.experiment.name)

    def write_all(self) -> None:
        for name in self.experiment.backbones:
            self.write_backbone(name)
        for run in self.experiment.runs():
            self.write_run(*run)
        self.write_report()

    # --- runs -------------------------------------------------------------------------------------------------------

    def write_run(self, task: str, label: str, seed: int) -> Path:
        self.finetune(task, label, seed)
        self.sample(task, label, seed)
        return self.evaluate(task, label, seed)

    def finetune(self, task: str, label: str, seed: int) -> Path:
        folder, recipe = self.layout.run(task, label, seed), recipes.finetune(self.experiment, task, label, seed)
        made = self.layout.adapted(folder, self.experiment.finetune.steps)
        write_text(made, digest(recipe))
        self.write_log(folder / "train.csv", 1.0 + seed)
        write_json(folder / "cost.json", {"train_seconds": 2.5 + seed, "peak_memory_bytes": 9e8, "device": "cpu"})
        parameters = {"trainable": 1000 * (1 + len(label)), "deployed": 250_000, "macs": 4_000_000}
        return self.record(folder, "finetune", recipe, self.upstream(task), [made, folder / "train.csv"], parameters)

    def sample(self, task: str, label: str, seed: int) -> Path:
        folder, recipe = self.layout.run(task, label, seed), recipes.sample(self.experiment, task, label, seed)
        step, classes = self.experiment.finetune.steps, len(self.experiment.tasks[task].classes)
        shard = self.layout.samples(folder, step, 10, 10)[0]
        self.images(shard, 24, classes, "arr_1", sum(map(ord, digest(recipe))))
        return self.record(folder, "sample", recipe, [self.layout.adapted(folder, step)], [shard])

    def evaluate(self, task: str, label: str, seed: int) -> Path:
        folder, recipe = self.layout.run(task, label, seed), recipes.evaluate(self.experiment, task, label, seed)
        protocol, final = recipes.protocol(self.experiment, task), self.experiment.finetune.steps
        reference = self.layout.reference(task)
        if not reference.is_file():
            self.images(reference, 24, len(self.experiment.tasks[task].classes), "arr_1", 1)
        of_samples = digest([recipe, recipes.sample(self.experiment, task, label, seed), task, label, seed])
        value = 0.1 + int(of_samples, 16) % 1000 / 1000
        write_json(self.layout.metrics(folder), {
            "format": 1, "experiment": self.experiment.name, "task": task, "method": label, "seed": seed,
            "protocol": protocol, "protocol_hash": digest(protocol), "final_step": final,
            "steps": {str(step): {"values": {"fd_digits_200_vs_200": value + 1 - step / final, "kd_digits_200": None}}
                      for step in self.experiment.curve_steps()},
            "values": {"fd_digits_500_vs_200": value, "recall_digits_500_vs_200": 1 - value / 2},
            "parameters": {"trainable": 1000 * (1 + len(label)), "deployed": 250_000, "macs": 4_000_000},
            "memorisation": {"sample_median": 0.5, "num_samples": 500}, "judge": {"accuracy_on_real_test": 0.98},
            "provenance": PROVENANCE,
        })  # fmt: skip
        shard = self.layout.samples(folder, final, 10, 10)[0]
        return self.record(
            folder, "evaluate", recipe, [shard, reference, folder / "finetune.json"], [self.layout.metrics(folder)]
        )

    def start(self, stage: str, task: str, label: str, seed: int, rows: int = 0) -> Path:
        """What a running job shows: this process plays it."""
        state = self.layout.state(stage, task, label, seed)
        recipe = getattr(recipes, stage)(self.experiment, task, label, seed)
        folder = self.layout.run(task, label, seed)
        handed = {
            "finetune": self.upstream(task),
            "sample": [self.layout.adapted(folder, self.experiment.finetune.steps)],
        }
        about = {"recipe": recipe, "recipe_digest": recipes.recipe_digest(recipe), "provenance": PROVENANCE}
        about |= {"inputs": {path.name: sha256(path) for path in handed[stage]}, "started": time.time()}
        write_json(state / "job.json", about | {"host": socket.gethostname(), "pid": os.getpid()})
        self.write_log(state / "live.csv", 1.0 + seed, rows)
        return state

    # --- the rest ---------------------------------------------------------------------------------------------------

    def write_backbone(self, name: str) -> None:
        folder, recipe = self.layout.backbone(name), recipes.pretrain(self.experiment, name)
        write_text(self.layout.backbone_model(name), name)
        self.images(folder / "preview.npz", 28, len(self.experiment.pretrain.classes), "arr_1", 2)
        self.write_log(folder / "train.csv", 3.0)
        write_json(folder / "cost.json", {"train_seconds": 9.0, "device": "cpu"})
        outputs = [self.layout.backbone_model(name), folder / "train.csv"]
        self.record(folder, "pretrain", recipe, self.upstream(), outputs, {"deployed": 300_000})

    def write_report(self) -> None:
        """The files of a report that matter here; its numbers are made by the report's own functions."""
        experiment, report = self.experiment, self.layout.report
        runs = load_runs(self.layout.root, experiment.tasks, experiment.methods, experiment.seeds)
        write_csv(report / "metrics.csv", run_rows(experiment.name, runs))
        write_csv(report / "curves.csv", curve_rows(experiment.name, runs))
        write_text(report / "index.html", "<p>a report</p>")
        for name in ("grids/novel.png", "plots/novel_loss.png"):
            write_text(report / name, "picture")
        for name in ("summary/overview.csv", "tables/novel.csv"):
            write_csv(report / name, [{"method": "kind", "fd.mean": 0.25}, {"method": "lora", "fd.mean": None}])
        self.record(report, "report", recipes.report(experiment), [], [report / "metrics.csv", report / "index.html"])

    def upstream(self, task: str | None = None) -> list[Path]:
        path = self.layout.data("digits") / "index.npz"
        if not path.is_file():
            write_text(path, "data")
        return [path]

    def record(
        self, folder: Path, stage: str, recipe: Any, inputs: list[Path], outputs: list[Path], parameters=None
    ) -> Path:
        content = {"format": 1, "recipe": recipe, "recipe_digest": recipes.recipe_digest(recipe)}
        content |= {"inputs": {os.path.relpath(path, folder): sha256(path) for path in inputs}}
        content |= {"outputs": {os.path.relpath(path, folder): sha256(path) for path in outputs}}
        content |= {"provenance": PROVENANCE} | ({"parameters": parameters} if parameters else {})
        write_json(folder / f"{stage}.json", content)
        return folder / f"{stage}.json"

    def write_log(self, path: Path, height: float, rows: int | None = None) -> None:
        steps = range(10, 10 * (8 if rows is None else rows) + 1, 10)
        write_csv(path, [dict(zip(LOG, (step, height / step, 0.001, 0.5), strict=True)) for step in steps], LOG)

    def images(self, path: Path, count: int, classes: int, labels: str, seed: int) -> None:
        pictures = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
        save_arrays(path, **{"arr_0": pictures, labels: np.arange(count) % classes})


def client_of(folder: Path):
    """A client of the folder's own store; stores are remembered by their URI, so it is named in full."""
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
