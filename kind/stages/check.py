"""Check params files, and whether this machine has the data and weights that they need.

With --profile also what the jobs ask of the cluster, and whether MLflow's server answers where one is named.
Ends with exit code 2 and the list of what is missing; writes nothing.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from kind.cluster.preflight import TRAININGS, lacking_for_processes, lacking_on_cluster, lacking_server
from kind.cluster.profile import read_profile
from kind.data.sources import SOURCES
from kind.errors import UserError
from kind.params import Experiment
from kind.params.class_sets import class_sets
from kind.params.file import find_params, load_experiments
from kind.params.messages import some
from kind.stages.context import GET_EMBEDDINGS, add_collection_argument
from kind.weights import Place

EXAMPLE = "python -m kind check --experiment smoke"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_collection_argument(parser)
    parser.add_argument(
        "--profile", metavar="NAME", help="the profile that it is to run with; its folder lies here (slurm, local)"
    )


def run(arguments: argparse.Namespace) -> None:
    experiments = load_experiments(find_params(arguments.experiment))
    profile = None if arguments.profile is None else read_profile(arguments.profile)
    lacking = [line for experiment in experiments.values() for line in missing(experiment)]
    if profile is not None and profile.executor == "slurm":
        requests = profile.requests()
        trainings = [(rule, experiment.compute) for experiment in experiments.values() for rule in TRAININGS]
        lacking += [*profile.problems(), *lacking_for_processes(requests, trainings)]
        lacking += lacking_on_cluster(requests, profile.status_command)
        if os.environ.get("KIND_TRACKING", "on").lower() not in ("off", "false"):
            lacking += lacking_server(os.environ.get("MLFLOW_TRACKING_URI"))
    if lacking:
        listed = "\n".join(f"  - {line}" for line in dict.fromkeys(lacking))
        raise UserError(f"missing on this machine:\n{listed}")
    if profile is not None:
        print(f"{profile.path}: in order (executor {profile.executor})")
    for path, experiment in experiments.items():
        runs = sum(1 for _ in experiment.runs())
        print(f"{path}: in order ({len(experiment.tasks)} tasks, {len(experiment.methods)} methods, {runs} runs)")
        for line in classes(experiment):
            print(f"  {line}")
        for place in published_weights(experiment):
            print(f"  weights {place.weights.name}: {_origin(place)}")


def classes(experiment: Experiment) -> list[str]:
    """What each part of the experiment works on, where a source names sets of classes."""
    sets, users = class_sets(experiment), dict(experiment.class_users())
    return [f"{name}: {users[name].data}, {of_set}: {some(users[name].classes, '')}" for name, of_set in sets.items()]


def _origin(place: Place) -> str:
    if place.said_by is not None:
        return f"{place.path}, which {place.said_by} names"
    if place.problem() is None:
        return f"{place.path}, fetched"
    return f"snakemake fetches them; for a stage by hand, or a run without a network, {place.weights.ways}"


def published_weights(experiment: Experiment) -> list[Place]:
    """Where the weights lie that the experiment does not make."""
    extractor = experiment.evaluation.extractor
    vaes = [data.latents.place(name) for name, data in experiment.data.items() if data.latents]
    once = {place.path: place for place in reversed(vaes)}  # the first data set that names it
    return [*([] if extractor.type == "trained" else [extractor.place()]), *once.values()]


def missing(experiment: Experiment) -> list[str]:
    """What must be got before the experiment can run, a line each; weights that a rule fetches are not."""
    lacking: dict[str, list[str]] = {}
    for name, data in experiment.data.items():
        source = SOURCES[data.source]
        for line in source.missing(source.options.model_validate(data.options)):
            lacking.setdefault(line, []).append(name)
    lines = [f"data {', '.join(names)}: {line}" for line, names in lacking.items()]
    for place in published_weights(experiment):
        if place.said_by is not None and (problem := place.problem()):
            lines.append(f"{problem}; {place.weights.ways}")
    if (path := experiment.embedding.path) is not None and not Path(path).is_file():
        lines.append(f"embedding.path: {path} does not exist; {GET_EMBEDDINGS}")
    return lines
