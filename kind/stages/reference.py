"""Features and statistics of a task's reference images, and the judge (where there is one) that plays no other part.

Or statistics of any images in ADM's format, without an experiment: give IMAGES and --output.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind import recipes
from kind.parts import Part, finished_parts, reference_jobs
from kind.stages.context import Context, add_shared_arguments, read_context
from kind.stages.job import Job
from kind.stages.measure_files import IMAGES, add_measuring_arguments, measuring_options_given, positive_number
from kind.stages.run_arguments import add_part_argument
from kind.stages.ways import works_on_files

if TYPE_CHECKING:
    from kind.evaluation.features import Extractor
    from kind.evaluation.image_sets import ImageSet

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
    add_part_argument(parser, "extract features of a part of the images alone")


def run(arguments: argparse.Namespace) -> None:
    own_options = (arguments.set, arguments.num_images, arguments.num_vectors)
    with_files = works_on_files(
        "reference",
        {"IMAGES": arguments.images, "--output": arguments.output},
        {"--experiment": arguments.experiment, "--task": arguments.task},
        files="images",
        file_options=measuring_options_given(arguments) or any(own_options),
        stage_options=arguments.recipe is not None or arguments.part is not None,
        example=EXAMPLE.splitlines()[1].strip(),
    )
    if with_files:
        from kind.stages.reference_files import reference_files

        reference_files(arguments)
        return
    context, part = read_context(arguments), arguments.part
    layout, name = context.layout, arguments.task
    task = context.choose_task(name)
    whole = Job(
        recipe=recipes.reference(context.experiment, name),
        inputs=[*context.extractor_files(), *layout.data_files(task.data)],
        outputs=[layout.reference(name), *([layout.judge(name)] if context.experiment.is_judged else [])],
        record=layout.record(layout.reference(name).parent, name),
        state=layout.state("reference", name),
        planned=context.planned,
    )
    if part is None:
        whole.run(lambda: build(context, name, whole.digest))
        return
    record = layout.part("reference", name, part=part.number, parts=part.of)
    replace(whole, outputs=[], record=record, state=part.state(whole.state)).run(lambda: extract(context, name, part))


def extract(context: Context, name: str, part: Part) -> dict[str, Any]:
    """Features of a part of the images into the cache, where `measure_images` finds them."""
    from kind.evaluation.feature_sets import blocks_of, keep_features

    images, extractor = images_and_extractor(context, name)
    size = context.experiment.evaluation.batch_size
    blocks = part.take(blocks_of(images, size))
    label = f"features of {images.name}, part {part.number} of {part.of}"
    return {"num_images": keep_features(blocks, extractor, size, context.layout.features, label)}


def images_and_extractor(context: Context, name: str) -> tuple[ImageSet, Extractor]:
    from kind.evaluation.features import load_extractor
    from kind.evaluation.image_sets import from_arrays
    from kind.stages.images import qualified, reference_images

    experiment = context.experiment
    task = experiment.task(name)
    device = str(context.ready_device())
    extractor = load_extractor(context.extractor_weights(), device=device)
    real = reference_images(context, name)
    names = qualified(task.data, real.class_names)
    return from_arrays(real.rows, real.labels, names, f"reference images of {name}"), extractor


def build(context: Context, name: str, recipe: str) -> dict:
    from kind.evaluation.feature_sets import measure_images
    from kind.evaluation.judge import fit_judge, save_judge
    from kind.evaluation.reference import NUM_IMAGES, NUM_VECTORS, save_reference
    from kind.stages.copies import check_copies
    from kind.stages.images import load_images, qualified

    experiment, layout = context.experiment, context.layout
    task = experiment.task(name)
    copies = check_copies(context, [name])
    jobs = finished_parts(layout.part("reference", name), reference_jobs(experiment, name), recipe)
    images, extractor = images_and_extractor(context, name)
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

    told = {"num_reference": reference.count, **copies} | ({"jobs": jobs} if jobs > 1 else {})
    if not experiment.is_judged:
        return told
    # The judge chooses among all classes of the data set, not only the task's.
    training, test = (load_images(context, task.data, split) for split in ("train", "test"))
    judge = fit_judge(training.images, training.labels, qualified(task.data, training.class_names))
    save_judge(layout.judge(name), judge)
    accuracy = judge.accuracy(test.images, test.labels)
    return told | {"judge": {"accuracy_on_real_test": accuracy, "num_test": len(test)}}
