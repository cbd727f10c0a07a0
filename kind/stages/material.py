"""What some jobs are given beside data and start: class embeddings, and the tailors of the pre-training classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kind.stages.context import Context
from kind.stages.run_arguments import Run

if TYPE_CHECKING:
    from torch import Tensor

    from kind.data.prepared import LabelledImages
    from kind.methods import Material


def material_files(this: Run) -> list[Path]:
    """What `load_material` reads, besides the task's data and the start."""
    experiment, layout, needs = this.context.experiment, this.context.layout, this.needs
    files = layout.material(needs, this.options.backbone, experiment.pretrain.data) if needs else []
    files += _tailor_files(this) if "seen" in needs else []
    return [*files, *(this.context.embedding_files() if "embeddings" in needs else [])]


def load_material(this: Run) -> Material | None:
    """None for a method that needs nothing more.  Classes are known by their pixels, also to a model of latents."""
    from kind.checkpoints import recombine
    from kind.methods import Material
    from kind.stages.images import load_images, load_shots

    context, given = this.context, {}
    task, pretrain = context.experiment.task(this.task), context.experiment.pretrain
    if "embeddings" in this.needs:
        given["embeddings"] = class_embeddings(context, task.data, load_shots(context, task))
    if "seen_embeddings" in this.needs:
        images = load_images(context, pretrain.data, "train", pretrain.classes)
        given["seen_embeddings"] = class_embeddings(context, pretrain.data, images)
    if "seen" in this.needs:
        given["seen"] = recombine(this.start, _tailor_files(this)).model
    return Material(**given) if given else None


def class_embeddings(context: Context, data: str, images: LabelledImages) -> Tensor:
    """Of the classes of these images, which are of a data set: what `embedding` in the params says.  [C, E]."""
    from kind.class_embeddings import file_vectors, mean_images

    embedding = context.experiment.embedding
    if embedding.path is None:
        return mean_images(images, embedding.side)
    return file_vectors(Path(embedding.path), data, images.class_names)


def _tailor_files(this: Run) -> list[Path]:
    experiment, backbone = this.context.experiment, this.options.backbone
    groups = len(experiment.backbones[backbone].groups)
    return this.context.layout.tailors(backbone, len(experiment.pretrain.classes), groups)
