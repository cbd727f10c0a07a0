"""The images that stages work on, by task and split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kind.data.latents import load_latents
from kind.data.prepared import LabelledImages, load_split
from kind.data.splits import select_shots
from kind.errors import UserError
from kind.params import Task
from kind.params.messages import some
from kind.random_streams import derive_seed
from kind.spaces import Pixels
from kind.stages.context import Context

if TYPE_CHECKING:
    import torch

Loader = Callable[..., LabelledImages]  # of `load_images` and `load_seen`


def load_images(context: Context, data: str, split: str, classes: Sequence[str] | None = None) -> LabelledImages:
    """Images of a split of a data set, `split` one of train, validation, test and all; unread until they are used."""
    return load_split(context.layout.data(data), split, classes)


def load_seen(context: Context, data: str, split: str, classes: Sequence[str] | None = None) -> LabelledImages:
    """The same as models see them: latents where the data set has them, mirrored at random where its params say so."""
    given = context.experiment.data[data]
    if given.latents is not None:
        return load_latents(context.layout.data(data), split, classes, given.latent_settings())
    return replace(load_images(context, data, split, classes), space=Pixels(given.flips))


def load_shots(context: Context, task: Task, load: Loader = load_images) -> LabelledImages:
    """The training images that a task may use: at most `images_per_class` of each class."""
    images = load(context, task.data, "train", task.classes)
    return images.take(select_shots(images.labels, task.classes, task.images_per_class, task.seed))


def held_out_tensors(context: Context, task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """A task's validation images, uint8 [N, C, H, W] or latents, and their labels [N], for losses of what was not
    trained on."""
    import torch

    found = load_seen(context, task.data, "validation", task.classes)
    return found.space.held_out(found.space.arranged(torch.from_numpy(found.images))), torch.from_numpy(found.labels)


def reference_images(context: Context, name: str) -> LabelledImages:
    """The protocol's reference set of a task, cut to `num_reference` class-balanced images where it says so."""
    evaluation, task = context.experiment.evaluation, context.experiment.task(name)
    split, count = context.experiment.reference_set(name)
    images = load_images(context, task.data, split, task.classes)
    if count is None:
        return images
    if count > len(images):
        raise UserError(
            f"evaluation.num_reference: {count} asked, but the {split} images of {task.data} hold "
            f"{len(images)} of the classes {some(task.classes, '')}",
            hint="lower num_reference, or enlarge the split",
        )
    return images.take(_balanced(images.labels, count, evaluation.reference_seed))


def _balanced(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Ascending indices of `count` images, classes as equal as their sizes allow, seeded."""
    order = np.random.Generator(np.random.PCG64(derive_seed(seed, "reference"))).permutation(len(labels))
    rank_in_class = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank_in_class[members] = np.arange(len(members))
    by_rank = sorted(order, key=lambda index: rank_in_class[index])  # stable: every class's first, then second, ...
    return np.sort(np.array(by_rank[:count]))


def images_of_all_tasks(context: Context, split: str) -> LabelledImages:
    """Images of every (data set, class) of any task, each once; classes are named `data/class`."""
    images, labels, names = [], [], []
    for data in context.task_data():
        used = dict.fromkeys(
            name for task in context.experiment.all_tasks().values() if task.data == data for name in task.classes
        )
        part = load_images(context, data, split, list(used))
        images.append(part.images)
        labels.append(part.labels + len(names))
        names += qualified(data, used)
    if len({part.shape[1:] for part in images}) > 1:
        shapes = ", ".join(f"{data} {part.shape[1:]}" for data, part in zip(context.task_data(), images, strict=True))
        raise UserError(f"one extractor needs images of one shape (height, width, channels); found {shapes}")
    return LabelledImages(np.concatenate(images), np.concatenate(labels), tuple(names))


def qualified(data: str, names: Sequence[str]) -> list[str]:
    """`data/class`: two data sets may use one class name for different things."""
    return [f"{data}/{name}" for name in names]
