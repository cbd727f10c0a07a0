"""Reports of synthetic experiments, and what they say."""

from __future__ import annotations

import csv

import synthetic_experiment as synthetic

from kind.artifacts import read_json
from kind.reporting.report import write_report

FD = "fd_digits_500_vs_180"


def report(folder, output=None, tasks=None, methods=None, seeds=None, **changes):
    tasks, methods, seeds = tasks or synthetic.TASKS, methods or synthetic.METHODS, seeds or synthetic.SEEDS
    output = output or folder / "report"
    arguments = {"command": synthetic.COMMAND} | changes
    write_report(
        "smoke",
        synthetic.params(tasks, methods, seeds),
        folder,
        output,
        seeds=seeds,
        tasks=tasks,
        methods=methods,
        **arguments,
    )
    return output


def rows(path):
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def value(folder, task, method, seed, name):
    return read_json(folder / f"runs/{task}/{method}/seed_{seed}/metrics.json")["values"][name]
