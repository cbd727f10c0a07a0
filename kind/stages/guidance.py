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
from kind.stages.bounds import columns_of, measured
from kind.stages.choose import chosen_trials
from kind.stages.context import Context
from kind.stages.job import Job
from kind.stages.kept_rows import Rows, collect
from kind.stages.run_arguments import Run
from kind.stages.yardstick import Yardstick, read_yardstick, yardstick_files

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
    ((_, row),) = measured(yardstick, draw(this, scale, name), [count], name)
    return [about | row]


def draw(this: Run, scale: float, name: str) -> ImageSet:
    """As the stage sample draws the run's last step, but at this scale, with labels."""
    from kind.checkpoints import load_adapted
    from kind.devices import choose_device, choose_precision, prepare_torch
    from kind.evaluation.image_sets import from_arrays
    from kind.random_streams import derive_seed
    from kind.sampling import balanced_labels, sample_images
    from kind.stages.decoder import decoder_of
    from kind.stages.expected import check_adapted

    context = this.context
    experiment, compute = context.experiment, context.experiment.compute
    protocol, task = experiment.sampling, experiment.task(this.task)
    prepare_torch(compute.threads, compute.deterministic)
    device = choose_device(compute.device, context.device_key)
    check_adapted(this, this.final_weights)
    loaded = load_adapted(this.final_weights, this.start)
    model = this.method.merged(loaded.model).to(device)
    labels = balanced_labels(protocol.num_samples, len(task.classes))
    drawn = sample_images(
        model,
        loaded.diffusion,
        protocol,
        labels,
        derive_seed(protocol.seed, this.seed),
        guidance_scale=scale,
        null_gate=loaded.header["null_gate"],
        precision=choose_precision(compute.precision, device),
        label=name,
        decode=decoder_of(context, task.data, model.config, device),
    )
    return from_arrays(drawn, labels.numpy())
