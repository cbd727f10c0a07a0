"""Read a data source, split it by class and seed, and write its images with an index and a manifest.

Image files are decoded by several processes; a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import os

from kind import recipes
from kind.errors import UserError
from kind.stages.context import Context, add_shared_arguments, read_context
from kind.stages.job import Job

EXAMPLE = "python -m kind prepare --experiment smoke --data digits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser)
    add_data_arguments(parser, "processes that decode image files")


def add_data_arguments(parser: argparse.ArgumentParser, workers: str, unless_given: str = "all cores") -> None:
    """workers: what they are; unless_given: how many."""
    parser.add_argument("--data", required=True, metavar="NAME", help="an entry of the params' data section")
    help_text = f"{workers} (default: compute.workers, or {unless_given})"
    parser.add_argument("--workers", type=int, metavar="N", help=help_text)


def chosen_workers(arguments: argparse.Namespace, context: Context, most: int | None = None) -> int:
    """As asked, or one a core.  most: of those that nobody asked for."""
    given = arguments.workers
    cores = len(os.sched_getaffinity(0))
    unasked = cores if most is None else min(cores, most)
    workers = (context.experiment.compute.workers or unasked) if given is None else given
    if workers < 1:
        raise UserError(f"--workers: {workers} given; at least 1", hint="leave it out to have it chosen")
    return workers


def run(arguments: argparse.Namespace) -> None:
    context = read_context(arguments)
    layout, name = context.layout, arguments.data
    data = context.choose("data", name)
    workers = chosen_workers(arguments, context)
    state = layout.state("prepare", name)

    def work() -> None:
        from kind.data.preparing import prepare

        prepare(data.source, data.options, data.split, layout.data(name), state=state, workers=workers)

    Job(
        recipe=recipes.prepare(context.experiment, name),
        inputs=[],
        outputs=layout.data_files(name),
        record=layout.record(layout.data(name), "prepare"),
        state=state,
        planned=context.planned,
    ).run(work)
