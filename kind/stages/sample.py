"""Draw class-balanced images from an adapted model at each evaluated step, as lossless ADM-format npz shards.

A shard holds `arr_0` (uint8 [N, H, W, C]) and `arr_1` (labels, positions in the task's classes).
"""

from __future__ import annotations

import argparse
import os

from kind import recipes
from kind.stages.job import Job
from kind.stages.run_arguments import Run, add_run_arguments, read_run

EXAMPLE = "python -m kind sample --experiment smoke --task novel --method kind --seed 0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    this = read_run(arguments)
    context = this.context
    layout, steps = context.layout, this.steps
    raw = [layout.raw_adapted(this.folder)] if context.experiment.sampling.weights == "raw" else []
    adapted = [layout.adapted(this.folder, step) for step in steps]
    job = Job(
        recipe=recipes.sample(context.experiment, *this.name),
        inputs=[
            *adapted,
            *raw,
            *([this.start] if this.start else []),
            *context.vae_files(context.experiment.task(this.task).data),
        ],
        outputs=[path for paths in this.shards().values() for path in paths],
        record=layout.record(this.folder, "sample"),
        state=this.state("sample"),
        planned=context.planned,
        records=[layout.record(this.folder, "finetune")],
    )
    job.run(lambda: draw(this, job))


def draw(this: Run, job: Job) -> dict:
    """Shards are drawn in the state folder and moved when all are there, so that a killed job keeps what it has."""
    import time

    from kind.artifacts import save_arrays
    from kind.checkpoints import load_adapted
    from kind.devices import choose_device, choose_precision, prepare_torch
    from kind.kept import is_kept, keep, release
    from kind.random_streams import derive_seed
    from kind.sampling import balanced_labels, sample_images
    from kind.stages.decoder import decoder_of
    from kind.stages.expected import check_adapted

    context = this.context
    experiment, layout = context.experiment, context.layout
    protocol, compute, steps = experiment.sampling, experiment.compute, this.steps
    task = experiment.task(this.task)
    prepare_torch(compute.threads)
    device = choose_device(compute.device, context.device_key)
    precision = choose_precision(compute.precision, device)
    for path in dict.fromkeys([*(layout.adapted(this.folder, step) for step in steps), this.final_weights]):
        check_adapted(this, path)
    waiting, drawn, started = job.state / job.identity, {}, time.monotonic()
    decode = None
    for step, paths in this.shards().items():
        weights = this.final_weights if step == steps[-1] else layout.adapted(this.folder, step)
        loaded, count = None, this.sample_counts()[step]
        labels = balanced_labels(count, len(task.classes))
        for index, path in enumerate(paths):
            kept, first = waiting / f"{step}_{path.name}", index * protocol.shard_size
            drawn[kept] = path
            if is_kept(kept):
                continue
            if loaded is None:
                loaded = load_adapted(weights, this.start)
                model = this.method.merged(loaded.model).to(device)
                decode = decode or decoder_of(context, task.data, model.config, device)
            chosen = labels[first : first + protocol.shard_size]
            images = sample_images(
                model,
                loaded.diffusion,
                protocol,
                chosen,
                derive_seed(protocol.seed, this.seed),
                first=first,
                guidance_scale=task.guidance_scale,
                null_gate=loaded.header["null_gate"],
                precision=precision,
                label=f"sample {this.task} {this.label} seed {this.seed} step {step}",
                decode=decode,
            )
            save_arrays(kept, arr_0=images, arr_1=chosen.numpy())
            keep(kept)
    for kept, path in drawn.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(kept, path)
        release(kept)
    return {
        "precision": precision,
        "num_samples": this.sample_counts()[steps[-1]],
        "seconds": round(time.monotonic() - started, 3),
    }
