"""What a killed Snakemake left behind: found, ended, unlocked; tests/slurm has it with real runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kind.__main__ import main
from kind.cluster import recovery

ROOT = Path(__file__).parents[2]
HOLD = """
import fcntl, os, signal, sys
path, host, deaf = sys.argv[1:]
if deaf == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
handle = open(path, "a")
fcntl.flock(handle, fcntl.LOCK_EX)
handle.write(f"{os.getpid()} on {host}\\n")
handle.flush()
print(flush=True)
signal.pause()
"""
PROFILES = {"local": "executor: local\n", "slurm": "executor: slurm\nslurm-jobname-prefix: kind\n"}


@pytest.fixture
def place(tmp_path, monkeypatch, valid_params) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini.yaml").write_text(valid_params)
    for name, text in PROFILES.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def recover(place, capsys):
    """recover(*arguments) -> (exit code, what it says)."""

    def call(*arguments: str) -> tuple[int, str]:
        code = main(["recover", *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


@pytest.fixture
def holding(place):
    """holding(job, host, hears) -> a process that holds the lock of a job in results/mini."""
    started = []

    def start(job: str = "pretrain/kind", host: str = socket.gethostname(), *, deaf: bool = False) -> subprocess.Popen:
        lock = place / "results" / "mini" / "state" / job / "lock"
        lock.parent.mkdir(parents=True)
        command = [sys.executable, "-c", HOLD, str(lock), host, "deaf" if deaf else ""]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        started[-1].stdout.readline()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_where_nothing_was_left_it_says_how_to_go_on(recover):
    code, said = recover("--experiment", "mini.yaml")
    assert code == 0
    assert said.splitlines()[:3] == [
        "ended: no process",
        "Snakemake's lock: there was none",
        "to go on: snakemake --profile local --config experiment=mini.yaml",
    ]


def test_results_elsewhere_are_named_to_go_on_and_to_unlock(recover, place, monkeypatch):
    (recovery.LOCKS).mkdir(parents=True)
    (recovery.LOCKS / "0.input.lock").touch()
    asked = []
    monkeypatch.setattr("kind.stages.recover._unlock", asked.append)
    code, said = recover("--experiment", "mini.yaml", "--results", "their results")
    assert code == 0
    assert asked == [["snakemake", "--profile", "local", "--config", "experiment=mini.yaml", "results=their results"]]
    assert "to go on: snakemake --profile local --config experiment=mini.yaml 'results=their results'\n" in said


@pytest.mark.parametrize("how", ["asleep", "suspended", "deaf"])
def test_a_process_that_runs_a_job_is_ended(recover, holding, monkeypatch, how):
    monkeypatch.setattr(recovery, "TO_SAVE", 0.3 if how == "deaf" else 60.0)
    process = holding(deaf=how == "deaf")
    if how == "suspended":
        process.send_signal(signal.SIGSTOP)
    other = holding("finetune/novel/kind/0")
    code, said = recover()
    assert code == 0, said
    assert f"process {process.pid} on {socket.gethostname()} (results/mini/state/pretrain/kind/lock)" in said
    assert process.wait() == -(signal.SIGKILL if how == "deaf" else signal.SIGTERM)
    assert other.wait() == -signal.SIGTERM


def test_a_process_elsewhere_is_named_and_left(recover, holding, monkeypatch):
    monkeypatch.setattr(recovery, "TO_SAVE", 0.1)
    monkeypatch.setattr(recovery, "TO_DIE", 0.1)
    process = holding(host="node7")
    code, said = recover()
    assert code == 2 and process.poll() is None
    assert f"  - process {process.pid} on node7 (results/mini/state/pretrain/kind/lock)\n" in said


def test_locks_of_processes_that_are_gone_say_nothing(recover, holding):
    process = holding()
    process.kill()
    process.wait()
    assert "ended: no process" in recover()[1]


def test_it_refuses_while_snakemake_runs_and_only_then(recover, place):
    held = recovery.hold()
    (recovery.RUNNING / "here.1").write_text("1 on here\n")  # of one that was killed
    code, said = recover()
    assert code == 2
    assert f"Snakemake is running here (process {os.getpid()} on {socket.gethostname()})" in said
    recovery.release(held)
    assert recover()[0] == 0
    assert list(recovery.RUNNING.iterdir()) == []


def test_jobs_of_this_folder_are_cancelled_and_no_others(recover, place, programs):
    queue = f"11|kind_3f|{place}\n12|kind_3f|/elsewhere\n13|other|{place}\n14|kind_77|{place}\n"
    folder = programs(squeue=queue, cancels=True)
    code, said = recover("--profile", "slurm")
    assert code == 0, said
    assert "cancelled in the queue: 11, 14\n" in said
    (call,) = [line for line in (folder / "calls").read_text().splitlines() if "/scancel" in line]
    assert call.endswith("/scancel 11 14")


def test_jobs_that_stay_in_the_queue_are_said(recover, place, programs, monkeypatch):
    monkeypatch.setattr(recovery, "FOR_THE_QUEUE", 0.1)
    programs(squeue=f"11|kind_3f|{place}\n")
    code, said = recover("--profile", "slurm")
    assert code == 2 and "jobs that were cancelled are still in the queue: 11\n" in said
    programs(squeue=1)
    code, said = recover("--profile", "slurm")
    assert (
        code == 2
        and "error: what is in SLURM's queue cannot be found out or cancelled: squeue failed: " in said
        and "Traceback" not in said
    )


def test_without_a_prefix_no_job_is_taken_for_one_of_ours(recover, place, programs):
    folder = programs(squeue=f"11|kind_3f|{place}\n")
    (place / "slurm" / "config.yaml").write_text("executor: slurm\n")
    code, said = recover("--profile", "slurm")
    assert code == 2 and "without slurm-jobname-prefix" in said
    assert not (folder / "calls").exists()
