"""What samples of runs do not show: one of the analyses that the params ask for, as files under analyses/.

weights: every run's matrices on one task against those that it began with: intruder dimensions, drift and effective
rank of the difference.  interference: models adapted to different tasks, put together, and what that costs each.
bounds: real images and untouched backbones, measured on one task as samples of runs are.  components: energy,
similarity and pictures of learngenes and tailors.  guidance: the trials whose learning rates were chosen, at several
guidance scales.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kind import recipes
from kind.artifacts import write_csv
from kind.errors import UserError
from kind.stages.context import Context, add_shared_arguments, read_context
from kind.stages.job import Job
from kind.stages.kept_rows import Rows, collect
from kind.stages.run_arguments import Run

if TYPE_CHECKING:
    import torch

    from kind.checkpoints import Loaded
    from kind.models.dit import DiT

EXAMPLE = """python -m kind analyse --experiment rivals --analysis weights --task novel
  python -m kind analyse --experiment rivals --analysis interference"""
ASKED = {  # what asks for each, and what it is of where that is no single task
    "weights": ("{}", None),
    "interference": ("{tasks: [A, B], methods: {lora: {}}}", "the tasks that the params name"),
    "bounds": ("{}", None),
    "components": ("{}", "the backbones that methods start from"),
    "guidance": ("{scales: [1.0, 1.5, 2.0]}", "the tasks of `tune`"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser)
    parser.add_argument("--analysis", required=True, choices=tuple(ASKED), help="one of the params' analyses section")
    parser.add_argument("--task", metavar="NAME", help="of weights and bounds: an entry of the params' tasks section")


def run(arguments: argparse.Namespace) -> None:
    context = read_context(arguments)
    name, task = arguments.analysis, arguments.task
    example, of = ASKED[name]
    if getattr(context.experiment.analyses, name, None) is None:
        raise UserError(
            f"{context.params_path}: analyses has no {name}",
            hint=f"to ask for it, write analyses: {{{name}: {example}}}",
        )
    if (of is None) != (task is not None):
        raise UserError(
            f"--analysis {name} is of one task: give --task"
            if of is None
            else f"--analysis {name} is of {of}: it takes no --task",
            hint=f"tasks: {', '.join(context.experiment.tasks)}",
        )
    if task is not None and context.choose("tasks", task).seen and name == "weights":
        raise UserError(
            f"{context.params_path}: on tasks.{task} nothing is trained that could be analysed",
            hint="name a task without `seen: true`",
        )
    analyse(context, name, task)


def analyse(context: Context, name: str, task: str | None) -> None:
    if name == "weights":
        analyse_weights(context, task)
    elif name == "interference":
        analyse_interference(context)
    elif name == "bounds":
        from kind.stages.bounds import analyse_bounds

        analyse_bounds(context, task)
    elif name == "guidance":
        from kind.stages.guidance import analyse_guidance

        analyse_guidance(context)
    else:
        from kind.stages.components import analyse_components

        analyse_components(context)


def analyse_weights(context: Context, task: str) -> None:
    experiment, layout = context.experiment, context.layout
    runs = [Run(context, task, label, seed) for label in experiment.entries_on(task) for seed in experiment.seeds]
    job = Job(
        recipe=recipes.weights(experiment, task),
        inputs=_trained(runs),
        outputs=[layout.weights_table(task)],
        record=layout.record(layout.analyses, f"weights_{task}"),
        state=layout.state("analyse", "weights", task),
        planned=context.planned,
        records=_records(runs),
    )
    parts = {f"{this.label}.{this.seed}": lambda this=this: compare(this) for this in runs}
    job.run(lambda: write_csv(layout.weights_table(task), collect(job, parts), WEIGHTS_COLUMNS))


def analyse_interference(context: Context) -> None:
    experiment, layout = context.experiment, context.layout
    asked = experiment.analyses.interference
    together = {
        (label, seed): [Run(context, task, asked.entry(label, task), seed) for task in asked.tasks]
        for label in asked.methods
        for seed in experiment.seeds
    }
    runs = [this for each in together.values() for this in each]
    data = dict.fromkeys(experiment.tasks[task].data for task in asked.tasks)
    job = Job(
        recipe=recipes.interference(experiment),
        inputs=[*(path for name in data for path in layout.training_files(experiment, name)), *_trained(runs)],
        outputs=[layout.interference_table],
        record=layout.record(layout.analyses, "interference"),
        state=layout.state("analyse", "interference"),
        planned=context.planned,
        records=_records(runs),
    )
    parts = {
        f"{label}.{seed}": lambda label=label, each=each: put_together(label, each)
        for (label, seed), each in together.items()
    }
    job.run(lambda: write_csv(layout.interference_table, collect(job, parts), INTERFERENCE_COLUMNS))


def _trained(runs: list[Run]) -> list[Path]:
    """What the runs trained, and what they began with, each once."""
    return [*dict.fromkeys(this.start for this in runs if this.start), *(this.final_weights for this in runs)]


def _records(runs: list[Run]) -> list[Path]:
    return [this.context.layout.record(this.folder, "finetune") for this in runs]


def load_merged(this: Run) -> Loaded:
    """The run's adapted model, with what can be folded into plain matrices folded."""
    from dataclasses import replace

    from kind.checkpoints import load_adapted
    from kind.stages.expected import check_adapted

    check_adapted(this, this.final_weights)
    loaded = load_adapted(this.final_weights, this.start)
    return replace(loaded, model=this.method.merged(loaded.model))


