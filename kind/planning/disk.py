"""How much an experiment writes, in bytes, by what it is."""

from __future__ import annotations

from kind.params import Experiment
from kind.params.match import channels_of
from kind.planning.jobs import taken_apart, used_data
from kind.planning.models import Models, side_of
from kind.planning.work import drawn_images, num_images

FLOAT, HALF = 4, 2
FEATURES = {"inception": 2048 + 2023, "dinov2": 1024}  # numbers an image
# Copies of what is trained that a killed job leaves: weights, their average, two moments, in the newest state, the one
# before it, and one that was being written.
STATE = 4 * 3


def plan_disk(experiment: Experiment, models: Models) -> dict[str, int]:
    """Bytes, without data sets of which only the data can tell (`unknown_data`).  Samples are counted uncompressed."""
    costs = {name: model.cost.parameters for name, model in models.backbones.items()}
    apart = sum(costs[name] for name in taken_apart(experiment))
    found = {
        "data": sum(_pixels(experiment, data) or 0 for data in used_data(experiment)),
        "latents": sum(_latents(experiment, models, data) or 0 for data in used_data(experiment)),
        "backbones": 2 * FLOAT * sum(costs.values()),  # averaged and raw
        "learngenes": FLOAT * apart,
        "adapters": 0,
        "samples": 0,
        "features": 0,
        "state of a killed job, at most": STATE * FLOAT * max(costs.values()),
    }
    extractor = experiment.evaluation.extractor
    length = extractor.feature_dim if extractor.type == "trained" else FEATURES[extractor.type]
    for task, label, _ in experiment.all_runs():
        model, count = models.adapted(label, task), drawn_images(experiment, task)
        learned = model.cost.parameters if model.trained is None else model.trained
        if not experiment.task(task).seen:
            learned += (model.num_classes + 1) * models.network.shape.width
        found["adapters"] += FLOAT * learned * (len(experiment.curve_steps(task)) + 1)
        found["samples"] += count * _image(experiment, experiment.task(task).data)
        found["features"] += count * length * FLOAT
    return {name: size for name, size in found.items() if size != 0}


def unknown_data(experiment: Experiment) -> list[str]:
    """Data sets of which nobody knows how many images they have before they are there."""
    return [data for data in used_data(experiment) if num_images(experiment, data) is None]


def _image(experiment: Experiment, data: str) -> int:
    """Bytes of an image as it is stored."""
    source_channels = 3 if experiment.data[data].latents is not None else channels_of(experiment.data[data])
    return side_of(experiment, data) ** 2 * source_channels


def _pixels(experiment: Experiment, data: str) -> int | None:
    count = num_images(experiment, data)
    return None if count is None else count * _image(experiment, data)


def _latents(experiment: Experiment, models: Models, data: str) -> int | None:
    """Mean and deviation, of mirrored images too."""
    if experiment.data[data].latents is None:
        return 0
    count, network = num_images(experiment, data), models.network
    each = (1 + experiment.data[data].flips) * 2 * network.channels * network.side**2
    return None if count is None else count * each * HALF
