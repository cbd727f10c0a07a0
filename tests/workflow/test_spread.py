"""Runs shared by several jobs, and jobs on several GPUs, with the real Snakefile."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from workspace import ROOT, environment, snakemake

from kind.artifacts import read_json, write_sealed_json

pytestmark = pytest.mark.workflow

ONE = "checkpoint_seconds: 0.001"
SPREAD = f"{ONE}, sampling_jobs: 3, feature_jobs: 2"
RUN = "novel/kind/seed_0"
GUIDANCE = ("guidance_scale: 1.5", "guidance_scale: 2.0")


def test_another_number_of_jobs_makes_nothing_anew_and_counts_for_what_is_new(copied):
    copied.edit(ONE, SPREAD)
    assert "Nothing to be done" in copied.snakemake("--dry-run").output
    copied.edit(*GUIDANCE)
    planned = copied.snakemake("--dry-run").planned
    assert planned == {
        "sample_part": 6, "sample": 2, "evaluate_part": 4, "evaluate": 2, "report": 1, "all": 1
    }  # fmt: skip


def checksums(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_a_run_of_several_jobs_one_of_them_killed_is_the_run_of_one(finished, copied):
    samples, metrics = copied.results / "samples" / RUN, copied.results / "runs" / RUN / "metrics.json"
    wanted, numbers = checksums(samples), read_json(metrics)
    shutil.rmtree(samples)
    shutil.rmtree(copied.results / "features")
    metrics.unlink()
    copied.edit(ONE, SPREAD)
    (metrics.parent / "sample.json").unlink()  # as before the run's first attempt
    (metrics.parent / "evaluate.json").unlink()

    # a part that is killed once it has left a piece
    state = copied.results / "state" / "sample" / RUN.replace("seed_", "")
    arguments = ["--task", "novel", "--method", "kind", "--seed", "0", "--part", "1/1"]
    killed = subprocess.Popen(
        copied.stage("sample", *arguments), cwd=copied.folder, env=environment(), stderr=subprocess.PIPE
    )
    while not any(state.rglob("piece_*.npz")):
        assert killed.poll() is None, killed.stderr.read().decode()
        os.sched_yield()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    for late in sorted(state.rglob("piece_*.npz"))[1:]:  # however late it was killed
        late.unlink()

    target = str(metrics.relative_to(copied.folder))
    run = copied.snakemake(target)
    assert run.code == 0, run.output
    assert run.planned == {"sample_part": 3, "sample": 1, "evaluate_part": 2, "evaluate": 1}
    assert checksums(samples) == wanted
    logs = copied.results / "logs" / "sample_part"
    assert "40/40" not in (logs / "novel.kind.0.1_of_3.log").read_text(), "its piece was there"
    assert "20/20" in (logs / "novel.kind.0.3_of_3.log").read_text()
    found, whole = (read_json(each.results / "runs" / RUN / "sample.json") for each in (copied, finished))
    assert found["jobs"] == 3 and found["outputs"] == whole["outputs"] and found["inputs"] == whole["inputs"]
    found = read_json(metrics)
    del found["provenance"], numbers["provenance"]
    assert found == numbers
    left = [path for path in (copied.results / "state").rglob("*") if path.is_file()]
    assert not left, "parts and pieces are taken away"

    for old, new in ((SPREAD, ONE), (ONE, SPREAD.replace("3", "5"))):
        copied.edit(old, new)
        assert "Nothing to be done" in copied.snakemake("--dry-run", target).output


@pytest.mark.slow
def test_parts_of_a_run_that_was_stopped_count_under_another_number(copied):
    """Planned, and recorded, as what they are: the run is not made a second time."""
    copied.edit(ONE, SPREAD)
    copied.edit(*GUIDANCE)
    parts = [f"results/mini/state/parts/sample/novel.kind.0.{part}_of_3.json" for part in (1, 2, 3)]
    assert copied.snakemake("--notemp", *parts).code == 0
    copied.edit(SPREAD, ONE)
    target = f"results/mini/runs/{RUN}/metrics.json"
    run = copied.snakemake(target)
    assert run.code == 0, run.output
    assert read_json(copied.results / "runs" / RUN / "sample.json")["jobs"] == 3
    assert "Nothing to be done" in copied.snakemake("--dry-run", target).output
    assert not any((copied.results / "state").rglob("*.json")), "the parts' records are taken away"


@pytest.mark.slow
def test_a_job_of_a_cluster_makes_what_was_planned_whatever_the_records_say_by_then(copied):
    """Its Snakemake reads all anew: the record of the run before has three parts, and its recipe is that of now."""
    record = copied.results / "runs" / RUN / "sample.json"
    content = read_json(record)
    write_sealed_json(record, {key: value for key, value in content.items() if key != "sha256"} | {"jobs": 3})
    shutil.rmtree(copied.results / "samples" / RUN)
    job = "sample:experiment=mini,task=novel,method=kind,seed=0"
    run = copied.snakemake("--mode", "remote", "--cores", "1", "--target-jobs", job, "--force")
    assert run.code == 0, run.output
    assert "jobs" not in read_json(record)
    assert not (copied.results / "logs" / "sample_part").exists()


def grouped(workspace):
    """What goes into each job of a cluster by slurm/grouped: [(rule, task), ...]."""
    run = snakemake(
        "--snakefile", str(ROOT / "Snakefile"), "--profile", str(ROOT / "slurm"), "--workflow-profile",
        str(ROOT / "slurm" / "grouped"), "--directory", str(workspace.folder), "--dry-run", "--config",
        "experiment=params/mini.yaml",
    )  # fmt: skip
    assert run.code == 0, run.output
    _, *groups = re.split(r"Group job \S+", run.output)
    inside = [re.findall(r"^    Job \d+: mini: (\w+) (\w+)", group, re.M) for group in groups]
    return [sorted(jobs) for jobs in inside]


@pytest.mark.slow
def test_small_runs_of_a_task_are_one_job_of_a_cluster(workspace):
    workspace.edit(ONE, SPREAD)
    (jobs,) = grouped(workspace)
    parts = [("sample", "novel")] * 6 + [("features", "of")] * 4
    assert jobs == sorted([*parts, *2 * [(rule, "novel") for rule in ("finetune", "sample", "evaluate")]])


@pytest.mark.slow
def test_trials_and_what_waits_for_them_are_in_different_jobs(workspace):
    shutil.copy(Path(__file__).with_name("tuned.yaml"), workspace.params)
    tasks = [{task for _, task in jobs} for jobs in grouped(workspace)]
    assert sorted(tasks, key=min) == [{"novel"}, {"practice"}]


@pytest.mark.slow
def test_jobs_of_this_machine_are_limited_to_its_gpus(copied):
    """One pretend GPU and two runs: one is sampled after the other, on the CPU as it turns out."""
    copied.edit(*GUIDANCE)
    copied.edit("device: cpu", "device: auto")
    targets = [f"results/mini/runs/novel/{method}/seed_0/sample.json" for method in ("kind", "lora")]
    run = copied.snakemake(*targets, "--cores", "2", "--verbose", variables={"CUDA_VISIBLE_DEVICES": "0"})
    assert run.code == 0, run.output
    assert re.search(r'Provided resources: gpu=(1|Resource\("gpu", 1\))', run.output)
    assert re.findall(r"Selected jobs: ([12])", run.output) == ["1", "1"]
    assert set(re.findall(r"after job selection: .*'gpu': (\d)", run.output)) == {"0"}