# --- weights ----------------------------------------------------------------------------------------------------

WEIGHTS_COLUMNS = ("task", "method", "seed", "block", "matrix", "intruders", "drift", "effective_rank")


def compare(this: Run) -> Rows:
    """On the CPU, whatever the params say of a device: small decompositions in float64."""
    from kind.analysis.weights import compare_weights, reference_matrices
    from kind.devices import prepare_torch

    prepare_torch(this.context.experiment.compute.threads, this.context.experiment.compute.deterministic)
    settings = this.context.experiment.analyses.weights
    loaded = load_merged(this)
    references = reference_matrices(begun_with(this, loaded))
    rows = compare_weights(loaded.model, references, settings.num_vectors, settings.max_cosine)
    return [{"task": this.task, "method": this.label, "seed": this.seed, **row} for row in rows]


def begun_with(this: Run, loaded: Loaded) -> DiT:
    """The start; where the method leaves tailors with these attached, not trained."""
    from kind.adaptation import adapt
    from kind.checkpoints import load_start
    from kind.models.dit import DiTConfig

    header = loaded.header
    start = load_start(this.method.start, this.start, DiTConfig(**header["config"]), header["seed"])
    if loaded.model.gate is None:
        return start.model
    return adapt(start, this.method, this.options, len(loaded.classes), header["seed"], header["label_table"])


# --- interference -----------------------------------------------------------------------------------------------

INTERFERENCE_COLUMNS = (
    "method", "how", "seed", "task", "entry", "num_images", "loss_alone", "loss_together", "difference",
    "standard_error",
)  # fmt: skip


def put_together(label: str, runs: list[Run]) -> Rows:
    """A row a way to put the runs' models together and task."""
    from kind.analysis.interference import cost_of_company
    from kind.evaluation.held_out_loss import held_out_losses
    from kind.stages.images import held_out_tensors

    context = runs[0].context
    experiment = context.experiment
    asked, batch_size = experiment.analyses.interference, experiment.evaluation.batch_size
    device = context.ready_device()
    adapted = [load_merged(this) for this in runs]
    data = [held_out_tensors(context, experiment.tasks[this.task]) for this in runs]

    def losses(model: DiT, place: int, offset: int) -> torch.Tensor:
        """offset: of the task's labels among the model's."""
        images, labels = data[place]
        diffusion = adapted[place].diffusion
        return held_out_losses(
            model.to(device), diffusion, images, labels + offset, asked.num_draws, asked.seed, batch_size
        )

    alone = [losses(one.model, place, 0) for place, one in enumerate(adapted)]
    rows = []
    for how, model in ways_together(runs[0], [one.model.cpu() for one in adapted]):
        offset = 0
        for place, this in enumerate(runs):
            cost = cost_of_company(alone[place], losses(model, place, offset))
            rows.append({
                "method": label, "how": how, "seed": this.seed, "task": this.task, "entry": this.label,
                "num_images": len(data[place][1]), "loss_alone": cost.alone, "loss_together": cost.together,
                "difference": cost.difference, "standard_error": cost.standard_error,
            })  # fmt: skip
            offset += len(adapted[place].classes)
    return rows


def ways_together(first: Run, models: list[DiT]) -> Iterator[tuple[str, DiT]]:
    """Name and model of each way: differences added up; of models with a gate behind it, and with all tailors open."""
    from kind.analysis.interference import add_differences, open_all, side_by_side
    from kind.checkpoints import load_start

    if models[0].gate is None:
        yield "differences added", add_differences(load_start(first.method.start, first.start).model, models)
        return
    joint = side_by_side(models)
    yield "class gate", joint
    yield "tailors summed", open_all(joint)
