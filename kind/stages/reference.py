"""Features and statistics of a task's reference images, and the judge (where there is one) that plays no other part.

Or statistics of any images in ADM's format, without an experiment: give IMAGES and --output.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kind import recipes
from kind.stages.context import Context, add_shared_arguments, read_context
from kind.stages.job import Job
from kind.stages.measure_files import IMAGES, add_measuring_arguments, measuring_options_given, positive_number
from kind.stages.ways import works_on_files

EXAMPLE = """python -m kind reference --experiment smoke --task novel
  python -m kind reference train/ --size 256 --set train --output reference.npz"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="?", type=Path, metavar="IMAGES", help=IMAGES)
    group = add_measuring_arguments(parser)
    group.add_argument("--output", type=Path, metavar="FILE", help="the npz file to write")
    group.add_argument(
        "--set", choices=("train", "validation", "test", "all"), help="which images these are, for the record"
    )
    group.add_argument(
        "--num-images", type=positive_number, metavar="N", help="images kept in the file (default: 10000)"
    )
    group.add_argument("--num-vectors", type=positive_number, metavar="N", help="features kept in it (default: 50000)")
    add_shared_arguments(parser, required=False)
    parser.add_argument("--task", metavar="NAME", help="an entry of the params' tasks section")


def run(arguments: argparse.Namespace) -> None:
    own_options = (arguments.set, arguments.num_images, arguments.num_vectors)
    with_files = works_on_files(
        "reference",
        {"IMAGES": arguments.images, "--output": arguments.output},
        {"--experiment": arguments.experiment, "--task": arguments.task},
        files="images",
        file_options=measuring_options_given(arguments) or any(own_options),
        stage_options=arguments.recipe is not None,
        example=EXAMPLE.splitlines()[1].strip(),
    )
    if with_files:
        from kind.stages.reference_files import reference_files

        reference_files(arguments)
        return
    context = read_context(arguments)
    layout, name = context.layout, arguments.task
    task = context.choose_task(name)
    Job(
        recipe=recipes.reference(context.experiment, name),
        inputs=[*context.extractor_files(), *layout.data_files(task.data)],
        outputs=[layout.reference(name), *([layout.judge(name)] if context.experiment.is_judged else [])],
        record=layout.record(layout.reference(name).parent, name),
        state=layout.state("reference", name),
        planned=context.planned,
    ).run(lambda: build(context, name))


def build(context: Context, name: str) -> dict:
    from kind.devices import choose_device, prepare_torch
    from kind.evaluation.feature_sets import measure_images
    from kind.evaluation.features import load_extractor
    from kind.evaluation.image_sets import from_arrays
    from kind.evaluation.judge import fit_judge, save_judge
    from kind.evaluation.reference import NUM_IMAGES, NUM_VECTORS, save_reference
    from kind.stages.images import load_images, qualified, reference_images

    experiment, layout = context.experiment, context.layout
    task = experiment.task(name)
    prepare_torch(experiment.compute.threads, experiment.compute.deterministic)
    device = str(choose_device(experiment.compute.device, context.device_key))
    extractor = load_extractor(context.extractor_weights(), device=device)
    real = reference_images(context, name)
    images = from_arrays(real.rows, real.labels, qualified(task.data, real.class_names), f"reference images of {name}")
    reference = measure_images(
        images,
        extractor,
        experiment.evaluation.batch_size,
        cache=layout.features,
        num_vectors=NUM_VECTORS,
        num_images=NUM_IMAGES,
        quiet=False,
    )
    protocol = recipes.reference(experiment, name)["protocol"] | {"image_shape": list(images.shape)}
    save_reference(layout.reference(name), reference, protocol)

    if not experiment.is_judged:
        return {"num_reference": reference.count}
    # The judge chooses among all classes of the data set, not only the task's.
    training, test = (load_images(context, task.data, split) for split in ("train", "test"))
    judge = fit_judge(training.images, training.labels, qualified(task.data, training.class_names))
    save_judge(layout.judge(name), judge)
    accuracy = judge.accuracy(test.images, test.labels)
    return {"num_reference": reference.count, "judge": {"accuracy_on_real_test": accuracy, "num_test": len(test)}}
