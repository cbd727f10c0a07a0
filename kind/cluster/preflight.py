"""What a run on a cluster lacks, a line each, before anything is submitted.  Every question has a time limit."""

from __future__ import annotations

import getpass
import re
import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kind.cluster import slurm

if TYPE_CHECKING:
    from kind.params.compute import Compute

SETTINGS = "slurm/config.yaml"
TRAININGS = ("pretrain", "finetune")  # rules that may train in several processes
SERVER_PATIENCE = 5.0  # seconds, for its next word
ANSWER_PATIENCE = 10.0  # for all of it, its name's address included
LONGEST_PAUSE = 180  # seconds between two looks of the executor at its jobs


@dataclass(frozen=True)
class Request:
    """What jobs of a rule ask for at the last attempt.  None: nothing is asked.

    jobs: of Snakemake's, in one of SLURM's; of a group more than one.
    """

    rule: str
    partition: str | None = None
    account: str | None = None
    gpus: int = 0
    minutes: int | None = None
    memory_mb: int | None = None
    jobs: int = 1


def lacking_on_cluster(requests: Iterable[Request], status_command: str | None = None) -> list[str]:
    """What SLURM lacks for these jobs."""
    if shutil.which("sbatch") is None:
        return ["sbatch: the executor slurm submits jobs with it; run this where Slurm is, or with --profile local"]
    requests = list(requests)
    try:
        found = slurm.nodes()
        remembered = slurm.seconds_that_jobs_are_remembered() if status_command == "squeue" else None
    except slurm.NoAnswer as error:
        return [f"slurmctld: {error}; ask `sinfo` by hand, and whoever runs the cluster"]
    lines = [*_partitions(requests, found), *_accounts(requests)]
    if remembered is not None and remembered <= LONGEST_PAUSE:
        lines.append(
            f"MinJobAge: squeue forgets a job {remembered} s after its end, and Snakemake looks at most every "
            f"{LONGEST_PAUSE} s; set `slurm-status-command: sacct` in {SETTINGS}"
        )
    return lines


def lacking_for_processes(requests: Iterable[Request], trainings: Iterable[tuple[str, Compute]]) -> list[str]:
    """Trainings, rules with what the params say of them, in more processes than they get GPUs.  Without any they may
    be meant for the CPU."""
    processes: dict[str, int] = {}
    for rule, compute in trainings:
        if compute.device != "cpu":
            processes[rule] = max(processes.get(rule, 0), getattr(compute.processes, rule))
    return [
        f"GPUs: {request.rule} ask for {request.gpus}, but compute.processes.{request.rule} is "
        f"{processes[request.rule]}; set `gpu: {processes[request.rule]}, nodes: 1` in {SETTINGS}"
        for request in requests
        if 0 < request.gpus < processes.get(request.rule, 0)
    ]


def lacking_server(uri: str | None) -> list[str]:
    """An MLflow server that is named and does not answer.  A name and password in its address are left out."""
    if not (uri or "").startswith(("http://", "https://")):
        return []
    import http.client  # here, since every job of a cluster imports this file
    import urllib.error
    import urllib.request

    uri = re.sub(r"//[^/?#]*@", "//", uri, count=1)  # it may answer that a password is missing: it answers

    def ask() -> None:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_PATIENCE).close()  # noqa: S310  http alone

    try:
        _within(ANSWER_PATIENCE, ask)
        return []
    except urllib.error.HTTPError as error:
        if error.code < 500:  # it asks for a password, or is another version
            return []
        reason = f"answers {error.code}"
    except http.client.HTTPException as error:  # an address that is none, an answer that is no HTTP
        reason = f"does not answer as a server does ({type(error).__name__}: {error})"
    except (OSError, ValueError) as error:  # urllib's own, time-outs
        reason = f"does not answer ({getattr(error, 'reason', None) or error})"
    return [
        f"tracking server: {uri}, which MLFLOW_TRACKING_URI names, {reason}; start it (python -m kind server), or go "
        "without (KIND_TRACKING=off) and bring runs in later (python -m kind track)"
    ]


