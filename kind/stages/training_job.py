"""What pretrain and finetune share: device and precision, the run through the training loop, the files it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kind import distributed, processes
from kind.adaptation import learned_tensors
from kind.artifacts import digest, write_csv, write_sealed_json
from kind.data.prepared import LabelledImages, StoredImages
from kind.diffusion import Diffusion
from kind.divergence import Diverged
from kind.errors import UserError
from kind.models.dit import DiT, DiTConfig
from kind.params import Training
from kind.read_ahead import RESIDENT_BYTES
from kind.spaces import Latents
from kind.stages.context import Context
from kind.training import LOG_COLUMNS, Outcome, Plan, train


def fresh_config(context: Context, data: LabelledImages, num_classes: int) -> DiTConfig:
    """The params' model, for images of this data set."""
    shape = context.experiment.model.shape()
    height, width, channels = data.shape
    if height != width or height % shape.patch_size:
        what = "pixels" if latents_of(data) is None else "latents"
        raise UserError(
            f"images of {height} x {width} {what} do not fit patches of {shape.patch_size}: the model needs square "
            "images whose side is a multiple of model.patch_size"
        )
    learned = context.experiment.diffusion.learned_variance
    return DiTConfig(
        *shape,
        image_size=height,
        channels=channels,
        num_classes=num_classes,
        learned_variance=learned,
        latents=latents_of(data),
    )


def latents_of(data: LabelledImages) -> Latents | None:
    """Whose they are; None for pixels."""
    return data.space if isinstance(data.space, Latents) else None


def check_images(data: LabelledImages, config: DiTConfig, where: str) -> None:
    """Raises UserError for images of another size than the model was built for."""
    wanted = (config.image_size, config.image_size, config.channels)
    if data.shape != wanted:
        raise UserError(
            f"{where}: images of (height, width, channels) {data.shape}, but the backbone takes {wanted}",
            hint="give the task's data set images of the size that the backbone was pre-trained with",
        )
    if latents_of(data) != config.latents:
        spaces = ["pixels" if one is None else f"{one}" for one in (latents_of(data), config.latents)]
        raise UserError(
            f"{where}: images as {spaces[0]}, but the backbone was trained on {spaces[1]}",
            hint="encode both data sets by one VAE with one scale, then run the stages pretrain and extract again",
        )


def run_training(
    context: Context,
    model: DiT,
    data: LabelledImages,
    diffusion: Diffusion,
    settings: Training,
    *,
    learning_rate: float,
    seed: int,
    recipe: str,
    null_gate: str,
    snapshot_steps: tuple[int, ...],
    state: Path,
    label: str,
    **of_method: Any,
) -> Outcome:
    """of_method: what a method adds to the plan: `routine`, `rate_scales`."""
    compute = context.experiment.compute
    device = context.ready_device()
    precision = context.precision_on(device)
    if settings.batch_size < processes.world():
        raise UserError(
            f"{label}: batches of {settings.batch_size} images for {processes.world()} processes",
            hint="start at most as many as a batch has images",
        )
    plan = Plan(
        settings=settings,
        diffusion=diffusion,
        learning_rate=learning_rate,
        seed=seed,
        recipe=digest([recipe, precision, device.type]),
        null_gate=null_gate,
        snapshot_steps=snapshot_steps,
        precision=precision,
        checkpoint_seconds=compute.checkpoint_seconds,
        ends=context.ends,
        spare_seconds=compute.spare_seconds,
        accumulation=compute.accumulation,
        compiled=compute.compile,
        space=data.space,
        **of_method,
    )
    if settings.ema_decay > 0 and settings.steps < 3 / (1 - settings.ema_decay):
        print(
            f"{label}: note: {settings.steps} steps are few for ema_decay {settings.ema_decay:g} (3 / (1 - decay) = "
            f"{3 / (1 - settings.ema_decay):.0f}); raw weights are kept beside the averaged ones",
            flush=True,
        )
    model.recompute_blocks = compute.recompute == "blocks"
    if model.gate is not None:
        model.gate.recompute = compute.recompute == "hidden"
    with distributed.group(device):
        return train(
            model.to(device), for_training(data), torch.from_numpy(data.labels), plan, state / "training.pt", label
        )


def for_training(data: LabelledImages) -> torch.Tensor | StoredImages:
    """Images as `train` takes them: a small set in memory, a large one where it is stored."""
    if isinstance(data.rows, StoredImages) and data.rows.nbytes > RESIDENT_BYTES:
        return data.rows
    return data.space.arranged(torch.from_numpy(data.images))


def try_training(context: Context, model: DiT, *arguments: Any, snapshot_steps: tuple[int, ...], **how: Any) -> Outcome:
    """`run_training` for a trial: where training diverges the start is what is left, and the cost says why."""
    start = {name: tensor.detach().cpu().clone() for name, tensor in learned_tensors(model).items()}
    try:
        return run_training(context, model, *arguments, snapshot_steps=snapshot_steps, **how)
    except Diverged as error:
        print(f"note: {error}", flush=True)
        precision = context.precision_on(context.ready_device())
        why = {"diverged": str(error).splitlines()[0]}
        return Outcome(dict.fromkeys(snapshot_steps, start), start, [], why, precision)


def write_history(outcome: Outcome, folder: Path) -> None:
    """The log, and the cost apart from it: times differ between two runs of one recipe, losses do not."""
    write_csv(folder / "train.csv", outcome.log, None if outcome.log else LOG_COLUMNS)
    write_sealed_json(folder / "cost.json", outcome.cost)
