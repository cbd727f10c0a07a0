"""Compare a run's samples with the task's reference, at each evaluated step; writes `metrics.json`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind import recipes
from kind.artifacts import digest
from kind.errors import UserError
from kind.params.messages import told_apart
from kind.stages.job import Job, read_record
from kind.stages.run_arguments import Run, add_run_arguments, read_run

EXAMPLE = "python -m kind evaluate --experiment smoke --task novel --method kind --seed 0"
if TYPE_CHECKING:
    import numpy as np

FORMAT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    this = read_run(arguments)
    context = this.context
    layout = context.layout
    shards = [path for paths in this.shards().values() for path in paths]
    Job(
        recipe=recipes.evaluate(context.experiment, *this.name),
        inputs=[
            *shards,
            context.extractor_weights(),
            layout.reference(this.task),
            layout.judge(this.task),
            layout.record(layout.reference(this.task).parent, this.task),
            *(layout.record(this.folder, stage) for stage in ("finetune", "sample")),
            *layout.data_files(context.experiment.task(this.task).data),
        ],
        outputs=[layout.metrics(this.folder)],
        record=layout.record(this.folder, "evaluate"),
        state=this.state("evaluate"),
        planned=context.planned,
        records=[layout.record(this.folder, "sample")],
    ).run(lambda: measure(this))


def measure(this: Run) -> None:
    from kind.artifacts import provenance, write_json
    from kind.devices import choose_device, prepare_torch
    from kind.evaluation.features import load_extractor
    from kind.evaluation.judge import load_judge
    from kind.evaluation.metrics import evaluate_images
    from kind.evaluation.reader import read_samples
    from kind.evaluation.reference import load_reference
    from kind.stages.images import load_images, load_shots, qualified

    context = this.context
    experiment, layout = context.experiment, context.layout
    task = experiment.task(this.task)
    finetuned = read_record(layout.record(this.folder, "finetune"), "training", "parameters")
    drawn = read_record(layout.record(this.folder, "sample"), "precision")
    described = read_record(layout.record(layout.reference(this.task).parent, this.task), "judge")
    prepare_torch(experiment.compute.threads)
    device = choose_device(experiment.compute.device, context.device_key)
    extractor = load_extractor(context.extractor_weights(), device=str(device))
    reference, judge = load_reference(layout.reference(this.task)), load_judge(layout.judge(this.task))
    check_reference(layout.reference(this.task), reference.class_names, qualified(task.data, task.classes))
    shots, test = load_shots(context, task), load_images(context, task.data, "test", task.classes)

    def compare(images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        return evaluate_images(
            images,
            labels,
            extractor=extractor,
            reference=reference,
            judge=judge,
            train_images=shots.images,
            test_images=test.images,
            batch_size=experiment.evaluation.batch_size,
        )

    curve, curve_count = {}, experiment.sampling.curve_num_samples
    for step, paths in this.shards().items():
        images, labels = read_samples(paths, reference.images.shape[1:], len(task.classes))
        final = compare(images, labels)  # the last step's is the run's result
        curve[step] = {"values": dict(final["values"])}
        if curve_count is not None and curve_count < len(images):
            # the end of the curve, from as many samples as its other points
            curve[step]["values"] |= compare(images[:curve_count], labels[:curve_count])["values"]
    protocol = recipes.protocol(experiment, this.task)
    protocol["precision"] = {"training": finetuned["training"]["precision"], "sampling": drawn["precision"]}
    protocol["reference"] |= {"extractor_sha256": extractor.identity, "num_images": reference.count}
    content = {
        "format": FORMAT,
        "experiment": experiment.name,
        "task": this.task,
        "method": this.label,
        "seed": this.seed,
        "protocol": protocol,
        "protocol_hash": digest(protocol),
        "final_step": this.steps[-1],
        "steps": {str(step): values for step, values in curve.items()},
        **final,
        "judge": described["judge"],
        "training": finetuned["training"],
        "parameters": finetuned["parameters"],
        "provenance": provenance(),
    }
    write_json(layout.metrics(this.folder), content)


def check_reference(path: Path, found: Sequence[str], wanted: Sequence[str]) -> None:
    if list(found) != list(wanted):
        there, needed = told_apart(found, wanted)
        raise UserError(
            f"{path}: a reference of the classes {there}; the task's are {needed}",
            hint="run the reference stage again, or snakemake",
        )
