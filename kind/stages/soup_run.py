"""A run that is made of other runs of its task and seed: what their methods trained is averaged."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from kind.adaptation import Start
from kind.artifacts import read_json
from kind.checkpoints import load_adapted
from kind.devices import choose_device, prepare_torch
from kind.diffusion import Diffusion
from kind.evaluation.held_out_loss import held_out_losses
from kind.models.dit import DiT
from kind.models.plain import require_plain
from kind.soup import Choice, Weights, floats_of, greedy_soup, mean_weights, uniform_soup
from kind.stages.expected import check_adapted
from kind.stages.images import held_out_tensors
from kind.stages.job import read_record
from kind.stages.run_arguments import Run
from kind.training import LOG_COLUMNS, Outcome


def cook(this: Run, start: Start, model: DiT) -> tuple[Outcome, dict[str, Any]]:
    """What the run leaves, and what its record says of the choice.  model: of the soup, any weights.

    Which runs are in the soup is decided on the averaged weights after the last step, for all steps.
    """
    layout, steps = this.context.layout, this.context.experiment.curve_steps()

    def weights_of(path: Path, member: Run) -> dict[str, torch.Tensor]:
        check_adapted(member, path)
        merged = member.method.merged(load_adapted(path, this.start).model)
        return floats_of(require_plain(merged, "averaged"))

    choice = uniform_soup(this.members)
    if this.options.choose == "greedy":
        compute = this.context.experiment.compute
        prepare_torch(compute.threads, compute.deterministic)
        model.to(choose_device(compute.device, this.context.device_key))
        last = [weights_of(layout.adapted(member.folder, steps[-1]), member) for member in this.members]
        data = held_out_tensors(this.context, this.context.experiment.task(this.task))
        choice = greedy_soup(last, lambda weights: _held_out(this, model, start.diffusion, weights, *data))
        del last
    chosen = [this.members[index] for index in choice.members]
    averaged = {
        step: mean_weights([weights_of(layout.adapted(member.folder, step), member) for member in chosen])
        for step in steps
    }
    raw = mean_weights([weights_of(layout.raw_adapted(member.folder), member) for member in chosen])
    outcome = Outcome(averaged, raw, _mean_log(this.members), _costs(this.members), "float32")
    return outcome, {"soup": _describe(this, choice)}


def most_trained(this: Run) -> int:
    """Trainable parameters of the member that has most: what a machine must have room for."""
    records = [read_record(this.context.layout.record(m.folder, "finetune"), "parameters") for m in this.members]
    return max(record["parameters"]["trainable"] for record in records)


def _held_out(
    this: Run, model: DiT, diffusion: Diffusion, weights: Weights, images: torch.Tensor, labels: torch.Tensor
) -> float:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    return (
        held_out_losses(model, diffusion, images, labels, this.options.draws, this.seed, batch_size=100).mean().item()
    )


def _mean_log(members: list[Run]) -> list[dict[str, float]]:
    """The members' logs, row by row."""
    logs = []
    for member in members:
        with open(member.folder / "train.csv", newline="", encoding="utf-8") as handle:
            logs.append(list(csv.DictReader(handle)))
    return [
        {"step": int(rows[0]["step"])} | {key: fmean(float(row[key]) for row in rows) for key in LOG_COLUMNS[1:]}
        for rows in zip(*logs, strict=True)
    ]


def _costs(members: list[Run]) -> dict[str, Any]:
    """What all members cost together, those that were not kept too: they had to be trained to be judged."""
    costs = [read_json(member.folder / "cost.json") for member in members]
    added = {key: sum(cost[key] for cost in costs) for key in ("train_seconds", "train_cpu_seconds", "steps")}
    same = {key: costs[0][key] for key in ("device", "threads")}
    return {**added, "peak_memory_bytes": max(cost["peak_memory_bytes"] for cost in costs), **same, "resumes": 0}


def _describe(this: Run, choice: Choice) -> dict[str, Any]:
    labels = [member.label for member in this.members]
    return {
        "of": labels,
        "kept": [labels[index] for index in choice.members],
        "held_out_losses": choice.losses,
        "held_out_loss": choice.loss,
    }
