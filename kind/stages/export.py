"""Write a model as a folder that stock diffusers and peft load, without any code of this project.

One class or none: plain dense weights.  More classes, or one class where guidance needs its null half without tailors:
what all classes share as dense weights, and each class's tailors as a LoRA adapter.  README.md in the folder shows the
code that samples from it.  The folder is a MODEL to every command here: going back in loses nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kind.stages.model_arguments import MODELS, add_start_argument, load_models

EXAMPLE = """python -m kind export small.safetensors --output small
  python -m kind export results/smoke/backbones/kind --classes 3 --form dense --output three"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help=MODELS)
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="the folder to write")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="classes to keep, in the order of the new labels")
    parser.add_argument(
        "--form",
        choices=("auto", "dense", "adapters"),
        default="auto",
        help="dense: at most one class; adapters: one a class; auto: dense where that serves both halves of guidance",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an export that the folder holds")
    add_start_argument(parser)


def run(arguments: argparse.Namespace) -> None:
    models = load_models(arguments.models, arguments.start)
    model = models[0].combine(*models[1:]) if models[1:] else models[0]
    if arguments.classes:
        model = model.keep(arguments.classes)
    content = model.export(arguments.output, form=arguments.form, overwrite=arguments.overwrite)
    adapters = sum(place is not None for place in content["adapters"].values())
    print(f"{arguments.output}: dense weights" + (f" and {adapters} adapters" if adapters else ""))
    print(f"guidance: {content['guidance_means']}")
