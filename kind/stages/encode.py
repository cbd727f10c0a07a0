"""Encode the images of a data set by a VAE: mean and deviation of each image's latent, and of its mirror image's.

On the GPU where there is one, otherwise by four threads unless told otherwise; a killed run goes on where it was.
"""

from __future__ import annotations

import argparse

from kind import recipes
from kind.errors import UserError
from kind.stages.context import add_shared_arguments, read_context
from kind.stages.job import Job
from kind.stages.prepare import add_data_arguments, chosen_workers

THREADS = 4  # on a CPU, unless asked otherwise: each holds gigabytes (docs/data.md)
EXAMPLE = "python -m kind encode --experiment imagenet_b --data seen"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser)
    add_data_arguments(parser, "threads that encode, where there is no GPU", f"all cores, at most {THREADS}")


def run(arguments: argparse.Namespace) -> None:
    context = read_context(arguments)
    layout, name = context.layout, arguments.data
    data = context.choose("data", name)
    if data.latents is None:
        raise UserError(
            f"{context.params_path}: data.{name} has no latents: its images are trained on as pixels",
            hint=f"to encode them by a VAE, write data.{name}.latents: {{}}",
        )
    workers = chosen_workers(arguments, context, most=THREADS)
    job = Job(
        recipe=recipes.encode(context.experiment, name),
        inputs=[*layout.data_files(name), *context.vae_files(name)],
        outputs=layout.latent_files(name),
        record=layout.record(layout.data(name), "encode"),
        state=layout.state("encode", name),
        planned=context.planned,
    )

    def work() -> dict:
        from kind.data.encoding import encode
        from kind.devices import choose_device, prepare_torch
        from kind.vae import load_vae

        prepare_torch(1)
        device = choose_device(context.experiment.compute.device, context.device_key)
        vae = load_vae(data.latents.place(name), data.latents, device)
        settings = data.latent_settings()
        made = encode(layout.data(name), vae, settings, job.state / job.identity, workers, f"encode {name}")
        return {"vae": made["vae"], "device": made["device"]}

    job.run(work)
