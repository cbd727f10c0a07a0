"""Whether a backbone is pre-trained on pictures that a task of another data set holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kind import processes
from kind.artifacts import read_json, write_sealed_json
from kind.data.copies import Copy, Held, Pictures, find_copies, read_pictures
from kind.data.decoding import decode
from kind.data.prepared import MANIFEST
from kind.data.preparing import SHOWN
from kind.data.sources import SOURCES, Listing
from kind.errors import UserError, first_line, harmless
from kind.images import BadImage
from kind.layout import SPLITS
from kind.params import DataSet
from kind.stages.context import Context
from kind.stages.job import Job

NOTE = "copies.json"  # in the state folder of a training, with what its record will say
HINT = (
    "leave one of each pair out; or take both from one data set, with its classes named in `pretrain` and in `tasks`: "
    "it counts copies, and puts them into one split; or to have them counted and go on, write "
    "data.{}.copies_of_pretraining: count"
)


def copies_where_training_begins(context: Context, job: Job) -> dict[str, Any]:
    """`check_copies` of all tasks, for a backbone's record.

    Of processes that train together the first one asks.  Where a training goes on from a state, what came out at its
    beginning stands: pictures are many.
    """
    experiment, note = context.experiment, job.state / NOTE
    tasks = [name for name, task in experiment.all_tasks().items() if task.data != experiment.pretrain.data]
    if processes.rank() > 0 or not tasks:
        return {}
    if note.is_file() and any(job.state.glob("*training.pt")):
        try:
            known = read_json(note)
        except UserError:  # damaged: asked again
            known = {}
        if known.get("job") == job.identity:
            return known["record"]
    record = check_copies(context, tasks)
    write_sealed_json(note, {"job": job.identity, "record": record})
    return record


def check_copies(context: Context, tasks: Iterable[str]) -> dict[str, Any]:
    """Of pictures that pre-training trains on and that classes of these tasks hold in another data set, in any split: a
    task is new to a backbone.  Raises UserError, or where the params have them counted returns how many there are, for
    the job's record.

    Asked when a backbone begins to train and when a task's reference is made.  No job has both data sets for inputs,
    and none gets them, since what comes out does not depend on the other one and all that is made would be made again.
    Each of the two jobs has one of them, so that the one that begins later finds both, if both are here; and not at
    each run, since pictures are many.  Of a data set that is not prepared yet nothing is said.  One that cannot be read
    gets a line in the log and ends no job that does without it.
    """
    experiment = context.experiment
    pretrain, classes = experiment.pretrain, {}
    for name in tasks:
        task = experiment.task(name)
        if task.data != pretrain.data and _is_prepared(context, task.data):
            classes.setdefault(task.data, {}).update(dict.fromkeys(task.classes))
    if not classes or not _is_prepared(context, pretrain.data):
        return {}
    seen, counted = _read(context, pretrain.data, pretrain.classes, ["train"]), {}
    for data, held in classes.items() if seen else ():
        pictures = _read(context, data, list(held))
        if pictures is None:
            continue
        copies, counts = find_copies(seen, pictures), experiment.data[data].copies_of_pretraining == "count"
        if copies:
            _tell(context, data, seen, pictures, copies, counts)
        if counts:
            counted[data] = len(copies)
    return {"copies_of_pretraining": counted} if counted else {}


def _is_prepared(context: Context, data: str) -> bool:
    return (context.layout.data(data) / MANIFEST).is_file()


def _read(context: Context, data: str, classes: Sequence[str], splits: Sequence[str] = SPLITS) -> Pictures | None:
    """None where they cannot be read, which the log says."""
    try:
        return read_pictures(context.layout.data(data), classes, splits)
    except (UserError, OSError) as error:
        print(f"note: data.{data}: not compared for copies with other data sets: {first_line(error)}", flush=True)
        return None


def _tell(
    context: Context, other: str, seen: Pictures, pictures: Pictures, copies: Sequence[Copy], counts: bool
) -> None:
    """Raises UserError, or prints the same as a note."""
    one, shown = context.experiment.pretrain.data, copies[:SHOWN]
    here = _names(context.experiment.data[one], seen, [copy.one for copy in shown])
    there = _names(context.experiment.data[other], pictures, [copy.other for copy in shown])
    lines = "\n".join(f"  {one}: {first}, {other}: {second}" for first, second in zip(here, there, strict=True))
    more = f"\n  and {len(copies) - SHOWN} more" if len(copies) > SHOWN else ""
    what = f"data.{one} and data.{other} hold the same picture {len(copies)} times"
    if not counts:
        raise UserError(
            f"{context.params_path}: {what}: pre-training trains on it, and a task's classes must be new to the "
            f"backbone\n{lines}{more}",
            hint=HINT.format(other),
        )
    setting = f"data.{other}.copies_of_pretraining"
    print(harmless(f"note: {what}, one that pre-training trains on; counted ({setting})\n{lines}{more}"), flush=True)


def _names(data: DataSet, pictures: Pictures, shown: Sequence[Held]) -> list[str]:
    """Their files where the source still has them, else their rows, with class and split."""
    listing = _listing(data)
    stored = pictures.images.stored
    files = [listing and _file_of(listing, each, stored[each.row].tobytes()) for each in shown]
    named = [file or f"image {each.row}" for file, each in zip(files, shown, strict=True)]
    return [f"{name} (class {each.label!r}, {each.split})" for name, each in zip(named, shown, strict=True)]


def _listing(data: DataSet) -> Listing | None:
    """The files of a source as they are now; None where there are none."""
    source = SOURCES[data.source]
    options = source.options.model_validate(data.options)
    if source.listing is None or source.missing(options):
        return None
    try:
        return source.listing(options)
    except (UserError, OSError):
        return None


def _file_of(listing: Listing, picture: Held, pixels: bytes) -> str | None:
    """None where another file has this place now: some may have come, gone or changed since they were prepared."""
    if picture.row >= len(listing.items) or listing.class_names[listing.labels[picture.row]] != picture.label:
        return None
    item = listing.items[picture.row]
    try:
        is_it = decode(item, listing)[0].tobytes() == pixels
    except BadImage:
        return None
    return item.key if is_it else None
