"""Choose a method's learning rate from its trials on the tuning tasks; writes `tuning/METHOD.json` and the rate alone,
`tuning/METHOD.rate.json`, so that runs are made again only where another rate is best.

The rate with the best mean of the metric over the tuning tasks' validation images is taken.  Every trial is kept in the
file, with the protocol that it was measured under, and whether the best is the lowest or highest rate that was tried.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from kind import recipes
from kind.errors import UserError
from kind.layout import Layout
from kind.params import Experiment
from kind.params.tasks import trial_label
from kind.stages.context import Context, add_shared_arguments, read_context
from kind.stages.job import Job, read_record

EXAMPLE = "python -m kind choose --experiment small --method lora"
FORMAT = 1
PREFIXES = {"fd": ("fid", "fd"), "kd": ("kid", "kd")}  # names with Inception's features, and with others


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser)
    parser.add_argument(
        "--method", required=True, metavar="NAME", help="an entry of the params' methods section without learning rate"
    )


def run(arguments: argparse.Namespace) -> None:
    context, label = read_context(arguments), arguments.method
    experiment, layout = context.experiment, context.layout
    context.choose("methods", label)
    if label not in experiment.tuned():
        why = f"methods.{label} has a learning rate of its own" if experiment.tune else "there is no `tune` section"
        raise UserError(
            f"{context.params_path}: no learning rate is to be chosen for {label}: {why}",
            hint="the stage is for entries whose rate `tune` leaves open",
        )
    files = layout.tuned_files(label)
    Job(
        recipe=recipes.choose(experiment, label),
        inputs=[layout.metrics(layout.run(*trial)) for trial in experiment.trials(label)],
        outputs=files,
        record=layout.record(layout.tuning, f"{label}.choose"),
        state=layout.state("choose", label),
        planned=context.planned,
    ).run(lambda: choose(context, label))


def chosen_trials(experiment: Experiment, layout: Layout) -> list[tuple[str, str, int]]:
    """(task, trial, seed) of the trials at the rate that was chosen, entry by entry.

    Raises UserError for a rate that is not among those that the params have now.
    """
    found = []
    for label in experiment.tuned():
        path, rates = layout.tuned_rate(label), experiment.rates(label)
        rate = read_record(path, "learning_rate")["learning_rate"]
        if rate not in rates:
            tried = ", ".join(f"{one:g}" for one in rates)
            raise UserError(
                f"{path}: {rate:g} is none of the rates that are tried with {label}: {tried}",
                hint="run the choose stage again, or snakemake",
            )
        trial = trial_label(label, rates.index(rate) + 1)
        found += [(task, trial, experiment.tune.seed) for task in experiment.tune.tasks]
    return found


def choose(context: Context, label: str) -> None:
    from kind.artifacts import write_json

    experiment, layout = context.experiment, context.layout
    tune, found = experiment.tune, read_trials(context, label)
    means = {rate: _mean([one["value"] for one in found if one["learning_rate"] == rate]) for rate in _rates(found)}
    finite = {rate: mean for rate, mean in means.items() if mean is not None}
    if not finite:
        raise UserError(
            f"methods.{label}: no learning rate has a finite {found[0]['metric']} on every tuning task",
            hint=f"try others than {', '.join(f'{rate:g}' for rate in means)}",
        )
    best = min(finite, key=lambda rate: (finite[rate], rate))
    content = {
        "format": FORMAT,
        "experiment": experiment.name,
        "method": label,
        "learning_rate": best,
        "edge": edge(best, list(means)),
        "means": [{"learning_rate": rate, "mean": mean} for rate, mean in means.items()],
        "steps": experiment.training(found[0]["task"]).steps,
        "seed": tune.seed,
        "trials": [{key: value for key, value in one.items() if key != "protocol"} for one in found],
        "protocols": {one["task"]: one["protocol"] for one in found},
    }
    write_json(layout.tuned(label), content)
    write_json(layout.tuned_rate(label), {"learning_rate": best})


def read_trials(context: Context, label: str) -> list[dict[str, Any]]:
    """Rate, task, metric and its value of each trial; raises UserError where two of a task are not comparable."""
    from kind.artifacts import read_json
    from kind.reporting.labels import matches
    from kind.reporting.runs import number

    experiment, layout = context.experiment, context.layout
    prefixes, trials = PREFIXES[experiment.tune.metric], []
    for task, trial, seed in experiment.trials(label):
        path = layout.metrics(layout.run(task, trial, seed))
        metrics = read_json(path)
        name = next((name for name in metrics["values"] if any(matches(name, prefix) for prefix in prefixes)), None)
        if name is None:
            there = ", ".join(metrics["values"])
            raise UserError(f"{path}: has none of the metrics {', '.join(prefixes)}; it has {there}")
        first = next((one for one in trials if one["task"] == task), None)
        if first and first["protocol_hash"] != metrics["protocol_hash"]:
            raise UserError(
                f"{path}: measured under another protocol than the trial {first['trial']}",
                hint="run snakemake again: it makes anew what is of older params",
            )
        trials.append({
            "learning_rate": experiment.method_options(trial, task).learning_rate,
            "task": task,
            "trial": trial,
            "metric": name,
            "value": None if diverged(metrics) else number(metrics["values"][name]),
            "protocol_hash": metrics["protocol_hash"],
            "protocol": metrics["protocol"],
        })  # fmt: skip
    return trials


def diverged(metrics: dict[str, Any]) -> bool:
    """Whether the trial's training did: its samples are then those of the start."""
    return "diverged" in metrics.get("training", {})


def edge(best: float, rates: list[float]) -> str | None:
    """Where the best is the last that was tried on its side: a better one may lie beyond."""
    if best == min(rates):
        return "lowest"
    return "highest" if best == max(rates) else None


def _rates(trials: list[dict[str, Any]]) -> list[float]:
    return sorted({one["learning_rate"] for one in trials})


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else statistics.fmean(values)
