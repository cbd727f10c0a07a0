"""What an experiment costs, before it is run: jobs, parameters, multiply-accumulates, disk, hours of devices.

Needs no data and writes nothing but the file of --json.  Hours come from a throughput: one that you give, or this
machine's, measured for the occasion.  Without either there are none.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kind.errors import UserError
from kind.params import Experiment
from kind.params.file import find_params, load_experiments

if TYPE_CHECKING:
    from kind.planning.rates import Rates

EXAMPLE = """python -m kind plan imagenet_l --tflops 200
  python -m kind plan glyphs --measure --json plan.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "params/NAME.yaml, or the path of a params file; a collection too"
    named = parser.add_mutually_exclusive_group(required=True)
    named.add_argument("name", nargs="?", metavar="NAME", help=what)
    named.add_argument("--experiment", metavar="NAME", help="the same, as other stages have it")
    rates = parser.add_mutually_exclusive_group()
    rates.add_argument(
        "--tflops",
        type=_positive,
        metavar="X",
        help="throughput that a device keeps up, in 10^12 floating-point operations a second (a third to a half of the "
        "data sheet's figure is usual)",
    )
    rates.add_argument("--measure", action="store_true", help="measure this machine: some training and sampling steps")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the same as JSON")


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a number greater than 0, found {text!r}")
    return value


def run(arguments: argparse.Namespace) -> None:
    from kind.artifacts import write_json
    from kind.planning.table import lines, totals

    experiments = load_experiments(find_params(arguments.name or arguments.experiment))
    plans = [make_plan(one, arguments) for one in experiments.values()]
    print("\n\n".join("\n".join(lines(plan)) for plan in plans))
    if len(plans) > 1:
        print("\n" + "\n".join(totals(plans)))
    if arguments.json is not None:
        if not arguments.json.parent.is_dir():
            raise UserError(f"--json: {arguments.json.parent} is no folder", hint="make it, or name another place")
        write_json(arguments.json, plans[0] if len(plans) == 1 else plans)


def make_plan(experiment: Experiment, arguments: argparse.Namespace) -> dict[str, Any]:
    """As JSON has it."""
    from kind.planning.disk import plan_disk, unknown_data
    from kind.planning.models import Models
    from kind.planning.work import plan_work

    models = Models(experiment)
    rates = _rates(experiment, models, arguments)
    stages = {
        rule: {"jobs": work.jobs, "macs": int(sum(work.macs.values()))}
        | ({} if rates is None else {"hours": rates.seconds(work) / 3600})
        for rule, work in plan_work(experiment, models).items()
    }
    network = models.network
    return {
        "experiment": experiment.name,
        "runs": sum(1 for _ in experiment.runs()),
        "trials": sum(1 for _ in experiment.all_runs()) - sum(1 for _ in experiment.runs()),
        "network": {"shape": network.shape._asdict(), "side": network.side, "channels": network.channels,
                    "tokens": network.num_tokens},
        "models": [
            {"name": one.name, "tasks": list(one.tasks), "classes": one.num_classes, "trained": one.trained,
             "deployed": one.cost.parameters, "macs": one.cost.macs}
            for one in models.table()
        ],
        "stages": stages,
        "disk": plan_disk(experiment, models),
        "unknown_data": unknown_data(experiment),
        "throughput": None if rates is None else rates.described(),
    }  # fmt: skip


def _rates(experiment: Experiment, models: Any, arguments: argparse.Namespace) -> Rates | None:
    if arguments.tflops is not None:
        from kind.planning.rates import given_rates

        return given_rates(arguments.tflops)
    if arguments.measure:
        from kind.planning.measuring import measured_rates

        return measured_rates(experiment, models)
    return None
