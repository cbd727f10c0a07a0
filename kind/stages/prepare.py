"""Read a data source, split it by class and seed, and write train, validation and test images with a manifest."""

from __future__ import annotations

import argparse

from kind import recipes
from kind.stages.context import add_shared_arguments, read_context
from kind.stages.job import Job

EXAMPLE = "python -m kind prepare --experiment smoke --data digits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser)
    parser.add_argument("--data", required=True, metavar="NAME", help="an entry of the params' data section")


def run(arguments: argparse.Namespace) -> None:
    context = read_context(arguments)
    layout, name = context.layout, arguments.data
    data = context.choose("data", name)

    def work() -> None:
        from kind.data.prepared import prepare

        prepare(data.source, data.options, data.split, layout.data(name))

    Job(
        recipe=recipes.prepare(context.experiment, name),
        inputs=[],
        outputs=layout.data_files(name),
        record=layout.record(layout.data(name), "prepare"),
        state=layout.state("prepare", name),
        planned=context.planned,
    ).run(work)
