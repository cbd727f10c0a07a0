"""Training whose loss or gradient is not finite: where it happened, and with what."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kind.errors import DeadEnd

SHOWN_INDICES = 8  # of a batch, in a message


class Diverged(DeadEnd):
    """The loss or its gradient is not finite."""


def first_not_finite(losses: Sequence[float], norms: Sequence[float]) -> int | None:
    """The first step of these that has a loss or a gradient norm that is not finite."""
    bad = [not (math.isfinite(loss) and math.isfinite(norm)) for loss, norm in zip(losses, norms, strict=True)]
    return bad.index(True) if True in bad else None


def divergence(
    label: str, step: int, loss: float, norm: float, rate: float, last_finite: float | None, indices: Sequence[int]
) -> Diverged:
    """step: from 1.  last_finite: loss of the step before; None where it is the first.  indices: of the batch's images
    among those that are trained on."""
    before = "none" if last_finite is None else f"{last_finite:g}"
    shown = ", ".join(map(str, indices[:SHOWN_INDICES]))
    if len(indices) > SHOWN_INDICES:
        shown += f" and {len(indices) - SHOWN_INDICES} more"
    return Diverged(
        f"{label}: the loss or its gradient is not finite in step {step}: loss {loss:g}, gradient norm {norm:g}, "
        f"learning rate {rate:g}, last finite loss {before}, training images {shown}",
        hint="lower the learning rate, lengthen the warm-up or set gradient_clip",
        facts={"step": step, "last_finite_loss": last_finite, "learning_rate": rate, "images": list(indices)},
    )
