"""Take a factorized backbone apart: learngenes (with all dense layers) in one file, each class's tailors in one.

As a stage of an experiment, or of any KIND model: give the MODEL and --output instead of --experiment and --backbone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kind import recipes
from kind.params.messages import some
from kind.stages.context import Context, add_shared_arguments, read_context
from kind.stages.job import Job
from kind.stages.model_arguments import MODEL, add_start_argument
from kind.stages.ways import works_on_files

EXAMPLE = """python -m kind extract --experiment smoke --backbone kind
  python -m kind extract small.safetensors --output parts"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL", help=MODEL)
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where the parts of MODEL go: learngenes.safetensors, tailors/"
    )
    add_start_argument(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the parts that the folder holds")
    add_shared_arguments(parser, required=False)
    parser.add_argument("--backbone", metavar="NAME", help="a backbone of form `kind`")


def run(arguments: argparse.Namespace) -> None:
    with_file = works_on_files(
        "extract",
        {"MODEL": arguments.model, "--output": arguments.output},
        {"--experiment": arguments.experiment, "--backbone": arguments.backbone},
        files="a model file",
        file_options=bool(arguments.start or arguments.overwrite),
        stage_options=arguments.recipe is not None,
        example=EXAMPLE.splitlines()[1].strip(),
    )
    return extract_file(arguments) if with_file else extract_stage(arguments)


def extract_file(arguments: argparse.Namespace) -> None:
    from kind.api import load

    model = load(arguments.model, arguments.start)
    model.save_parts(arguments.output, overwrite=arguments.overwrite)
    print(f"{arguments.output}: learngenes, and tailors of {some(model.classes, '') or 'no class'}")


def extract_stage(arguments: argparse.Namespace) -> None:
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
