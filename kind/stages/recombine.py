"""Make a KIND model of other ones: keep classes, combine models that share learngenes, cut to a budget.

Classes are kept first, then the model is cut: components of least energy go first (each group in canonical form;
energies as shares of their matrix's unless --raw-energies), and what every class keeps is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kind.params.messages import some
from kind.stages.model_arguments import MODELS, add_start_argument, amount, check_output, load_models

if TYPE_CHECKING:
    from kind.api import KindModel

EXAMPLE = """python -m kind recombine results/smoke/backbones/kind --classes 3 5 --macs 50% --output small.safetensors
  python -m kind recombine results/smoke/backbones/kind --learngenes-only --output shared.safetensors
  python -m kind recombine parts/learngenes.safetensors parts/tailors/class_0003.safetensors --output three.safetensors
  python -m kind recombine three.safetensors five.safetensors --rank 24 --output both.safetensors"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help=MODELS)
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="where the new model is written")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there, but none that is read")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--classes", nargs="+", metavar="NAME", help="classes to keep, in the order of the new labels")
    which.add_argument("--learngenes-only", action="store_true", help="keep no class: learngenes alone")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--parameters",
        type=amount,
        metavar="AMOUNT",
        help="at most so many in the model of the kept classes; or a share, 50%%",
    )
    budget.add_argument(
        "--macs", type=amount, metavar="AMOUNT", help="at most so many in one conditional forward pass; or a share"
    )
    budget.add_argument("--rank", type=int, metavar="N", help="at most so many components a sample and matrix")
    parser.add_argument(
        "--raw-energies", action="store_true", help="compare energies of matrices as they are, not as shares"
    )
    parser.add_argument(
        "--null-row-of", type=int, metavar="N", help="the MODEL (1 is the first) whose null label row is taken"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write kept energies as CSV, a row a matrix and class"
    )
    add_start_argument(parser)


def run(arguments: argparse.Namespace) -> None:
    from kind.errors import UserError

    inputs = [*arguments.models, *([arguments.start] if arguments.start else [])]
    check_output(arguments.output, inputs, overwrite=arguments.overwrite)
    if arguments.report:
        check_output(arguments.report, [*inputs, arguments.output], overwrite=arguments.overwrite)
    models = load_models(arguments.models, arguments.start)
    null_row_of = None if arguments.null_row_of is None else arguments.null_row_of - 1
    if null_row_of is not None and not 0 <= null_row_of < len(models):
        raise UserError(f"--null-row-of {arguments.null_row_of}: there are {len(models)} models, counted from 1")
    model = whole = models[0].combine(*models[1:], null_row_of=null_row_of) if models[1:] else models[0]
    if arguments.learngenes_only or arguments.classes:
        model = model.keep([] if arguments.learngenes_only else arguments.classes)
    budget = {kind: getattr(arguments, kind) for kind in ("parameters", "macs", "rank")}
    if any(value is not None for value in budget.values()):
        model = model.budget(**budget, relative=not arguments.raw_energies)
    elif arguments.raw_energies or arguments.report:
        raise UserError("--raw-energies and --report go with a budget: give --parameters, --macs or --rank")
    model.save(arguments.output)
    if arguments.report:
        write_report(arguments.report, model)
    print(describe(whole, model))
    print(f"{arguments.output}: written")


def describe(whole: KindModel, model: KindModel) -> str:
    """Sizes before and after; of a cut model, what each class keeps."""
    before, after = whole.cost, model.cost
    lines = [f"{'':<24}{'parameters':>14}{'active':>14}{'MACs':>16}  classes"]
    for name, one, cost in (("before", whole, before), ("after", model, after)):
        numbers = f"{cost['deployed']:>14,}{cost['active']:>14,}{cost['macs']:>16,}"
        lines.append(f"{name:<24}{numbers}  {some(one.classes, '') or '(learngenes alone)'}")
    shares = [f"{after[key] / before[key]:.1%}" for key in ("deployed", "active", "macs")]
    lines.append(f"{'share':<24}{shares[0]:>14}{shares[1]:>14}{shares[2]:>16}")
    if model.kept is not None:
        from kind.budget import summarise

        left = f"{'learngenes':>12}{'tailors':>9}"
        energies = f"{'mean':>10}{'lost, mean':>12}{'lost, worst':>13}"
        lines += ["", f"{'kept energy of':<24}{left}{energies}  worst matrix"]
        rows = summarise(model.kept)
        for row in rows:
            name = "learngenes alone" if row.label is None else f"class {model.classes[row.label]}"
            left = f"{row.learngenes:>12,}{row.tailors:>9,}"
            energies = f"{row.kept:>10.4f}{row.lost:>12.4f}{row.worst:>13.4f}"
            lines.append(f"{name:<24}{left}{energies}  {row.worst_layer}")
        bare = [model.classes[row.label] for row in rows if row.tailors_before and not row.tailors]
        if bare:
            lines.append(f"warning: no tailors are left of class {some(bare, '')}: only its label tells it from others")
    return "\n".join(lines)


def write_report(path: Path, model: KindModel) -> None:
    from kind.artifacts import write_csv

    rows = [
        {
            "matrix": one.layer,
            "class": "" if one.label is None else model.classes[one.label],
            "components_before": one.before,
            "components_after": one.after,
            "tailors_after": one.tailors,
            "kept_energy": one.energy.kept,
            "lost_energy": one.energy.lost,
        }
        for one in model.kept
    ]
    write_csv(path, rows)
