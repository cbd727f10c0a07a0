"""Take a factorized backbone apart: learngenes (with all dense layers) in one file, each class's tailors in one."""

from __future__ import annotations

import argparse
from pathlib import Path

from kind import recipes
from kind.stages.context import Context, add_shared_arguments, read_context
from kind.stages.job import Job

EXAMPLE = "python -m kind extract --experiment smoke --backbone kind"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser)
    parser.add_argument("--backbone", required=True, metavar="NAME", help="a backbone of form `kind`")


def run(arguments: argparse.Namespace) -> None:
    context = read_context(arguments)
    layout, name = context.layout, arguments.backbone
    context.choose_backbone(name, "kind")
    learngenes = layout.learngenes(name)
    tailors = tailor_files(context, name)
    Job(
        recipe=recipes.extract(context.experiment, name),
        inputs=[layout.backbone_model(name)],
        outputs=[learngenes, *tailors],
        record=layout.record(learngenes.parent, "extract"),
        state=layout.state("extract", name),
        planned=context.planned,
    ).run(lambda: split(context, name))


def split(context: Context, name: str) -> None:
    from kind.checkpoints import save_parts
    from kind.stages.expected import check_backbone

    layout = context.layout
    check_backbone(context, name, layout.backbone_model(name))
    save_parts(layout.learngenes(name), tailor_files(context, name), layout.backbone_model(name))


def tailor_files(context: Context, name: str) -> list[Path]:
    experiment = context.experiment
    return context.layout.tailors(name, len(experiment.pretrain.classes), len(experiment.backbones[name].groups))
