"""Tables, plots, sample grids and one self-contained page from all runs of an experiment."""

from __future__ import annotations

import argparse

from kind import recipes
from kind.params import Experiment
from kind.params.class_sets import class_sets
from kind.params.match import Match
from kind.stages.context import add_shared_arguments, read_context
from kind.stages.job import Job

EXAMPLE = "python -m kind report --experiment smoke"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    context = read_context(arguments)
    experiment, layout = context.experiment, context.layout

    def work() -> None:
        from kind.reporting.report import write_report

        plain = experiment.model_dump()
        write_report(
            experiment=experiment.name,
            params=plain,
            folder=layout.root,
            output=layout.report,
            seeds=experiment.seeds,
            tasks=plain["tasks"],
            methods=plain["methods"],
            entries_on={task: experiment.entries_on(task) for task in experiment.tasks},
            tuned=experiment.tuned(),
            matches=matches(experiment),
            class_sets=class_sets(experiment),
            ablations=experiment.ablation_settings,
            command=f"snakemake --profile local --config experiment={experiment.name}",
        )

    runs = [layout.run(*run) for run in experiment.runs()]
    Job(
        recipe=recipes.report(experiment),
        inputs=[
            *(path for run in runs for path in (layout.metrics(run), run / "cost.json", run / "train.csv")),
            *(layout.record(run, "sample") for run in runs),
            *(path for name in experiment.backbones for path in layout.backbone_files(name)),
            *(layout.record(layout.backbone(name), "pretrain") for name in experiment.backbones),
            *(layout.reference(task) for task in experiment.tasks),
            *layout.analysis_files(experiment),
            *(layout.tuned(label) for label in experiment.tuned()),
        ],
        outputs=layout.report_files(),
        record=layout.record(layout.report, "report"),
        state=layout.state("report"),
        planned=context.planned,
    ).run(work)


def matches(experiment: Experiment) -> dict[tuple[str, str], Match]:
    """(task, method) -> the size that was found, of the entries with `match`."""
    places = ((task, method) for task in experiment.tasks for method in experiment.entries_on(task))
    return {(task, method): found for task, method in places if (found := experiment.match(method, task))}
