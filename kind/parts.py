"""How the work of a run is shared among several jobs, its parts.  No result depends on it.  Imports no torch.

A part leaves what it made where the job of the whole looks for it: pieces of shards in that job's state folder,
features in the cache.  So the whole is the same whoever made the pieces, and makes itself what no part has left.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple, TypeVar

from kind.artifacts import read_json
from kind.errors import UserError
from kind.params import Experiment
from kind.params.protocol import Sampling

PIECE_IMAGES, BLOCK_IMAGES = 100, 1000  # about so many images make a piece of a shard, and a block of features
Thing = TypeVar("Thing")


class Part(NamedTuple):
    """The part `number` of `of`, from 1."""

    number: int
    of: int

    def state(self, whole: Path) -> Path:
        """Its state folder in that of the whole, with which it goes."""
        return whole / "parts" / f"{self.number}_of_{self.of}"

    def take(self, things: Sequence[Thing]) -> Sequence[Thing]:
        """Neighbours; all parts together are all things, each once."""
        return things[len(things) * (self.number - 1) // self.of : len(things) * self.number // self.of]


class Piece(NamedTuple):
    """`count` samples of the model after `step` steps, from number `first` on; all of one shard."""

    step: int
    shard: int
    first: int
    count: int


def sample_counts(experiment: Experiment, task: str) -> dict[int, int]:
    """How many images are drawn after each evaluated step; the last is the full number."""
    sampling, steps = experiment.sampling, experiment.curve_steps(task)
    counts = dict.fromkeys(steps, sampling.curve_num_samples or sampling.num_samples)
    counts[steps[-1]] = sampling.num_samples
    return counts


def pieces(sampling: Sampling, counts: Mapping[int, int]) -> list[Piece]:
    """Of all shards in order.  They start at multiples of the batch size, so that no batch depends on them.

    counts: samples of each step.
    """
    size = sampling.batch_size * max(1, PIECE_IMAGES // sampling.batch_size)
    return [
        Piece(step, shard, first, min(size, end - first))
        for step, count in counts.items()
        for shard, start in enumerate(range(0, count, sampling.shard_size))
        for end in [min(start + sampling.shard_size, count)]
        for first in range(start, end, size)
    ]


def sampling_jobs(experiment: Experiment, task: str) -> int:
    """How many jobs draw a run's samples: as many as the params say, but none without work."""
    asked = experiment.compute.sampling_jobs
    return min(asked, len(pieces(experiment.sampling, sample_counts(experiment, task)))) if asked > 1 else 1


def feature_jobs(experiment: Experiment, task: str) -> int:
    """How many jobs extract features of a run's samples."""
    return _feature_jobs(experiment, sample_counts(experiment, task).values())


def reference_jobs(experiment: Experiment, task: str) -> int:
    """The same of a task's reference images, of which only the data may tell how many there are."""
    _, count = experiment.reference_set(task)
    return experiment.compute.feature_jobs if count is None else _feature_jobs(experiment, [count])


def _feature_jobs(experiment: Experiment, counts: Iterable[int]) -> int:
    size = max(BLOCK_IMAGES, experiment.evaluation.batch_size)
    return min(experiment.compute.feature_jobs, sum(-(-count // size) for count in counts))


def planned_jobs(asked: int, recipes: Mapping[Path, str], markers: Path) -> int:
    """How many parts a job is planned with: those it was made of while its recipe is the same, else those that a run
    before has left (`finished_parts`), else as many as asked.

    So another number in the params makes nothing anew.  recipes: digest that the job's record should have, and those
    before it, which follow.
    """
    if any(_made(path).recipe != recipe for path, recipe in recipes.items()):
        return finished_parts(markers, asked, next(iter(recipes.values())), otherwise=asked)
    return _made(next(iter(recipes))).jobs


def finished_parts(markers: Path, asked: int, recipe: str, otherwise: int = 1) -> int:
    """How many parts a job is made of, by the records that they left; `otherwise` for none.

    markers: the path of these, with `{part}` and `{parts}` in its name.  Where there are several sets (the number was
    changed between), that of the number asked goes first.  recipe: digest of the job's, which those of its parts have.
    """
    there = {name for name in _left(markers) if _made(markers.with_name(name)).recipe == recipe}
    if not there:
        return otherwise
    numbers = sorted({asked, *(int(name.removesuffix(".json").rpartition("_of_")[2]) for name in there)})
    names = {of: [markers.name.format(part=number, parts=of) for number in range(1, of + 1)] for of in numbers}
    whole = [of for of in numbers if there.issuperset(names[of])]
    return asked if asked in whole else max(whole, default=otherwise)


class _Made(NamedTuple):
    recipe: str | None  # digest
    jobs: int  # parts


def _made(record: Path) -> _Made:
    """What a record says; a plan asks it of thousands, each for its own job and for those that follow."""
    try:
        found = record.stat()
    except OSError:
        return _NOTHING
    return _read(record, (found.st_mtime_ns, found.st_size, found.st_ino)) if S_ISREG(found.st_mode) else _NOTHING


_NOTHING = _Made(None, 1)


@cache
def _read(record: Path, version: tuple[int, ...]) -> _Made:
    """Nothing in a damaged one: its job is done again."""
    try:
        content = read_json(record)
    except UserError:
        return _NOTHING
    return _Made(content.get("recipe_digest"), content.get("jobs", 1)) if isinstance(content, dict) else _NOTHING


def _left(markers: Path) -> Sequence[str]:
    """Names of the records of a job's parts.  Those of all jobs lie in one folder, which is listed once while it stays
    as it is; one that changed just now may change again without another time."""
    try:
        changed = markers.parent.stat().st_mtime_ns
    except OSError:
        return ()
    listed = _names if time.time_ns() - changed > _SAME_TIME else _names.__wrapped__
    return listed(markers.parent, changed).get(_job_of(markers), ())


_SAME_TIME = 3_000_000_000  # ns; FAT has steps of 2 s


@cache
def _names(folder: Path, changed: int) -> Mapping[str, Sequence[str]]:
    """Of a folder's records, by job."""
    names: dict[str, list[str]] = {}
    for record in folder.glob("*_of_*.json"):
        names.setdefault(_job_of(record), []).append(record.name)
    return names


def _job_of(marker: Path) -> str:
    return marker.name.removesuffix(".json").rpartition(".")[0]
