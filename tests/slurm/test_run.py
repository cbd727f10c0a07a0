"""`snakemake --profile slurm` on a real SLURM with pretend GPUs: the run, what it refuses, what happens to jobs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from slurm_project import Project, new_project

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

RUN = ("snakemake", "--profile", "slurm", "--config", "experiment=mini")
PARTS = ("data", "extractor", "reference", "backbones", "learngenes", "adapters", "samples", "runs")
TRAINED = ("backbones", "learngenes", "adapters")
GPU_JOBS = 9  # reference; pretrain, finetune, sample and evaluate twice


def test_a_run_gives_the_bytes_of_a_local_one(cluster, local, tmp_path):
    project = new_project(tmp_path / "work", cluster)
    shutil.copy(local.folder / "params" / "mini.yaml", project.folder / "params")
    run = project.run(*RUN)
    assert run.code == 0, run.output
    assert differences(project, local, *PARTS) == []
    states = project.asks("squeue", "--states=all", "--noheader", "--format", "%T %b|%Z").splitlines()
    ours = [line.partition("|")[0] for line in states if line.endswith(f"|{project.folder}")]
    assert len(ours) == 13 and {line.split()[0] for line in ours} == {"COMPLETED"}
    assert sum("gpu:1" in line for line in ours) == GPU_JOBS
    assert "Nothing to be done" in project.run(*RUN, "--dry-run").output
    log = (project.results / "logs/finetune/novel.kind.0.log").read_text()
    assert "this job runs on the CPU" in log, "a GPU was given, and none is there"


def test_what_the_cluster_lacks_is_said_before_anything_is_submitted(cluster, copied, tmp_path):
    project = on(cluster, copied)
    shutil.rmtree(project.results)
    asked = ("--set-resources", "pretrain:gpu=3", "finetune:slurm_partition=gpus", "--config", "experiment=mini")
    before = project.asks("squeue", "--states=all", "--noheader")
    run = project.run(*RUN[:3], *asked, MLFLOW_TRACKING_URI="http://127.0.0.1:9", KIND_TRACKING="on")
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


def test_jobs_that_are_cancelled_killed_or_out_of_time_are_tried_again_and_end_with_the_same_bytes(
    cluster, local, copied
):
    project = on(cluster, copied)
    for part in TRAINED:
        shutil.rmtree(project.results / part)
    shutil.rmtree(project.results / "runs" / "novel" / "lora")
    shutil.rmtree(project.results / "runs" / "novel" / "kind")
    wanted = [f"results/mini/backbones/{name}/pretrain.json" for name in ("dense", "kind")]
    wanted.append("results/mini/runs/novel/kind/seed_0/finetune.json")
    running = project.start(*RUN[:3], *wanted, *RUN[3:])
    try:
        out_of_time = at_work(project, "pretrain/dense", running)
        os.kill(out_of_time, signal.SIGSTOP)  # it would be ready before its minute is over
        (number,) = jobs_of(project, "pretrain", "dense")
        project.asks("scontrol", "update", f"JobId={number}", "TimeLimit=1")
        at_work(project, "pretrain/kind", running)
        (cancelled,) = jobs_of(project, "pretrain", "kind")
        project.asks("scancel", cancelled)
        os.kill(at_work(project, "finetune/novel/kind/0", running), signal.SIGKILL)
        output, _ = running.communicate()
    finally:
        running.kill()
    assert running.returncode == 0, output
    assert state_of(project, number) == "TIMEOUT" and state_of(project, cancelled) == "CANCELLED"
    assert output.count("Trying to restart job") == 3, output
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
    worker = at_work(project, "pretrain/kind", killed)
    os.kill(worker, signal.SIGSTOP)  # so that it is still there when it is looked for
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


def at_work(project: Project, job: str, snakemake: subprocess.Popen) -> int:
    """The process of a training job, as soon as it has saved something."""
    state = project.results / "state" / job
    while not (state / "training.pt").exists():
        assert snakemake.poll() is None, snakemake.stdout.read()
        time.sleep(0.005)
    return int((state / "lock").read_text().split()[0])


def jobs_of(project: Project, rule: str, name: str) -> list[str]:
    queue = project.asks("squeue", "--noheader", "--states=RUNNING", "--format", "%i|%Z|%k").splitlines()
    comment = f"{project.folder}|rule_{rule}_wildcards_mini_{name}"
    return [line.partition("|")[0] for line in queue if line.partition("|")[2] == comment]


def state_of(project: Project, number: str) -> str:
    return project.asks("squeue", "--noheader", "--states=all", "--jobs", number, "--format", "%T")


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()
