"""The `tasks` and `tune` sections of a params file, and the labels of trials.  Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from kind.params.types import ClassList, NaturalInt, PositiveFloat, PositiveInt, Section

TRIAL = "@"  # `lora@2` is the entry `lora` with its second rate; no name in a params file holds this character


class Task(Section):
    """seen: whether its classes are those of pre-training: then methods that draw these as the backbone knows them
    (`Method.for_seen`) run on it and no others, and nothing is trained; else those that adapt to new classes.
    """

    data: str
    classes: ClassList
    images_per_class: PositiveInt | None = None
    seed: NaturalInt = 0
    guidance_scale: Annotated[float, Field(ge=1)] | None = None
    seen: bool = False

    @model_serializer(mode="wrap")
    def _described(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Recipes of tasks of new classes do not know of others."""
        return {key: value for key, value in handler(self).items() if (key, value) != ("seen", False)}


class Tune(Section):
    """How the learning rate of every methods entry that has none is chosen: each rate is tried on each of these tasks.

    steps: of a trial; None: as many as `finetune` has.  seed: of all trials, none of the experiment's.  metric: whose
    mean over the tasks decides, on their validation images: the Frechet or the kernel distance.
    """

    tasks: Annotated[dict[str, Task], Field(min_length=1)]
    learning_rate: list[PositiveFloat]
    steps: PositiveInt | None = None
    seed: NaturalInt = 0
    metric: Literal["fd", "kd"] = "fd"


def trial_label(label: str, number: int) -> str:
    """Label of an entry's trial; numbers count from 1."""
    return f"{label}{TRIAL}{number}"


def split_label(label: str) -> tuple[str, int | None]:
    """A methods entry and the number of its trial, None for the entry itself."""
    entry, _, number = label.partition(TRIAL)
    return entry, int(number) if number else None
