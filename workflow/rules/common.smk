# What all rules share: the experiments, their layouts, and the command of a stage.
# Every cluster job parses this again, so nothing here imports torch.

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))

from kind import recipes
from kind.cluster.preflight import TRAININGS, lacking_for_processes, lacking_on_cluster, lacking_server
from kind.cluster.profile import request_of
from kind.cluster.recovery import hold, release
from kind.errors import UserError
from kind.gpus import count_gpus
from kind.layout import Layout
from kind.methods import METHODS
from kind.params.file import find_params, load_experiments
from kind.parts import feature_jobs, finished_parts, planned_jobs, reference_jobs, sampling_jobs
from kind.stages.check import missing
from kind.stages.choose import chosen_trials
from kind.warm_start import SOCKET

# Jobs run with the interpreter that runs Snakemake, and find the package whatever the working directory is.  Neither
# path is part of a rule's text, so that results made by another installation are not made again.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
KIND = "python -m kind"
PART = "--part {wildcards.part}/{wildcards.parts} "
RESULTS = str(config.get("results", "results"))


def read_experiments():
    """(params file, experiment) by name; a mistake in a file ends the run with one message and exit code 2."""
    try:
        return {found.name: (path, found) for path, found in load_experiments(find_params(EXPERIMENT)).items()}
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


EXPERIMENT = str(config.get("experiment", "smoke"))
EXPERIMENTS = read_experiments()
LAYOUTS = {name: Layout(Path(RESULTS) / name) for name in EXPERIMENTS}
ANY = Layout(Path(RESULTS) / "{experiment}")  # with wildcards, for outputs


wildcard_constraints:
    experiment="|".join(EXPERIMENTS),
    data="[A-Za-z0-9_-]+",
    backbone="[A-Za-z0-9_-]+",
    task="[A-Za-z0-9_-]+",
    method="[A-Za-z0-9_-]+(@[0-9]+)?",  # a trial has a number
    seed="[0-9]+",
    part="[0-9]+",
    parts="[0-9]+",


def is_on(name):
    """A switch: --config NAME=off, or KIND_NAME=off in the environment; on unless said."""
    said = str(config.get(name, os.environ.get(f"KIND_{name.upper()}") or "on")).lower()
    if said not in ("on", "true", "off", "false"):
        print(f"error: {name}: expected on or off, found {said!r}", file=sys.stderr)
        sys.exit(2)
    return said in ("on", "true")


def experiment_of(wildcards):
    return EXPERIMENTS[wildcards.experiment][1]


def layout_of(wildcards):
    return LAYOUTS[wildcards.experiment]


def params_file(wildcards):
    """As seen from the working folder: one file named in two ways is one."""
    return os.path.relpath(EXPERIMENTS[wildcards.experiment][0])


def by_description(paths):
    """Inputs of which the largest are not read: Snakemake hashes a newer input at every plan, and all inputs once for
    every output of a finished job.  Of these `ancient` has it look at the small file beside them alone."""
    return [ancient(path) if Layout.is_described(path) else path for path in paths]


def embedding_files(experiment):
    """The file of class embeddings that the params name; where it is not there, onstart says so."""
    path = experiment.embedding.path
    return [path] if path is not None and Path(path).is_file() else []


def vae_files(experiment, data):
    """The VAE of a data set's latents, as `published_files`; none for pixels."""
    latents = experiment.data[data].latents
    return [] if latents is None else published_files(latents.place(data))


def published_files(place):
    """Weights where they are fetched; a path that the params or a variable name is no input (see onstart)."""
    return place.files if place.said_by is None else []


def threads_of(wildcards):
    return experiment_of(wildcards).compute.threads


def local_gpus():
    """GPUs of this machine, where its jobs run here and may use them."""
    here = workflow.is_main_process and workflow.local_exec
    wanted = any(experiment.compute.device != "cpu" for _, experiment in EXPERIMENTS.values())
    return count_gpus() if here and wanted else 0


def gpus_of(wildcards):
    """What a job takes of them.  On a cluster the profile says what jobs ask for."""
    return min(1, GPUS) if experiment_of(wildcards).compute.device != "cpu" else 0


def gpus_of_all_processes(stage):
    """Of a stage that trains in several."""
    return lambda wildcards: gpus_of(wildcards) * getattr(experiment_of(wildcards).compute.processes, stage)


GPUS = local_gpus()
if GPUS and workflow.global_resources.get("gpu").value is None:  # --resources gpu=N goes first
    workflow.register_resource("gpu", GPUS)


def threads_of_all_processes(stage):
    """Of a stage that trains in several."""
    return lambda wildcards: threads_of(wildcards) * getattr(experiment_of(wildcards).compute.processes, stage)


def given(wildcards, names):
    return [int(value) if name == "seed" else value for name in names for value in [getattr(wildcards, name)]]


@cache
def digest_of(experiment, stage, *names):
    """Asked of each job several times: by its params, and by those that have parts."""
    return recipes.recipe_digest(getattr(recipes, stage)(EXPERIMENTS[experiment][1], *names))


def recipe(stage, *names):
    """Params function: the digest of what this job depends on; see kind/recipes.py."""
    return lambda wildcards: digest_of(wildcards.experiment, stage, *given(wildcards, names))


