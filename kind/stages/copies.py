"""Whether a backbone is pre-trained on pictures that a task of another data set holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kind.data.copies import Copy, Held, Part, find_copies
from kind.data.preparing import SHOWN
from kind.data.sources import SOURCES
from kind.errors import UserError
from kind.params import DataSet
from kind.stages.context import Context

HINT = (
    "leave one of each pair out; or take both from one data set, with its classes named in `pretrain` and in `tasks`: "
    "it counts copies, and puts them into one split"
)


def check_copies(context: Context, tasks: Iterable[str]) -> None:
    """Raises UserError for a picture that pre-training trains on and that classes of these tasks hold in another data
    set, in any split: a task is new to a backbone.

    Asked when a backbone begins to train and when a task's reference is made.  No job has both data sets for inputs,
    and none gets them, since what comes out does not depend on the other one and all that is made would be made again.
    Each of the two jobs has one of them, so that the one that begins later finds both, and a change of either runs a
    job that asks.  Once for a backbone or a task, and not at each run, since pictures are many.  Where the other data
    set is not prepared yet, or not whole, nothing is said: that is for the jobs that need it.
    """
    experiment, layout = context.experiment, context.layout
    pretrain, classes = experiment.pretrain, {}
    for name in tasks:
        task = experiment.task(name)
        if task.data != pretrain.data:
            classes.setdefault(task.data, {}).update(dict.fromkeys(task.classes))
    for data, held in classes.items():
        one = Part(layout.data(pretrain.data), pretrain.classes, ["train"])
        try:
            copies = find_copies(one, Part(layout.data(data), list(held)))
        except (UserError, OSError):
            continue
        if copies:
            raise _refusal(context, pretrain.data, data, copies)


def _refusal(context: Context, one: str, other: str, copies: Sequence[Copy]) -> UserError:
    shown = copies[:SHOWN]
    named = [
        _names(context.experiment.data[data], [copy[side] for copy in shown]) for side, data in enumerate((one, other))
    ]
    lines = "\n".join(f"  {one}: {here}, {other}: {there}" for here, there in zip(*named, strict=True))
    more = f"\n  and {len(copies) - SHOWN} more" if len(copies) > SHOWN else ""
    return UserError(
        f"{context.params_path}: data.{one} and data.{other} hold the same picture {len(copies)} times: pre-training "
        f"trains on it, and a task's classes must be new to the backbone\n{lines}{more}",
        hint=HINT,
    )


def _names(data: DataSet, pictures: Sequence[Held]) -> list[str]:
    """Their files where the source still lists them, else their rows, with class and split."""
    source, names = SOURCES[data.source], {}
    if source.listing is not None:
        try:
            listing = source.listing(source.options.model_validate(data.options))
        except (UserError, OSError):  # moved since they were prepared
            listing = None
        for picture in pictures if listing is not None else ():
            if picture.row < len(listing.items) and listing.class_names[listing.labels[picture.row]] == picture.label:
                names[picture] = listing.items[picture.row].key
    return [f"{names.get(one, f'image {one.row}')} (class {one.label!r}, {one.split})" for one in pictures]
