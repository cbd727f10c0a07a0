"""Adapt a backbone to a task with one method, for one seed; what the method trained is kept at each evaluated step."""

from __future__ import annotations

import argparse
from pathlib import Path

from kind import processes, recipes
from kind.stages.context import add_time_argument
from kind.stages.job import Job, read_record
from kind.stages.material import load_material, material_files
from kind.stages.run_arguments import Run, add_run_arguments, read_run
from kind.stages.together import run_job

EXAMPLE = "python -m kind finetune --experiment smoke --task novel --method kind --seed 0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)
    add_time_argument(parser)


def run(arguments: argparse.Namespace) -> None:
    this = read_run(arguments)
    context = this.context
    experiment, layout = context.experiment, context.layout
    task, steps = experiment.task(this.task), this.steps
    job = Job(
        recipe=recipes.finetune(experiment, *this.name),
        inputs=[
            *layout.training_files(experiment, task.data),
            *(path for path in (this.start, this.replay, this.tuned) if path),
            *material_files(this),
            *(path for member in this.members for path in layout.adapted_files(member.folder, steps)[:-1]),
        ],
        outputs=layout.adapted_files(this.folder, steps),
        record=layout.record(this.folder, "finetune"),
        state=this.state("finetune"),
        planned=context.planned,
        records=[layout.record(member.folder, "finetune") for member in this.members],
    )
    count = experiment.compute.processes.finetune if this.method.learns(this.options) else 1
    run_job(job, lambda: train(this, job), count, arguments.command)


def train(this: Run, job: Job) -> dict:
    from kind.adaptation import adapt, trained_parameters
    from kind.checkpoints import load_start, save_adapted
    from kind.diffusion import Diffusion
    from kind.evaluation.complexity import describe_cost
    from kind.stages.expected import check_backbone
    from kind.stages.images import load_seen, load_shots
    from kind.stages.replay import load_replay
    from kind.stages.training_job import check_images, fresh_config, run_training, try_training, write_history
    from kind.training_routine import routine_of

    context, method, options = this.context, this.method, this.options
    experiment, layout = context.experiment, context.layout
    task, settings = experiment.task(this.task), experiment.training(this.task)
    rate = None
    if method.learns(options):
        rate = options.learning_rate or settings.learning_rate or chosen_rate(this.tuned)
    data = load_shots(context, task, load_seen)
    config = fresh_config(context, data, len(task.classes)) if method.start is None else None
    if this.start:
        check_backbone(context, options.backbone, this.start)
    start = load_start(method.start, this.start, config, this.seed)
    check_images(data, start.model.config, f"task {this.task}")
    if method.for_seen:
        start = start.of_classes(task.classes)
    material = load_material(this)
    model = adapt(start, method, options, len(task.classes), this.seed, settings.label_table, material)
    # after adapt, which renews the label table, so that the header describes the adapted model
    diffusion = start.diffusion or Diffusion(**experiment.diffusion.model_dump())
    null_gate = model.factorization.null_gate if model.gate is not None else "learngenes"

    trained = trained_parameters(model)
    parameters = {
        "trainable": sum(p.numel() for p in trained.values()),
        "trainable_label_table": model.label_table.numel() if model.label_table.requires_grad else 0,
    }
    print(f"{method.title}: {parameters['trainable']} trainable parameters in {len(trained)} tensors", flush=True)
    if method.combines:
        from kind.stages.soup_run import cook, most_trained

        parameters["trainable"] = most_trained(this)
        outcome, made = cook(this, start, model)
    else:
        made, fit = {}, try_training if experiment.is_for_tuning(this.task) else run_training
        outcome = fit(
            context,
            model,
            data,
            diffusion,
            settings,
            learning_rate=rate,
            seed=this.seed,
            recipe=job.identity,
            null_gate=null_gate,
            snapshot_steps=tuple(this.steps),
            state=job.state,
            label=f"finetune {this.task} {this.label} seed {this.seed}",
            routine=routine_of(method, options, settings.steps, this.seed),
            rate_scales=method.rate_scales(model, options),
            replay=load_replay(this, model.config) if this.replay else None,
        )
    if processes.rank() > 0:
        return {}
    header = {
        "method": method.name,
        "options": recipes.method_options(options),
        "classes": list(task.classes),
        "config": model.config.to_dict(),
        "diffusion": diffusion.to_dict(),
        "null_gate": null_gate,
        "label_table": settings.label_table,
        "seed": this.seed,
        "start": start.identity,
    }
    for step, tensors in outcome.averaged.items():
        save_adapted(layout.adapted(this.folder, step), tensors, {**header, "step": step, "averaged": True})
    raw = {**header, "step": settings.steps, "averaged": False}
    save_adapted(layout.raw_adapted(this.folder), outcome.raw, raw)
    write_history(outcome, this.folder)
    merged = method.merged(model)
    return {
        "num_images": len(data),
        "training": {
            "learning_rate": rate,
            "num_images": len(data),
            "precision": outcome.precision,
            "null_gate": null_gate if model.gate is not None else None,
            **({"num_runs": len(this.members)} if method.combines else {}),
            **origin(this),
            **({"diverged": outcome.cost["diverged"]} if "diverged" in outcome.cost else {}),
        },
        "parameters": parameters | describe_cost(merged),
        "trained": sorted(trained),
        **made,
    }


def chosen_rate(path: Path) -> float:
    """The rate that tuning chose."""
    return float(read_record(path, "learning_rate")["learning_rate"])


def origin(this: Run) -> dict:
    """Where the rate comes from, if from a choice that the params leave open."""
    return {"learning_rate_from": str(this.tuned.relative_to(this.context.layout.root))} if this.tuned else {}
