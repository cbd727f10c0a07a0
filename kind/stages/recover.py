"""After Snakemake was killed: end the jobs that it left running, and take its lock away.

Jobs in SLURM's queue are known by the profile's name prefix and this folder, jobs on this machine by the locks in
their state folders.  What they had saved stays: run again, they go on from there.  It refuses while Snakemake runs.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from kind.cluster import recovery
from kind.cluster.profile import read_profile
from kind.cluster.slurm import NoAnswer
from kind.errors import UserError
from kind.params.file import find_params, load_experiments

EXAMPLE = "python -m kind recover --profile slurm"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile", default="local", metavar="NAME", help="the profile that Snakemake ran with (default: %(default)s)"
    )
    parser.add_argument(
        "--experiment", metavar="NAME", help="the experiment that it ran (default: the one that the profile names)"
    )
    parser.add_argument(
        "--results", default="results", metavar="FOLDER", help="where results lie (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    if arguments.experiment is not None:
        load_experiments(find_params(arguments.experiment))  # Snakemake reads it too, before it unlocks
    profile = read_profile(arguments.profile)
    recovery.refuse_while_running()
    cancelled = []
    if profile.executor == "slurm":
        if not profile.job_prefix:
            raise UserError(
                f"{profile.path}: without slurm-jobname-prefix its jobs cannot be told from others",
                hint="cancel them by hand (squeue --me, scancel), then add slurm-jobname-prefix to the profile",
            )
        try:
            cancelled = recovery.cancel_jobs(f"{profile.job_prefix}_", Path())
        except NoAnswer as error:
            raise UserError(
                f"what is in SLURM's queue cannot be found out or cancelled: {error}",
                hint="run the same command again when `squeue --me` answers",
            )
    found = list(recovery.orphans(Path(arguments.results)))
    recovery.end(found)
    was_locked = any(recovery.LOCKS.glob("*"))
    again = ["snakemake", "--profile", arguments.profile]
    said = [f"experiment={arguments.experiment}"] if arguments.experiment is not None else []
    said += [f"results={arguments.results}"] if arguments.results != "results" else []
    if said:
        again += ["--config", *said]
    if was_locked:
        _unlock(again)
    lines = [
        f"cancelled in the queue: {', '.join(cancelled) or 'nothing'}" if profile.executor == "slurm" else None,
        f"ended: {', '.join(map(str, found)) or 'no process'}",
        f"Snakemake's lock: {'taken away' if was_locked else 'there was none'}",
        f"to go on: {shlex.join(again)}",
    ]
    print("\n".join(filter(None, lines)))


def _unlock(again: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *again, "--unlock"], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"Snakemake could not take its lock away:\n{(done.stdout + done.stderr).strip()}")
