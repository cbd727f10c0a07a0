"""What guidance does to each method: the trials whose learning rates were chosen, drawn again at several scales.

Measured on the tuning tasks, whose reference are validation images, as trials are: at the protocol's own scale a row
has the values of the trial's metrics.json.  So a scale can be looked at without a look at the tasks of the tables.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from kind import recipes
from kind.artifacts import write_csv
from kind.params.tasks import split_label
from kind.stages.choose import chosen_trials
from kind.stages.context import Context
from kind.stages.job import Job
from kind.stages.kept_rows import Rows, collect
from kind.stages.run_arguments import Run
from kind.stages.sample import sampler_of
from kind.stages.yardstick import Yardstick, columns_of, read_yardstick, yardstick_files

if TYPE_CHECKING:
    from kind.evaluation.image_sets import ImageSet

ABOUT = ("task", "method", "learning_rate", "guidance_scale", "num_samples")


def analyse_guidance(context: Context) -> None:
    experiment, layout = context.experiment, context.layout
    runs = [Run(context, *trial) for trial in chosen_trials(experiment, layout)]
    tasks = experiment.tune.tasks
    data = dict.fromkeys(task.data for task in tasks.values())
    job = Job(
        recipe=recipes.guidance(experiment),
        inputs=list(dict.fromkeys([
            *(layout.tuned_rate(label) for label in experiment.tuned()),
            *(this.start for this in runs if this.start),
            *(this.final_weights for this in runs),
            *(path for name in tasks for path in yardstick_files(context, name)),
            *(path for name in data for path in (*layout.data_files(name), *context.vae_files(name))),
        ])),
        outputs=[layout.guidance_table],
        record=layout.record(layout.analyses, "guidance"),
        state=layout.state("analyse", "guidance"),
        planned=context.planned,
        records=[layout.record(this.folder, "finetune") for this in runs],
    )  # fmt: skip

    @cache
    def yardstick(task: str) -> Yardstick:
        return read_yardstick(context, task, copies=experiment.looks_for_copies)

    parts = {
        f"{this.task}.{this.label}.{scale!r}": lambda this=this, scale=scale: measure(this, scale, yardstick(this.task))
        for this in runs
        for scale in experiment.analyses.guidance.scales
    }

    def work() -> None:
        rows = collect(job, parts)
        write_csv(layout.guidance_table, rows, columns_of(rows, ABOUT))

    job.run(work)


def measure(this: Run, scale: float, yardstick: Yardstick) -> Rows:
    """The row of a trial at a guidance scale."""
    count = this.context.experiment.sampling.num_samples
    about = {
        "task": this.task,
        "method": split_label(this.label)[0],
        "learning_rate": this.options.learning_rate,
        "guidance_scale": scale,
        "num_samples": count,
    }
    name = f"{this.task} {this.label} at guidance {scale:g}"
    return [about | yardstick.row(draw(this, scale, name), name)]


def draw(this: Run, scale: float, name: str) -> ImageSet:
    """As the stage sample draws the run's last step, but at this scale, with labels."""
    from kind.evaluation.image_sets import from_arrays
    from kind.sampling import balanced_labels
    from kind.stages.expected import check_adapted

    context = this.context
    device = context.ready_device()
    check_adapted(this, this.final_weights)
    sampler = sampler_of(this, this.final_weights, device, context.precision_on(device))
    labels = balanced_labels(context.experiment.sampling.num_samples, len(context.experiment.task(this.task).classes))
    return from_arrays(sampler(labels, guidance_scale=scale, label=name), labels.numpy())
