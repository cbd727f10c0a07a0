"""Features and statistics of a task's reference images, and the judge that plays no other part."""

from __future__ import annotations

import argparse

from kind import recipes
from kind.stages.context import Context, add_shared_arguments, read_context
from kind.stages.job import Job

EXAMPLE = "python -m kind reference --experiment smoke --task novel"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser)
    parser.add_argument("--task", required=True, metavar="NAME", help="an entry of the params' tasks section")


def run(arguments: argparse.Namespace) -> None:
    context = read_context(arguments)
    layout, name = context.layout, arguments.task
    task = context.choose_task(name)
    Job(
        recipe=recipes.reference(context.experiment, name),
        inputs=[*context.extractor_files(), *layout.data_files(task.data)],
        outputs=[layout.reference(name), layout.judge(name)],
        record=layout.record(layout.reference(name).parent, name),
        state=layout.state("reference", name),
        planned=context.planned,
    ).run(lambda: build(context, name))


def build(context: Context, name: str) -> dict:
    from kind.devices import choose_device, prepare_torch
    from kind.evaluation.features import load_extractor
    from kind.evaluation.judge import fit_judge, save_judge
    from kind.evaluation.reference import build_reference, save_reference
    from kind.stages.images import load_images, qualified, reference_images

    experiment, layout = context.experiment, context.layout
    task = experiment.task(name)
    prepare_torch(experiment.compute.threads)
    device = str(choose_device(experiment.compute.device, context.device_key))
    extractor = load_extractor(context.extractor_weights(), device=device)
    real = reference_images(context, name)
    names = qualified(task.data, real.class_names)
    reference = build_reference(real.images, real.labels, names, extractor, experiment.evaluation.batch_size)
    save_reference(layout.reference(name), reference, recipes.reference(experiment, name)["protocol"])

    # The judge chooses among all classes of the data set, not only the task's.
    training, test = (load_images(context, task.data, split) for split in ("train", "test"))
    judge = fit_judge(training.images, training.labels, qualified(task.data, training.class_names))
    save_judge(layout.judge(name), judge)
    accuracy = judge.accuracy(test.images, test.labels)
    return {"num_reference": reference.count, "judge": {"accuracy_on_real_test": accuracy, "num_test": len(test)}}
