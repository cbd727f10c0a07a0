"""Draw images from a backbone, class by class in turn: what the objective `diff-tuning` trains on beside the task's.

Of a backbone of latents they are latents.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from kind import recipes
from kind.spaces import PIXELS
from kind.stages.context import Context, add_shared_arguments, read_context
from kind.stages.job import Job
from kind.stages.run_arguments import Run

if TYPE_CHECKING:
    from kind.batches import Replay
    from kind.models.dit import DiTConfig

EXAMPLE = "python -m kind replay --experiment rivals --backbone dense"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser)
    parser.add_argument("--backbone", required=True, metavar="NAME", help="an entry of the params' backbones section")


def run(arguments: argparse.Namespace) -> None:
    context = read_context(arguments)
    layout, name = context.layout, arguments.backbone
    context.choose("backbones", name)
    job = Job(
        recipe=recipes.replay(context.experiment, name),
        inputs=[layout.backbone_model(name)],
        outputs=[layout.replay(name)],
        record=layout.record(layout.backbone(name), "replay"),
        state=layout.state("replay", name),
        planned=context.planned,
    )
    job.run(lambda: draw(context, name))


def draw(context: Context, name: str) -> dict:
    from kind.artifacts import save_arrays
    from kind.checkpoints import load_backbone
    from kind.random_streams import derive_seed
    from kind.sampling import balanced_labels, sample_images, sample_latents
    from kind.stages.expected import check_backbone

    experiment, path = context.experiment, context.layout.backbone_model(name)
    protocol = experiment.replay.sampling()
    device = context.ready_device()
    precision = context.precision_on(device)
    check_backbone(context, name, path)
    loaded = load_backbone(path)
    model = loaded.model.to(device)
    labels = balanced_labels(protocol.num_samples, len(loaded.classes))
    draw_them = sample_images if model.config.latents is None else sample_latents  # what training takes
    images = draw_them(
        model,
        loaded.diffusion,
        protocol,
        labels,
        derive_seed(protocol.seed, "replay"),
        null_gate=model.factorization.null_gate if model.gate is not None else "learngenes",
        precision=precision,
        label=f"replay {name}",
    )
    save_arrays(context.layout.replay(name), arr_0=images, arr_1=labels.numpy())
    return {"classes": loaded.classes, "num_images": len(images), "precision": precision}


def load_replay(this: Run, config: DiTConfig) -> Replay:
    """The images of a run's source model, as training takes them; `config` is that of the model it trains."""
    import torch

    from kind.artifacts import load_arrays
    from kind.batches import Replay
    from kind.errors import UserError

    images = load_arrays(this.replay)["arr_0"]
    wanted = (config.image_size, config.image_size, config.channels)
    if images.shape[1:] != wanted:
        raise UserError(
            f"{this.replay}: images of (height, width, channels) {images.shape[1:]}, but the model takes {wanted}",
            hint="delete it and run the stage replay again",
        )
    settings = this.context.experiment.replay
    stacked = PIXELS.arranged(torch.from_numpy(images))
    return Replay(stacked, settings.share, settings.weight)
