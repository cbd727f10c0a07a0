"""Train the experiment's feature network on the training images of all its tasks.

Its features stand where Inception's do in FID; its hash is part of the protocol.
"""

from __future__ import annotations

import argparse

from kind import recipes
from kind.errors import UserError
from kind.stages.context import Context, add_shared_arguments, read_context
from kind.stages.job import Job

EXAMPLE = "python -m kind extractor --experiment smoke"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    context = read_context(arguments)
    layout = context.layout
    extractor = context.experiment.evaluation.extractor
    if extractor.type != "trained":
        raise UserError(
            f"{context.params_path}: evaluation.extractor is of type {extractor.type}: its weights are given, none are "
            "trained"
        )
    Job(
        recipe=recipes.extractor(context.experiment),
        inputs=[path for name in context.task_data() for path in layout.data_files(name)],
        outputs=[layout.extractor],
        record=layout.record(layout.extractor.parent, "extractor"),
        state=layout.state("extractor"),
        planned=context.planned,
    ).run(lambda: train(context))


def train(context: Context) -> dict:
    from kind.devices import prepare_torch
    from kind.evaluation.small_extractor import save_extractor, train_extractor
    from kind.stages.images import images_of_all_tasks

    settings = context.experiment.evaluation.extractor
    prepare_torch(context.experiment.compute.threads, context.experiment.compute.deterministic)
    training, validation = (images_of_all_tasks(context, split) for split in ("train", "validation"))
    network, record = train_extractor(
        training.images,
        training.labels,
        training.class_names,
        validation_images=validation.images,
        validation_labels=validation.labels,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        feature_dim=settings.feature_dim,
        seed=settings.seed,
    )
    save_extractor(context.layout.extractor, network, {"name": settings.name, "record": record})
    return {"training": record}