def _within(seconds: float, ask: Callable[[], None]) -> None:
    """Raises what `ask` raises, and TimeoutError when it takes longer: nothing else ends a search for a name's address,
    or an answer that comes letter by letter."""
    import queue
    import threading

    ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            ask()
        except Exception as error:  # noqa: BLE001  raised below
            ended.put(error)
        else:
            ended.put(None)

    threading.Thread(target=run, daemon=True).start()  # one that never ends keeps no process alive
    try:
        error = ended.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no whole answer within {seconds:g} s") from None
    if error is not None:
        raise error


def _partitions(requests: list[Request], found: list[slurm.Nodes]) -> list[str]:
    names = list(dict.fromkeys(nodes.partition for nodes in found))
    defaults = [nodes.partition for nodes in found if nodes.default]
    by_partition: dict[str, list[Request]] = {}
    lines = []
    for request in requests:
        if (name := request.partition or next(iter(defaults), None)) is not None:
            by_partition.setdefault(name, []).append(request)
    if any(request.partition is None for request in requests) and not defaults:
        lines.append(f"partition: the cluster has no default one; set slurm_partition in {SETTINGS} to one of "
                     f"{', '.join(names) or 'none'}")  # fmt: skip
    for name, asking in by_partition.items():
        theirs = [nodes for nodes in found if nodes.partition == name]
        if not theirs:
            lines.append(f"partition {name} (for {_rules(asking)}): the cluster has {', '.join(names) or 'none'}; "
                         f"set slurm_partition in {SETTINGS}")  # fmt: skip
        elif not any(nodes.usable for nodes in theirs):
            lines.append(f"partition {name} (for {_rules(asking)}): none of its nodes is up")
        else:
            lines += _limits(name, asking, theirs)
    return lines


def _limits(name: str, asking: list[Request], theirs: list[slurm.Nodes]) -> list[str]:
    """What no node of a partition can give."""
    lines = []
    most = max(nodes.gpus for nodes in theirs)
    if wanting := [request for request in asking if request.gpus > most]:
        has = f"has at most {most} a node" if most else "has none"
        asked = max(request.gpus for request in wanting)
        lines.append(f"GPUs: {_rules(wanting)} ask for {asked}, partition {name} {has}; set slurm_partition or "
                     f"gpu in {SETTINGS} (gpu: 0 on a cluster without)")  # fmt: skip
    limits = [nodes.minutes for nodes in theirs]
    longest = None if None in limits else max(limits)
    if longest is not None and (wanting := _above(asking, lambda request: request.minutes, longest)):
        fewer = ", or fewer runs in a group (group-components)" if any(r.jobs > 1 for r in wanting) else ""
        lines.append(f"time: {_rules(wanting)} ask for up to {max(r.minutes for r in wanting)} minutes, partition "
                     f"{name} allows {longest:g}; set runtime in {SETTINGS}{fewer}")  # fmt: skip
    memory = max(nodes.memory_mb for nodes in theirs)
    if wanting := _above(asking, lambda request: request.memory_mb, memory):
        lines.append(f"memory: {_rules(wanting)} ask for up to {max(r.memory_mb for r in wanting)} MB, nodes of "
                     f"partition {name} have {memory}; set mem_mb in {SETTINGS}")  # fmt: skip
    return lines


def _above(asking: list[Request], what: Callable[[Request], int | None], limit: float) -> list[Request]:
    return [request for request in asking if (what(request) or 0) > limit]


def _accounts(requests: list[Request]) -> list[str]:
    wanted = list(dict.fromkeys(request.account for request in requests if request.account))
    if not wanted:
        return []
    user = getpass.getuser()
    try:
        known = slurm.accounts(user)
    except slurm.NoAnswer as error:
        return [f"account {', '.join(wanted)}: the cluster does not say which there are ({error}); leave slurm_account "
                f"out of {SETTINGS}"]  # fmt: skip
    return [
        f"account {name}: not one of those that {user} may use ({', '.join(known) or 'none'}); set slurm_account in "
        f"{SETTINGS}"
        for name in wanted
        if name.lower() not in {one.lower() for one in known}
    ]


def _rules(requests: Collection[Request]) -> str:
    return ", ".join(dict.fromkeys(request.rule for request in requests))