def parts_of(stage, jobs, records, *names):
    """Input function: what the parts of a job leave, where it has several; see kind/parts.py.

    jobs: how many the params ask for.  records: gives those of the job and of the jobs before it, by stage.
    """

    def of(wildcards):
        layout, own = layout_of(wildcards), given(wildcards, names)
        asked = jobs(experiment_of(wildcards), own[0])
        digests = {
            path: digest_of(wildcards.experiment, made_by, *own) for made_by, path in records(layout, *own).items()
        }
        markers = layout.part(stage, *own)
        if workflow.is_main_process:
            count = planned_jobs(asked, digests, markers)
        else:  # records may have changed since the job was planned
            count = parts_in_this_job(stage, wildcards) or finished_parts(markers, asked, next(iter(digests.values())))
        whole = range(1, count + 1) if count > 1 else []
        return [layout.part(stage, *own, part=number, parts=count) for number in whole]

    return of


def parts_in_this_job(stage, wildcards):
    """In a job of a cluster that is a group: of how many parts of a run it makes some; 0 for none.  Snakemake is told
    what it makes as `--target-jobs RULE:WILDCARD=VALUE,... ...`."""
    targets = (word.partition(":") for word in sys.argv)
    made = (dict(one.split("=", 1) for one in said.split(",")) for rule, _, said in targets if rule == f"{stage}_part")
    mine = dict(wildcards.items())
    return next((int(each["parts"]) for each in made if mine.items() <= each.items()), 0)


def records_of_run(*stages):
    """Of a run's jobs, for `parts_of`."""
    return lambda layout, *run: {stage: layout.record(layout.run(*run), stage) for stage in stages}


# Wall time, as the profile sets it for a rule; 0 is no limit.  The same text everywhere, or rules would be run again.
MINUTES = "--minutes {resources.runtime} "


def retries_of_training():
    """Two more than the slices that a training is planned to take, if several; None: as the profile has it.  In a job
    of its own Snakemake reads this again, and must not try again inside it."""
    slices = max(experiment.compute.slices for _, experiment in EXPERIMENTS.values())
    return slices + 2 if slices > 1 and workflow.is_main_process else None


def command(stage, *names, more=""):
    """Shell command of a stage; its output goes to the rule's log."""
    chosen = " ".join(f"--{name} {{wildcards.{name}:q}}" for name in names)
    return (
        f"{KIND} {stage} --experiment {{params.file:q}} --results {{RESULTS:q}} {chosen} {more}"
        "--recipe {params.recipe} > {log:q} 2>&1"
    )


def resources_at_last(job):
    """Of a job, or of a group of jobs, at the last attempt."""
    now, job.attempt = job.attempt, 1 + job.restart_times
    resources = dict(job.resources.items())
    job.attempt = now
    return resources


def groups_of(jobs):
    """Groups by what is in them; one stands for all that are alike."""
    groups = {group.jobs: group for job in jobs if (group := workflow.dag.get_job_group(job)) is not None}
    return {tuple(sorted(Counter(job.rule.name for job in group).items())): group for group in groups.values()}


def request_of_group(rules, group):
    count = sum(number for _, number in rules)
    name = f"a group of {count} jobs ({', '.join(rule for rule, _ in rules)})"
    return dataclasses.replace(request_of(name, resources_at_last(group)), jobs=count)


def missing_on_cluster():
    """What the planned jobs ask of SLURM and it lacks, and a tracking server that is away: every job would fail, or wait
    for ever, on its own."""
    if not workflow.is_main_process or workflow.executor_plugin.name != "slurm":
        return []
    jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
    planned = {job.rule.name: job for job in jobs}
    requests = [request_of(name, resources_at_last(job)) for name, job in planned.items()]
    grouped = [request_of_group(rules, group) for rules, group in groups_of(jobs).items()]
    trainings = {(job.rule.name, job.wildcards.experiment) for job in jobs if job.rule.name in TRAININGS}
    asked = [(rule, EXPERIMENTS[name][1].compute) for rule, name in sorted(trainings)]
    lacking = lacking_for_processes(requests, asked)
    lacking += lacking_on_cluster(requests + grouped, workflow.executor_settings.status_command)
    uri = os.environ.get("MLFLOW_TRACKING_URI") if is_on("tracking") else None
    return lacking + lacking_server(uri)


RUNNING = []  # what says so, as long as this process lives: see kind/cluster/recovery.py


onstart:
    # Raw data and weights are inputs of no rule, so that a dry run works without them; a real run stops here.
    lacking = [line for _, experiment in EXPERIMENTS.values() for line in missing(experiment)]
    lacking += missing_on_cluster()
    if lacking:
        lines = "\n".join(f"  - {line}" for line in dict.fromkeys(lacking))
        print(f"error: missing on this machine:\n{lines}", file=sys.stderr)
        sys.exit(2)
    RUNNING.append(hold())
    for layout in LAYOUTS.values():
        layout.make_optional_folders()
    start_warm()
    start_tracking()


onsuccess:
    stop_warm()
    stop_tracking()
    release(RUNNING.pop())


onerror:
    stop_warm()
    stop_tracking()
    release(RUNNING.pop())
