"""Print each method's last evaluated point within a budget of steps, parameters or training time, best first.

Points are those of the curves (evaluation.curve and the end), means over seeds; a point counts when it is within the
budget for every seed.  Parameters are the trainable ones, or the deployed ones on tasks on which nothing is trained.
Times are known of whole runs only: a point has its share, by steps.  Reads the results that are there and writes
nothing but the CSV file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kind.stages.context import add_shared_arguments, read_context
from kind.stages.model_arguments import amount

EXAMPLE = "python -m kind compare --experiment smoke --steps 50 --parameters 200000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser, recipe=False)
    parser.add_argument("--steps", type=_whole, metavar="N", help="at most so many training steps")
    parser.add_argument(
        "--parameters",
        type=_whole,
        metavar="N",
        help="at most so many trainable parameters (deployed ones where nothing is trained)",
    )
    parser.add_argument("--seconds", type=_positive, metavar="S", help="at most so much training time")
    parser.add_argument("--metric", metavar="NAME", help="fd, sfd, kd, precision ... (default: the report's first)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table there too")


def run(arguments: argparse.Namespace) -> None:
    from kind.artifacts import write_csv
    from kind.records import check_recorded
    from kind.reporting.budgets import NOTE, TRIALS_APART, Budget, as_rows, as_text, direction_of, standings
    from kind.reporting.runs import load_runs

    context = read_context(arguments)
    experiment = context.experiment
    entries_on = {task: experiment.entries_on(task) for task in experiment.tasks}
    runs = load_runs(context.layout.root, experiment.tasks, experiment.methods, experiment.seeds, entries_on)
    for run in runs:
        for name in ("metrics.json", "train.csv"):
            check_recorded(run.folder / name)
    budget = Budget(arguments.steps, arguments.parameters, arguments.seconds)
    tables = list(standings(runs, budget, arguments.metric))
    for found in tables:
        print(as_text(found, direction_of(runs, found[0].metric), budget), end="\n\n")
    print(NOTE)
    if experiment.tuned():
        print(TRIALS_APART)
    if arguments.csv:
        write_csv(arguments.csv, [row for found in tables for row in as_rows(found)])


def _whole(text: str) -> int:
    """`50`, `200k`, `45.4M`."""
    number = amount(text)
    if not isinstance(number, int) or number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number: give 120000, 200k or 45.4M")
    return number


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number greater than 0")
    return number
