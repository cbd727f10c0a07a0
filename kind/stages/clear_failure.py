"""Let trainings be tried again that ended in a way that a retry would repeat, such as a loss that is not finite.

Takes away what is kept of it (`failed.json` in the job's state folder), of the whole experiment or of what is named;
the last good training state stays, and the next attempt goes on from it.  Changed params need none of this.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kind.errors import UserError
from kind.layout import Layout
from kind.params.file import find_params, load_experiments
from kind.stages.context import add_collection_arguments
from kind.stages.failures import NAME, read_failure

EXAMPLE = """python -m kind clear-failure --experiment smoke
  python -m kind clear-failure --experiment smoke --task novel --method lora --seed 0"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_collection_arguments(parser)
    parser.add_argument("--backbone", metavar="NAME", help="only of this pre-training")
    parser.add_argument("--task", metavar="NAME", help="only of fine-tunings to this task")
    parser.add_argument("--method", metavar="NAME", help="only of fine-tunings with this method")
    parser.add_argument("--seed", type=int, metavar="N", help="only of fine-tunings with this seed")


def run(arguments: argparse.Namespace) -> None:
    of_run = (arguments.task, arguments.method, arguments.seed)
    if arguments.backbone is not None and of_run != (None, None, None):
        raise UserError(
            "--backbone names a pre-training, --task, --method and --seed fine-tunings",
            hint="name the one or the other, or neither for everything of the experiment",
        )
    names = (arguments.backbone,) if arguments.backbone is not None else of_run
    stage = "pretrain" if arguments.backbone is not None else "finetune" if any(n is not None for n in of_run) else None
    cleared, others = [], []
    for experiment in load_experiments(find_params(arguments.experiment)).values():
        for path, job in failures(Layout(Path(arguments.results) / experiment.name)):
            (cleared if fits(job, stage, names) else others).append(path)
    for path in cleared:
        failure = read_failure(path)
        path.unlink()
        print(f"cleared: {path}" + (f" ({failure['message'].splitlines()[0]})" if failure else ""))
    if not cleared:
        kept = "; there are " + ", ".join(map(str, others)) if others else ""
        print(f"nothing to clear{kept}")


def failures(layout: Layout) -> list[tuple[Path, tuple[str, ...]]]:
    """What is kept of failures, with stage and names of the job."""
    found = sorted(layout.states.rglob(NAME))
    return [(path, path.parent.relative_to(layout.states).parts) for path in found]


def fits(job: tuple[str, ...], stage: str | None, names: tuple[str | int | None, ...]) -> bool:
    """Whether this is the named job; a name that is None fits all.  stage: None fits all jobs."""
    if stage is None:
        return True
    if job[0] != stage or len(job) != 1 + len(names):
        return False
    return all(wanted is None or str(wanted) == given for wanted, given in zip(names, job[1:], strict=True))
