"""How the learning rate and the decay of the averaged weights go over a run."""

from __future__ import annotations

import math

from kind.params import Training


def learning_rate_at(step: int, peak: float, settings: Training) -> float:
    """Linear warm-up over `warmup_steps`, then constant or half a cosine that would reach zero at step `steps`."""
    if step < settings.warmup_steps:
        return peak * (step + 1) / settings.warmup_steps
    if settings.learning_rate_schedule == "constant":
        return peak
    share = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * share))


def average_decay(step: int, decay: float) -> float:
    """EMA decay with warm-up, min(decay, (1 + t) / (10 + t)): a fixed 0.9999 would still be noise after a short run."""
    return min(decay, (1 + step) / (10 + step))
