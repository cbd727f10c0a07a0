"""The `ablations` section of a params file.  Imports no torch."""

from __future__ import annotations

from pydantic import BaseModel

from kind.params.types import Section


class Ablation(Section):
    """Methods entries that differ in one number: `axis`, an option of their method or of its backbone."""

    axis: str
    entries: list[str]


def axis_value(axis: str, options: BaseModel, finetune: BaseModel | None, backbone: BaseModel | None) -> float | None:
    """A number among the options; where none is given, the common one of `finetune`; else one of the backbone."""
    places = (options, finetune) if hasattr(options, axis) else (backbone,)
    values = (getattr(place, axis, None) for place in places)
    return next((v for v in values if isinstance(v, int | float) and not isinstance(v, bool)), None)
