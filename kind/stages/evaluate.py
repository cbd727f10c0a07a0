"""Compare a run's samples with the task's reference, at each evaluated step; writes `metrics.json`.

Or compare any images with any others, without an experiment: give SAMPLES and REFERENCE, each an npz file of images or
of statistics in ADM's format, a folder of npz shards, or a folder of image files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind import recipes
from kind.artifacts import digest
from kind.errors import UserError
from kind.parts import Part, feature_jobs, finished_parts
from kind.stages.job import Job, read_record
from kind.stages.measure_files import IMAGES, add_measuring_arguments, measuring_options_given, positive_number
from kind.stages.run_arguments import Run, add_part_argument, add_run_arguments, read_run
from kind.stages.ways import works_on_files
from kind.stages.yardstick import read_yardstick, yardstick_files

EXAMPLE = """python -m kind evaluate --experiment smoke --task novel --method kind --seed 0
  python -m kind evaluate samples.npz VIRTUAL_imagenet256_labeled.npz --output metrics.json"""
if TYPE_CHECKING:
    from kind.evaluation.image_sets import ImageSet

FORMAT = 1
AGAIN = "delete it and run the sample stage again, or snakemake"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("samples", nargs="?", type=Path, metavar="SAMPLES", help=f"images: {IMAGES}; or statistics")
    parser.add_argument("reference", nargs="?", type=Path, metavar="REFERENCE", help="the same of real images")
    group = add_measuring_arguments(parser)
    group.add_argument("--num-samples", type=positive_number, metavar="N", help="take the first N samples alone")
    group.add_argument("--output", type=Path, metavar="FILE", help="JSON (default: SAMPLES.metrics.json, beside them)")
    add_run_arguments(parser, required=False)
    add_part_argument(parser, "extract features of a part of the samples alone")


def run(arguments: argparse.Namespace) -> None:
    with_files = works_on_files(
        "evaluate",
        {"SAMPLES": arguments.samples, "REFERENCE": arguments.reference},
        {f"--{name}": getattr(arguments, name) for name in ("experiment", "task", "method", "seed")},
        files="images",
        file_options=measuring_options_given(arguments) or bool(arguments.num_samples or arguments.output),
        stage_options=arguments.recipe is not None or arguments.part is not None,
        example=EXAMPLE.splitlines()[1].strip(),
    )
    if with_files:
        from kind.stages.evaluate_files import evaluate_files

        evaluate_files(arguments)
        return
    if arguments.part is not None:
        extract_part(read_run(arguments), arguments.part)
    else:
        evaluate_run(read_run(arguments))


def extract_part(this: Run, part: Part) -> None:
    """Features into the cache, where `measure_images` finds them, and a record that says they are there."""
    context = this.context
    layout = context.layout
    Job(
        recipe=recipes.evaluate(context.experiment, *this.name),
        inputs=[
            *(path for paths in this.shards().values() for path in paths),
            *context.extractor_files(),
            layout.record(this.folder, "sample"),
        ],
        outputs=[],
        record=layout.part("evaluate", *this.name, part=part.number, parts=part.of),
        state=part.state(this.state("evaluate")),
        planned=context.planned,
        records=[layout.record(this.folder, "sample")],
    ).run(lambda: extract(this, part))


def extract(this: Run, part: Part) -> dict[str, Any]:
    from kind.evaluation.feature_sets import blocks_of, keep_features
    from kind.evaluation.features import load_extractor
    from kind.evaluation.image_npz import from_npz

    context = this.context
    experiment, size = context.experiment, context.experiment.evaluation.batch_size
    device = context.ready_device()
    extractor = load_extractor(context.extractor_weights(), device=str(device))
    sets = [from_npz(paths, hint=AGAIN) for paths in this.shards().values()]
    blocks = [block for images in sets for block in blocks_of(images, size)]
    if (fewer := experiment.sampling.curve_num_samples) is not None:  # the end of the curve
        blocks += blocks_of(sets[-1], size, first=fewer)
    label = f"features of {this.task} {this.label} seed {this.seed}, part {part.number} of {part.of}"
    return {"num_images": keep_features(part.take(blocks), extractor, size, context.layout.features, label)}


def evaluate_run(this: Run) -> None:
    context = this.context
    layout = context.layout
    shards = [path for paths in this.shards().values() for path in paths]
    job = Job(
        recipe=recipes.evaluate(context.experiment, *this.name),
        inputs=[
            *shards,
            *yardstick_files(context, this.task),
            *(layout.record(this.folder, stage) for stage in ("finetune", "sample")),
            *layout.data_files(context.experiment.task(this.task).data),
        ],
        outputs=[layout.metrics(this.folder)],
        record=layout.record(this.folder, "evaluate"),
        state=this.state("evaluate"),
        planned=context.planned,
        records=[layout.record(this.folder, "sample")],
    )
    job.run(lambda: measure(this, job.digest))


def measure(this: Run, recipe: str) -> dict[str, Any]:
    asked = feature_jobs(this.context.experiment, this.task)
    jobs = finished_parts(this.context.layout.part("evaluate", *this.name), asked, recipe)
    write_metrics(this)
    return {"jobs": jobs} if jobs > 1 else {}


def write_metrics(this: Run) -> None:
    from kind.artifacts import provenance, write_json
    from kind.evaluation.image_npz import from_npz

    context = this.context
    experiment, layout = context.experiment, context.layout
    task = experiment.task(this.task)
    finetuned = read_record(layout.record(this.folder, "finetune"), "training", "parameters")
    drawn = read_record(layout.record(this.folder, "sample"), "precision")
    judged = ["judge"] if experiment.is_judged else []
    described = read_record(layout.record(layout.reference(this.task).parent, this.task), *judged)
    yardstick = read_yardstick(context, this.task, copies=experiment.looks_for_copies)

    def compare(images: ImageSet) -> dict[str, Any]:
        return yardstick.measure(images, f"{this.task} {this.label} seed {this.seed}")

    shards, shape = this.shards(), from_npz([layout.reference(this.task)]).shape
    for path in (path for paths in shards.values() for path in paths):  # one by one, so that the wrong one is named
        check_samples(from_npz([path], hint=AGAIN), shape, len(task.classes))
    curve, curve_count = {}, experiment.sampling.curve_num_samples
    for step, paths in shards.items():
        images = from_npz(paths, hint=AGAIN)
        final = compare(images)  # the last step's is the run's result
        curve[step] = point(final)
        if curve_count is not None and curve_count < images.count:
            # the end of the curve, from as many samples as its other points
            fewer = point(compare(images.first(curve_count)))
            curve[step] = {
                "values": curve[step]["values"] | fewer["values"],
                "intervals": curve[step]["intervals"] | fewer["intervals"],
                "indicative": [*curve[step]["indicative"], *fewer["indicative"]],
            }
    protocol = recipes.protocol(experiment, this.task)
    protocol["precision"] = {"training": finetuned["training"]["precision"], "sampling": drawn["precision"]}
    protocol["reference"] |= {
        "extractor_sha256": yardstick.extractor.identity,
        "num_images": yardstick.reference.count,
    }
    content = {
        "format": FORMAT,
        "experiment": experiment.name,
        "task": this.task,
        "method": this.label,
        "seed": this.seed,
        "protocol": protocol,
        "protocol_hash": digest(protocol),
        "final_step": this.steps[-1],
        **({} if (scale := experiment.own_guidance(this.label)) is None else {"guidance_scale": scale}),
        "steps": {str(step): values for step, values in curve.items()},
        **final,
        **{key: described[key] for key in judged},
        "training": finetuned["training"],
        "parameters": finetuned["parameters"],
        "provenance": provenance(),
    }
    write_json(layout.metrics(this.folder), content)


def point(found: dict[str, Any]) -> dict[str, Any]:
    """What a point of a curve has."""
    return {key: found[key] for key in ("values", "intervals", "indicative")}


def check_samples(images: ImageSet, shape: Sequence[int], num_classes: int) -> None:
    """Raises UserError unless samples have the reference's shape and labels of the task's classes."""
    images.check_shape(shape, "the reference's", AGAIN)
    labels = images.labels
    if labels is None:
        raise UserError(f"{images.name}: has no array arr_1: samples of a run have labels", hint=AGAIN)
    if not 0 <= labels.min() <= labels.max() < num_classes:
        raise UserError(
            f"{images.name}: labels from {labels.min()} to {labels.max()}, but the task has {num_classes} classes, 0 "
            f"to {num_classes - 1}",
            hint=AGAIN,
        )
