"""The arguments that all stages share, turned into the experiment and its layout."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind.errors import UserError
from kind.layout import Layout
from kind.params import Experiment
from kind.params.file import find_params, load_experiment
from kind.params.messages import nearest
from kind.stopping import end_of_job
from kind.weights import Place
from kind.weights_lock import check_known

if TYPE_CHECKING:
    import torch

GET_EMBEDDINGS = "put a file of one vector a class there, or leave it out: classes' mean images are taken then"


@dataclass(frozen=True)
class Context:
    experiment: Experiment
    layout: Layout
    params_path: Path
    planned: str | None
    ends: float | None = None  # of the job's wall time, seconds since the epoch

    def choose(self, section: str, name: str) -> Any:
        """An entry of a params section; raises UserError naming those that there are."""
        entries = getattr(self.experiment, section)
        if name not in entries:
            raise UserError(
                f"{self.params_path}: {section} has no {name!r}{nearest(name, entries)}; it has {', '.join(entries)}"
            )
        return entries[name]

    def choose_backbone(self, name: str, form: str) -> Any:
        """A backbone of this form, and without a soft gate; raises UserError naming those that there are."""
        backbone = self.choose("backbones", name)
        if backbone.given_to != form:
            fitting = [other for other, entry in self.experiment.backbones.items() if entry.given_to == form]
            why = f"is of form {backbone.form}, which has no learngenes"
            if backbone.given_to == "soft":
                why = "has a soft gate, behind which no class owns tailors"
            raise UserError(
                f"{self.params_path}: backbones.{name} {why}",
                hint=f"backbones of form {form}: {', '.join(fitting) or 'none'}",
            )
        return backbone

    def choose_task(self, name: str) -> Any:
        """A task of the tables, or one that learning rates are chosen on."""
        if self.experiment.tune and name in self.experiment.tune.tasks:
            return self.experiment.task(name)
        return self.choose("tasks", name)

    def choose_seed(self, seed: int) -> int:
        """A seed of the experiment: another one would leave a run that no table reads."""
        seeds = self.experiment.seeds
        if seed not in seeds:
            raise UserError(
                f"{self.params_path}: seeds has no {seed}; it has {', '.join(map(str, seeds))}",
                hint="add it to `seeds` to run it",
            )
        return seed

    def task_data(self) -> list[str]:
        """Names of the data sets that tasks use, each once."""
        return list(dict.fromkeys(task.data for task in self.experiment.all_tasks().values()))

    def ready_device(self) -> torch.device:
        """What its jobs run on, with torch set up for it; raises UserError where there is no such device."""
        from kind.devices import choose_device, prepare_torch

        compute = self.experiment.compute
        prepare_torch(compute.threads, compute.deterministic)
        return choose_device(compute.device, self.device_key)

    def precision_on(self, device: torch.device) -> str:
        """That of `compute.precision`, as this device has it; raises UserError where it has not."""
        from kind.devices import choose_precision

        return choose_precision(self.experiment.compute.precision, device)

    @property
    def device_key(self) -> str:
        """Where the params say what a job runs on."""
        return f"{self.params_path}: compute.device"

    def embedding_files(self) -> list[Path]:
        """The file of class embeddings that the params name, if they do; raises UserError where it is not there."""
        named = self.experiment.embedding.path
        if named is not None and not Path(named).is_file():
            raise UserError(f"{self.params_path}: embedding.path: {named} does not exist", hint=GET_EMBEDDINGS)
        return [] if named is None else [Path(named)]

    def vae_files(self, data: str) -> list[Path]:
        """The VAE of a data set's latents, none for pixels; raises UserError where it is not there."""
        latents = self.experiment.data[data].latents
        return [] if latents is None else self._published(latents.place(data))

    def extractor_weights(self) -> Path:
        """What the extractor is loaded from, a file or a folder."""
        extractor = self.experiment.evaluation.extractor
        return self.layout.extractor if extractor.type == "trained" else extractor.place().path

    def extractor_files(self) -> list[Path]:
        """The same, file by file; raises UserError where weights that others published are not there."""
        extractor = self.experiment.evaluation.extractor
        return [self.layout.extractor] if extractor.type == "trained" else self._published(extractor.place())

    def _published(self, place: Place) -> list[Path]:
        if problem := place.problem():
            raise UserError(f"{self.params_path}: {problem}", hint=place.weights.ways)
        check_known(place)
        return place.files


def add_shared_arguments(parser: argparse.ArgumentParser, *, required: bool = True, recipe: bool = True) -> None:
    parser.add_argument(
        "--experiment", required=required, metavar="NAME", help="params/NAME.yaml, or the path of a params file"
    )
    parser.add_argument(
        "--results", default="results", metavar="FOLDER", help="results lie in FOLDER/NAME (default: %(default)s)"
    )
    if recipe:
        parser.add_argument(
            "--recipe",
            metavar="DIGEST",
            help="what was planned; refuse to run if the params have changed since",
        )


def add_collection_argument(parser: argparse.ArgumentParser) -> None:
    """Of stages that work on several experiments, too."""
    parser.add_argument(
        "--experiment",
        required=True,
        metavar="NAME",
        help="params/NAME.yaml, or the path of a params file; a collection such as `paper` too",
    )


def add_collection_arguments(parser: argparse.ArgumentParser) -> None:
    """The same, with where results lie."""
    add_collection_argument(parser)
    parser.add_argument(
        "--results", default="results", metavar="FOLDER", help="results lie in FOLDER/NAME (default: %(default)s)"
    )


def add_time_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--minutes",
        type=float,
        default=0,
        metavar="M",
        help="wall time of the job: stop shortly before it ends, keep what is done, end with exit code 75 (default: 0, "
        "no limit)",
    )


def read_context(arguments: argparse.Namespace) -> Context:
    path = find_params(arguments.experiment)
    experiment = load_experiment(path)
    for library in ("OMP", "OPENBLAS", "MKL"):  # read when numpy and torch are imported, which is later
        os.environ[f"{library}_NUM_THREADS"] = str(experiment.compute.threads)
    return Context(
        experiment,
        Layout(Path(arguments.results) / experiment.name),
        path,
        planned=getattr(arguments, "recipe", None),
        ends=end_of_job(getattr(arguments, "minutes", 0)),
    )
