"""`python -m kind STAGE ...`: dispatch only; a stage is imported when it is asked for."""

from __future__ import annotations

import argparse
import difflib
import importlib
import shlex
import sys
from types import ModuleType

from kind import processes, warm_start
from kind.errors import INTERRUPTED, TRY_AGAIN, Unfinished, UserError, describe_os_error

STAGES = {
    "prepare": "read a data source, split it, write images and manifest",
    "encode": "latents of a data set's images, by a VAE",
    "extractor": "train the experiment's feature network",
    "reference": "features and statistics of the reference images of a task",
    "pretrain": "train a backbone, dense or factorized",
    "extract": "take a factorized backbone apart into learngenes and tailors",
    "replay": "draw images from a backbone, for the objective diff-tuning",
    "finetune": "adapt to a task with one method",
    "sample": "draw images from an adapted model",
    "evaluate": "compare samples with the reference",
    "analyse": "weights, models put together, bounds of metrics, components",
    "choose": "choose a method's learning rate from its trials",
    "report": "tables, plots, grids and the page of an experiment",
    "compare": "each method's best within a budget of steps, parameters or time",
    "track": "bring an experiment's files into MLflow",
    "plan": "what an experiment costs, before it is run",
    "check": "check params files and what they need on this machine, or on a cluster",
    "clear-failure": "let trainings be tried again whose loss was not finite",
    "recover": "after Snakemake was killed: end its jobs, take its lock away",
}
ON_FILES = {  # without an experiment; `extract` works on model files too
    "fetch": "get weights that others published",
    "recombine": "keep classes of a KIND model, combine models, cut to a budget",
    "export": "write a model as a folder that stock diffusers and peft load",
    "server": "MLflow's server, for runs on several machines",
}


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        _overview().print_help()
        return 0
    stage = arguments[0]
    if stage not in STAGES | ON_FILES:
        close = difflib.get_close_matches(stage, STAGES | ON_FILES, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        _overview().error(f"no stage {stage!r}{hint}; stages: {', '.join(STAGES | ON_FILES)}")
    if processes.world() == 1 and (code := warm_start.ask(arguments)) is not None:
        return code
    module = stage_module(stage)
    parser = argparse.ArgumentParser(
        prog=f"python -m kind {stage}",
        description=module.__doc__,
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parsed = parser.parse_args(arguments[1:], argparse.Namespace(command=list(arguments)))
    processes.begin()
    if not sys.stderr.isatty() and processes.meeting() is None:  # in a log, say how to run this job again by hand
        print("$", shlex.join([sys.executable, "-m", "kind", *arguments]), file=sys.stderr, flush=True)
    try:
        module.run(parsed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Unfinished as stop:
        print(f"{stop}; run the same command again to go on", file=sys.stderr)
        return TRY_AGAIN
    except OSError as error:
        if error.errno is None:  # a library's own, not the system's
            raise
        print(f"error: {describe_os_error(error)}", file=sys.stderr)
        return 2
    except processes.Lost:
        if processes.meeting() is None:  # whoever started the processes says more
            print("error: another process of those that train together has ended", file=sys.stderr)
        return processes.LOST
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return INTERRUPTED
    return 0


def stage_module(stage: str) -> ModuleType:
    return importlib.import_module(f"kind.stages.{stage.replace('-', '_')}")


def _overview() -> argparse.ArgumentParser:
    width = max(map(len, STAGES | ON_FILES))
    stages, on_files = (
        "\n".join(f"  {name:<{width}}  {text}" for name, text in table.items()) for table in (STAGES, ON_FILES)
    )
    parser = argparse.ArgumentParser(
        prog="python -m kind",
        description="KIND: decomposable diffusion transformers.  One command a stage; Snakemake chains them.",
        epilog=f"stages, in order:\n{stages}\n\n"
        f"without an experiment, on files (extract, evaluate and reference too) and apart from any:\n{on_files}\n\n"
        "python -m kind STAGE --help shows a stage's arguments.\n"
        "Running a stage again resumes it, or ends at once if it is done.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stage", metavar="STAGE", help="one of those below")
    return parser


if __name__ == "__main__":
    sys.exit(main())
