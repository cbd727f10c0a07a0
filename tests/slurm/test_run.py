"""`snakemake --profile slurm` on a real SLURM with pretend GPUs: the run, what it refuses, what happens to jobs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from slurm_project import ROOT, Project, new_project
from trainings import status_of, stopped_at_work

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

RUN = ("snakemake", "--profile", "slurm", "--config", "experiment=mini")
PARTS = ("data", "extractor", "reference", "backbones", "learngenes", "adapters", "samples", "runs")
TRAINED = ("backbones", "learngenes", "adapters")
GROUPED = (*RUN[:3], "--workflow-profile", "slurm/grouped", *RUN[3:])
SLICE = 30  # seconds, the longest that a job of a minute trains before it saves and ends
GPU_JOBS = 9  # reference; pretrain, finetune, sample and evaluate twice


def test_a_run_gives_the_bytes_of_a_local_one(cluster, local, tmp_path):
    project = new_project(tmp_path / "work", cluster)
    shutil.copy(local.folder / "params" / "mini.yaml", project.folder / "params")
    run = project.run(*RUN)
    assert run.code == 0, run.output
    assert differences(project, local, *PARTS) == []
    states, gpus, _ = zip(*asked_for(project), strict=True)
    assert len(states) == 13 and set(states) == {"COMPLETED"}
    assert sum(asked.endswith("gpu:1") for asked in gpus) == GPU_JOBS
    assert "Nothing to be done" in project.run(*RUN, "--dry-run").output
    log = (project.results / "logs/finetune/novel.kind.0.log").read_text()
    assert " --minutes 240 " in log.splitlines()[0], "the profile's runtime"
    assert "this job runs on the CPU" in log, "a GPU was given, and none is there"


def test_what_the_cluster_lacks_is_said_before_anything_is_submitted(cluster, copied, tmp_path):
    project = on(cluster, copied)
    shutil.rmtree(project.results)
    other_profile(
        project,
        ("pretrain: *pre_training", "pretrain: {<<: *pre_training, gpu: 3}"),
        ("finetune: *training", "finetune: {<<: *training, slurm_partition: gpus}"),
    )
    command = ("snakemake", "--profile", "other", "--config", "experiment=mini")
    before = project.asks("squeue", "--states=all", "--noheader")
    run = project.run(*command, MLFLOW_TRACKING_URI="http://127.0.0.1:9", KIND_TRACKING="on")
    assert run.code == 2, run.output
    lines = [line for line in run.output.splitlines() if line.startswith("  - ")]
    assert sorted(line.split()[1] for line in lines) == ["GPUs:", "partition", "tracking"], run.output
    assert "  - GPUs: pretrain ask for 3, partition main has at most 2 a node" in run.output
    assert project.asks("squeue", "--states=all", "--noheader") == before
    check = ("python", "-m", "kind", "check", "--experiment", "mini", "--profile", "slurm")
    by_hand = project.run(*check)
    assert by_hand.code == 0 and "slurm/config.yaml: in order (executor slurm)" in by_hand.output
    nobody = tmp_path / "slurm.conf"
    nobody.write_text(re.sub("SlurmctldPort=[0-9]+", "SlurmctldPort=9", cluster.read_text()))
    by_hand = project.run(*check, SLURM_CONF=str(nobody))
    assert by_hand.code == 2 and "  - slurmctld: sinfo " in by_hand.output


def test_groups_ask_for_one_gpu_and_end_with_the_same_bytes_where_the_time_of_their_last_attempt_is_allowed(
    cluster, local, copied
):
    project = on(cluster, copied)
    for part in ("adapters", "samples", "runs"):
        shutil.rmtree(project.results / part)
    wanted = [f"results/mini/runs/novel/{method}/seed_0/evaluate.json" for method in ("kind", "lora")]
    command = (*GROUPED[:5], *wanted, *GROUPED[5:])
    project.asks("scontrol", "update", "PartitionName=main", "MaxTime=1440")
    try:
        run = project.run(*command)
    finally:
        project.asks("scontrol", "update", "PartitionName=main", "MaxTime=UNLIMITED")
    minutes = 2 * (240 + 3 * 480 + 3 * 120)
    assert run.code == 2, run.output
    assert [line for line in run.output.splitlines() if line.startswith("  - ")] == [
        f"  - time: a group of 6 jobs (evaluate, finetune, sample) ask for up to {minutes} minutes, partition main "
        "allows 1440; set runtime in slurm/config.yaml, or fewer runs in a group (group-components)"
    ]
    run = project.run(*command)
    assert run.code == 0, run.output
    ((state, gpus, limit),) = asked_for(project)
    assert state == "COMPLETED" and gpus.endswith("gpu:1")
    assert limit == "1-04:00:00", "the first attempt's times, one after the other"
    assert differences(project, local, "adapters", "samples", "runs") == []


def test_a_training_in_several_slices_of_its_time_ends_with_the_same_bytes(local, copied):
    project = copied
    for part in ("adapters", "runs"):
        shutil.rmtree(project.results / part / "novel" / "kind")
    params = project.folder / "params" / "mini.yaml"
    old, new = "checkpoint_seconds: 0.001", "checkpoint_seconds: 0.001, spare_seconds: 600, slices: 3"
    params.write_text(params.read_text().replace(old, new))
    wanted = "results/mini/runs/novel/kind/seed_0/finetune.json"
    asked = ("--set-resources", "finetune:runtime=1", "--config", "experiment=mini")
    running = project.start("snakemake", "--profile", "local", wanted, *asked)
    workers = [None]
    try:
        for _ in range(2):
            state = project.state("finetune/novel/kind/0")
            workers.append(stopped_at_work(state, running=running, after=workers[-1]))
            time.sleep(SLICE + 1)  # its time passes, however fast the machine is
            os.kill(workers[-1], signal.SIGCONT)
        output, _ = running.communicate()
    finally:
        running.kill()
    assert running.returncode == 0, output
    assert output.count("Trying to restart job") == 2, output
    assert "time is up after step" in output
    log = (project.results / "logs/finetune/novel.kind.0.log").read_text()
    assert " --minutes 1 " in log.splitlines()[0] and "resuming after step" in log
    assert differences(project, local, "adapters/novel/kind") == []


def test_jobs_that_are_cancelled_killed_or_out_of_time_are_tried_again_and_end_with_the_same_bytes(
    cluster, local, copied
):
    """Out of time: ended by SLURM, and by themselves before it; each attempt of those asks for more."""
    project = on(cluster, copied)
    more = "finetune: {<<: *training, runtime: 10 * attempt - 9, mem_mb: 1000 * attempt}"
    other_profile(project, ("finetune: *training", more))
    for part in TRAINED:
        shutil.rmtree(project.results / part)
    shutil.rmtree(project.results / "runs" / "novel" / "lora")
    shutil.rmtree(project.results / "runs" / "novel" / "kind")
    wanted = [f"results/mini/backbones/{name}/pretrain.json" for name in ("dense", "kind")]
    wanted.append("results/mini/runs/novel/kind/seed_0/finetune.json")
    running = project.start("snakemake", "--profile", "other", *wanted, *RUN[3:])
    try:
        stopped_at_work(project.state("pretrain/dense"), running=running)  # or it were ready before its minute is over
        (number,) = jobs_of(project, "pretrain", "dense")
        project.asks("scontrol", "update", f"JobId={number}", "TimeLimit=1")
        stopped_at_work(project.state("pretrain/kind"), running=running)
        (cancelled,) = jobs_of(project, "pretrain", "kind")
        project.asks("scancel", cancelled)
        while not (found := jobs_of(project, "finetune", "novel_kind_0")):
            assert running.poll() is None, running.stdout.read()
            time.sleep(0.2)
        (of_a_minute,) = found
        asked = [limits_of(project, of_a_minute)]
        # its minute is over for itself alone: SLURM would end it while it starts, on a busy machine
        project.asks("scontrol", "update", f"JobId={of_a_minute}", "TimeLimit=60")
        worker = stopped_at_work(state := project.state("finetune/novel/kind/0"), running=running)
        time.sleep(SLICE + 1)
        os.kill(worker, signal.SIGCONT)
        worker = stopped_at_work(state, running=running, after=worker)
        asked += [limits_of(project, one) for one in jobs_of(project, "finetune", "novel_kind_0")]
        os.kill(worker, signal.SIGKILL)
        output, _ = running.communicate()
    finally:
        running.kill()
    assert running.returncode == 0, output
    assert state_of(project, number) == "TIMEOUT" and state_of(project, cancelled) == "CANCELLED"
    assert state_of(project, of_a_minute) == "FAILED"
    assert "time is up after step" in output, "with exit code 75, as it says so"
    assert asked == ["1:00 1000M", "11:00 2000M"], "its times and memory"
    assert output.count("Trying to restart job") == 4, output
    for name in ("pretrain/dense", "pretrain/kind", "finetune/novel.kind.0"):
        assert "resuming after step" in (project.results / "logs" / f"{name}.log").read_text(), name
    assert differences(project, local, "backbones", "adapters/novel/kind") == []


@pytest.mark.parametrize("profile", ["local", "slurm"])
def test_after_snakemake_was_killed_recover_and_the_same_command_end_with_the_same_bytes(
    request, local, copied, profile
):
    project = on(request.getfixturevalue("cluster"), copied) if profile == "slurm" else copied
    shutil.rmtree(project.results / "backbones" / "kind")
    wanted = "results/mini/backbones/kind/pretrain.json"
    command = ["snakemake", "--profile", profile, wanted, "--config", "experiment=mini"]
    recover = ("python", "-m", "kind", "recover", "--profile", profile, "--experiment", "mini")
    killed = project.start(*command)
    worker = stopped_at_work(project.state("pretrain/kind"), running=killed)  # still there when it is looked for
    assert "Snakemake is running here" in project.run(*recover).output
    killed.kill()
    killed.wait()  # what it left running has its pipe, too
    killed.stdout.close()
    assert alive(worker)

    locked = project.run(*command)
    assert locked.code != 0 and "LockException" in locked.output
    recovered = project.run(*recover)
    assert recovered.code == 0, recovered.output
    assert not alive(worker)
    assert "Snakemake's lock: taken away" in recovered.output
    assert recovered.output.splitlines()[-1] == f"to go on: snakemake --profile {profile} --config experiment=mini"
    again = project.run(*command)
    assert again.code == 0, again.output
    assert "resuming after step" in (project.results / "logs" / "pretrain" / "kind.log").read_text()
    assert differences(project, local, "backbones/kind") == []


# --- what they share ----------------------------------------------------------------------------------------------


def on(cluster: Path, project: Project) -> Project:
    return Project(project.folder, cluster)


def differences(found: Project, wanted: Project, *parts: str) -> list[str]:
    ours, theirs = found.checksums(*parts), wanted.checksums(*parts)
    assert theirs
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def other_profile(project: Project, *changes: tuple[str, str]) -> None:
    """A copy of the profile with these changes, as `--profile other`."""
    text = (ROOT / "slurm" / "config.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (project.folder / "other").mkdir()
    (project.folder / "other" / "config.yaml").write_text(text)


def asked_for(project: Project) -> list[list[str]]:
    """State, GPUs and time limit of all jobs of this folder, ended ones, too."""
    columns = "State:20,tres-per-job:40,TimeLimit:20,WorkDir:400"
    lines = [line.split() for line in project.asks("squeue", "--states=all", "--noheader", "-O", columns).splitlines()]
    return [line[:3] for line in lines if line[3:] == [str(project.folder)]]


def jobs_of(project: Project, rule: str, name: str) -> list[str]:
    queue = project.asks("squeue", "--noheader", "--states=RUNNING", "--format", "%i|%Z|%k").splitlines()
    comment = f"{project.folder}|rule_{rule}_wildcards_mini_{name}"
    return [line.partition("|")[0] for line in queue if line.partition("|")[2] == comment]


def limits_of(project: Project, number: str) -> str:
    """Time and memory that it asked for."""
    return project.asks("squeue", "--noheader", "--jobs", number, "--format", "%l %m")


def state_of(project: Project, number: str) -> str:
    return project.asks("squeue", "--noheader", "--states=all", "--jobs", number, "--format", "%T")


def alive(pid: int) -> bool:
    return status_of(pid) not in (None, "Z")
