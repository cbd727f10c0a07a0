"""Checks of methods entries that need other sections or entries than their backbone.  Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kind.params import spacing_problem


def replay_problems(valid: Mapping[str, Any], methods: Mapping[str, tuple[str, Any]]) -> Iterator[str]:
    """`objective: diff-tuning` trains on samples of a source model, and `replay` says how they are drawn.

    methods: label -> (name of the method, options).
    """
    replaying = [label for label, (_, options) in methods.items() if options.objective == "diff-tuning"]
    for label in replaying:
        name, options = methods[label]
        if getattr(options, "backbone", None) is None:
            yield (
                f"methods.{label}.objective: diff-tuning trains on samples of the backbone that the method starts "
                f"from, and {name} starts from none; leave it out"
            )
    finetune, replay, diffusion = valid.get("finetune"), valid.get("replay"), valid.get("diffusion")
    if replaying and finetune is not None and finetune.batch_size == 1:
        yield (
            f"methods.{replaying[0]}.objective: diff-tuning needs room for the task's images and replayed ones, but "
            "finetune.batch_size is 1"
        )
    if replay is None:
        return
    steps, trained = replay.num_inference_steps, diffusion and diffusion.num_train_timesteps
    if replaying and None not in (steps, trained) and steps > trained:
        yield f"replay.num_inference_steps: {steps} exceeds diffusion.num_train_timesteps {trained}"
    if problem := spacing_problem(replay.sampler, replay.timestep_spacing):
        yield f"replay.timestep_spacing: {problem}"
