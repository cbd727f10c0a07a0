"""How many jobs of each rule an experiment has, as a run with nothing done plans them; trials of `tune` too."""

from __future__ import annotations

from collections.abc import Iterable

from kind.methods import METHODS
from kind.params import Experiment
from kind.parts import feature_jobs, reference_jobs, sampling_jobs
from kind.stages.check import published_weights


def count_jobs(experiment: Experiment) -> dict[str, int]:
    """By rule, in the order of the pipeline; what is not needed is left out."""
    tuned = experiment.tuned()
    tasks = experiment.all_tasks() if tuned else experiment.tasks
    runs = sum(1 for _ in experiment.all_runs())
    adapted = [name for name, task in experiment.tasks.items() if not task.seen]
    analyses = experiment.analyses
    counts = {
        "fetch": sum(not file.exists() for place in published_weights(experiment) if place.said_by is None
                     for file in place.files),
        "prepare": len(used_data(experiment)),
        "encode": sum(experiment.data[data].latents is not None for data in used_data(experiment)),
        "extractor": int(experiment.evaluation.extractor.type == "trained"),
        "reference_part": _additional(reference_jobs(experiment, task) for task in tasks),
        reference_rule(experiment): len(tasks),
        "pretrain": len(experiment.backbones),
        "extract": len(taken_apart(experiment)),
        "replay": len(replayed(experiment)),
        "finetune": runs,
        "sample_part": _additional(sampling_jobs(experiment, task) for task, _, _ in experiment.all_runs()),
        "sample": runs,
        "evaluate_part": _additional(feature_jobs(experiment, task) for task, _, _ in experiment.all_runs()),
        "evaluate": runs,
        "choose": len(tuned),
        "analyse_weights": len(adapted) if analyses and analyses.weights else 0,
        "analyse_interference": int(bool(analyses and analyses.interference)),
        "analyse_bounds": len(experiment.tasks) if analyses and analyses.bounds else 0,
        "analyse_components": int(bool(analyses and analyses.components)),
        "analyse_guidance": int(bool(analyses and analyses.guidance)),
        "report": 1,
    }  # fmt: skip
    return {rule: count for rule, count in counts.items() if count}


def _additional(parts: Iterable[int]) -> int:
    """Jobs of parts, where a job has several."""
    return sum(number for number in parts if number > 1)


def reference_rule(experiment: Experiment) -> str:
    return "reference" if experiment.is_judged else "reference_without_judge"


def used_data(experiment: Experiment) -> list[str]:
    """Data sets that are prepared, each once."""
    tasks = experiment.all_tasks().values()
    return list(dict.fromkeys([experiment.pretrain.data, *(task.data for task in tasks)]))


def taken_apart(experiment: Experiment) -> list[str]:
    """Backbones whose learngenes some method begins with."""
    starts = {experiment.backbone_of(label) for label in experiment.methods if start_of(experiment, label) == "kind"}
    return sorted(starts)


def replayed(experiment: Experiment) -> list[str]:
    """Backbones that draw the images of `objective: diff-tuning`."""
    return sorted({source for label in experiment.methods if (source := experiment.replay_of(label))})


def start_of(experiment: Experiment, label: str) -> str | None:
    return METHODS[experiment.method_name(label)].start
