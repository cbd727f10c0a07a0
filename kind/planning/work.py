"""What an experiment computes, stage by stage, in multiply-accumulates.

A training step is three forward passes' worth for each image of the batch: one forward, two backward.  Guidance takes
two forward passes a step of sampling.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kind.data.sources import SOURCES
from kind.params import Experiment, Training
from kind.params.protocol import Sampling
from kind.parts import feature_jobs, reference_jobs, sample_counts, sampling_jobs
from kind.planning.jobs import count_jobs, reference_rule, replayed, used_data
from kind.planning.models import Models, side_of

TRAINING = 3  # forward passes that a training step is worth, for an image
# Multiply-accumulates of an image, at the network's own size of input: about as published for Inception v3 and for a
# ViT-L/14 at 224 x 224.
FEATURES = {"inception": 5.7e9, "dinov2": 81.0e9}
# Of latent diffusion's VAE for an image of 256 x 256, counted on diffusers' AutoencoderKL; in proportion to pixels.
ENCODER, DECODER = 136.4e9, 311.1e9

Kind = tuple[str, str]  # (`train`, `draw`, `features` or `vae`; form of the model or name of the network)


@dataclass
class Work:
    """Of one rule: jobs, and what they compute by kind."""

    jobs: int
    macs: dict[Kind, float] = field(default_factory=lambda: defaultdict(float))


def plan_work(experiment: Experiment, models: Models) -> dict[str, Work]:
    """By rule; those that compute next to nothing have jobs alone."""
    work = {rule: Work(count) for rule, count in count_jobs(experiment).items()}
    for model in models.backbones.values():
        work["pretrain"].macs["train", model.form] += training_macs(experiment.pretrain, model.cost.macs)
    for name in replayed(experiment):
        model, drawn = models.backbones[name], experiment.replay.sampling()
        work["replay"].macs["draw", model.form] += drawing_macs(drawn, drawn.num_samples, model.cost.macs)
    for task, label, _ in experiment.all_runs():
        _add_run(experiment, models, work, task, label)
    _add_real_images(experiment, work)
    _add_analyses(experiment, models, work)
    return work


def _add_run(experiment: Experiment, models: Models, work: Mapping[str, Work], task: str, label: str) -> None:
    model, data, sampling = (
        models.adapted(label, task),
        experiment.task(task).data,
        sampling_of(experiment, task, label),
    )
    count = drawn_images(experiment, task)
    if not experiment.members_of(label):  # a soup only mixes
        work["finetune"].macs["train", model.form] += training_macs(experiment.training(task), model.cost.macs)
    drawing = work["sample_part" if sampling_jobs(experiment, task) > 1 else "sample"]
    drawing.macs["draw", model.form] += drawing_macs(sampling, count, model.cost.macs)
    if experiment.data[data].latents is not None:
        drawing.macs["vae", "decoder"] += count * DECODER * _share_of_pixels(experiment, data)
    extractor = experiment.evaluation.extractor.type
    extracting = work["evaluate_part" if feature_jobs(experiment, task) > 1 else "evaluate"]
    extracting.macs["features", extractor] += count * FEATURES.get(extractor, 0)


def _add_real_images(experiment: Experiment, work: Mapping[str, Work]) -> None:
    """As far as it is known without the data how many there are."""
    extractor = experiment.evaluation.extractor.type
    for name, task in experiment.tasks.items():
        count = num_images(experiment, task.data, task.classes) or 0
        rule = "reference_part" if reference_jobs(experiment, name) > 1 else reference_rule(experiment)
        work[rule].macs["features", extractor] += count * FEATURES.get(extractor, 0)
    for data in used_data(experiment):
        if experiment.data[data].latents is not None:
            flips = 1 + experiment.data[data].flips
            count = num_images(experiment, data) or 0
            work["encode"].macs["vae", "encoder"] += count * flips * ENCODER * _share_of_pixels(experiment, data)


def _add_analyses(experiment: Experiment, models: Models, work: Mapping[str, Work]) -> None:
    """What bounds and guidance draw and look at, and the images that components look at; their pictures are few."""
    sampling, asked = experiment.sampling.model_copy(update={"guidance_scale": 1.0}), experiment.analyses
    count = max(sampling.num_samples, sampling.curve_num_samples or 0)
    extractor, names = experiment.evaluation.extractor.type, experiment.starting_backbones()
    for task in experiment.tasks.values() if asked and asked.bounds else ():
        macs = work["analyse_bounds"].macs
        macs["features", extractor] += (1 + len(names)) * count * FEATURES.get(extractor, 0)
        for model in map(models.backbones.__getitem__, names):
            macs["draw", model.form] += drawing_macs(sampling, count, model.cost.macs)
            if experiment.data[task.data].latents is not None:
                macs["vae", "decoder"] += count * DECODER * _share_of_pixels(experiment, task.data)
    if asked and asked.components:
        most = len(experiment.pretrain.classes) * asked.components.images_per_class
        seen = min(most, num_images(experiment, experiment.pretrain.data, experiment.pretrain.classes) or most)
        work["analyse_components"].macs["features", extractor] += seen * FEATURES.get(extractor, 0)
    if asked and asked.guidance:
        _add_guidance(experiment, models, work["analyse_guidance"], asked.guidance.scales)


def _add_guidance(experiment: Experiment, models: Models, work: Work, scales: Sequence[float]) -> None:
    """One trial of each tuned method on each tuning task, at each scale."""
    count, extractor = experiment.sampling.num_samples, experiment.evaluation.extractor.type
    for name, task in experiment.tune.tasks.items():
        for model in (models.adapted(label, name) for label in experiment.tuned()):
            for scale in scales:
                sampling = experiment.sampling.model_copy(update={"guidance_scale": scale})
                work.macs["draw", model.form] += drawing_macs(sampling, count, model.cost.macs)
                work.macs["features", extractor] += count * FEATURES.get(extractor, 0)
                if experiment.data[task.data].latents is not None:
                    work.macs["vae", "decoder"] += count * DECODER * _share_of_pixels(experiment, task.data)


def training_macs(settings: Training, macs: int) -> int:
    return settings.steps * settings.batch_size * TRAINING * macs


def drawing_macs(sampling: Sampling, count: int, macs: int) -> int:
    """Of `count` images."""
    return count * sampling.num_inference_steps * (1 if sampling.guidance_scale == 1 else 2) * macs


def sampling_of(experiment: Experiment, task: str, label: str) -> Sampling:
    """With the guidance of a methods entry there."""
    return experiment.sampling.model_copy(update={"guidance_scale": experiment.guidance_scale(label, task)})


def drawn_images(experiment: Experiment, task: str) -> int:
    """At all steps of a run's curve."""
    return sum(sample_counts(experiment, task).values())


def num_images(experiment: Experiment, data: str, classes: Sequence[str] | None = None) -> int | None:
    """Of a data set's classes, all by default; the most that there may be where the options set a limit alone; None
    where only the data can tell."""
    source = SOURCES[experiment.data[data].source]
    options = source.options.model_validate(experiment.data[data].options)
    classes = source.class_names(options) if classes is None else classes
    counts, limit = source.class_counts(options), getattr(options, "images_per_class", None)
    if classes is None or (counts is None and limit is None):
        return None
    return sum(limit if counts is None else counts[name] for name in classes)


def _share_of_pixels(experiment: Experiment, data: str) -> float:
    """Of an image, of those of 256 x 256."""
    return (side_of(experiment, data) / 256) ** 2
