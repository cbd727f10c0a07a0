"""Processes that train together, started by the stage itself: one message, one exit code, nothing left behind."""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest
import torch
from beside import children, ended, run_beside

from kind import processes
from kind.artifacts import load_tensors, read_json
from kind.errors import TRY_AGAIN

ROOT = Path(__file__).resolve().parents[2]
TINY = (ROOT / "tests" / "tiny.yaml").read_text().replace("compute: {device: cpu}", "COMPUTE")
TINY = TINY.replace("steps: 3, batch_size: 8", "steps: 12, batch_size: 8, log_every: 2", 1)
STATE = "results/tiny/state/pretrain/kind"
COMMAND = [sys.executable, "-m", "kind", "pretrain", "--experiment", "tiny.yaml", "--backbone", "kind"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(folder: Path, *more: str, command=COMMAND) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*command, *more], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
    )  # fmt: skip


def write_params(folder: Path, count: int, **compute: object) -> Path:
    lines = {"device": "cpu", "checkpoint_seconds": 0.001, "processes": {"pretrain": count}, **compute}
    said = str(lines).replace("'", "").replace("True", "true")
    (folder / "tiny.yaml").write_text(TINY.replace("COMPUTE", f"compute: {said}"))
    return folder


def made(folder: Path) -> dict[str, str]:
    """Checksums of what pretrain wrote, times apart."""
    found = (folder / "results/tiny/backbones/kind").iterdir()
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found if path.suffix != ".json"}


def started(command: list[str], folder: Path) -> AbstractContextManager[subprocess.Popen]:
    return ended(subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE))


def wait_for_state(whole: subprocess.Popen, folder: Path) -> None:
    while not (folder / STATE / "training.pt").exists():
        with suppress(subprocess.TimeoutExpired):
            whole.wait(0.05)
            raise AssertionError(f"it ended:\n{whole.communicate()[1].decode()}")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """prepared(count) -> a new folder with the data and a params file that trains in so many processes."""
    first = write_params(tmp_path_factory.mktemp("first"), 1)
    assert (
        run(first, command=[*COMMAND[:3], "prepare", "--experiment", "tiny.yaml", "--data", "digits"]).returncode == 0
    )

    def folder(count: int, **compute: object) -> Path:
        new = tmp_path_factory.mktemp("together")
        (new / "results/tiny").mkdir(parents=True)
        (new / "results/tiny/data").symlink_to(first / "results/tiny/data")
        return write_params(new, count, **compute)

    return folder


# --- without training -----------------------------------------------------------------------------------------


def test_a_mistake_that_all_make_is_told_once(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = ["pretrain", "--experiment", str(tmp_path / "none.yaml"), "--backbone", "kind"]
    assert processes.run_together(command, 3) == 2
    said = capfd.readouterr()
    assert said.err.count("error:") == 1 and "none.yaml" in said.err and not said.out


def test_a_process_by_itself_is_the_first_of_one(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "8")  # alone it says nothing
    assert (processes.world(), processes.rank(), processes.local_rank(), processes.of_machine()) == (1, 0, 0, 1)
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert (processes.world(), processes.rank(), processes.local_rank(), processes.of_machine()) == (8, 5, 1, 4)


# --- with training --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(prepared) -> Path:
    folder = prepared(2)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("$ ") == 1, "the command, once"
    assert not (folder / STATE).exists()
    return folder


@pytest.mark.slow
def test_a_slice_ends_for_all_and_goes_on_in_any_number_of_processes(prepared, undisturbed):
    for count in (2, 1):
        folder = prepared(2)
        stopped = run(folder, "--minutes", "0.00001")
        assert stopped.returncode == TRY_AGAIN
        said = [line for line in stopped.stderr.splitlines() if "time is up" in line]
        assert len(said) == 1 and "after step 1 of 12" in said[0]
        assert not (folder / "results/tiny/backbones/kind").exists()
        done = run(write_params(folder, count))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("resuming after step 1") == 1
        if count == 2:
            assert made(folder) == made(undisturbed)
        one, two = (
            load_tensors(of / "results/tiny/backbones/kind/model.safetensors")[0] for of in (folder, undisturbed)
        )
        for name, tensor in one.items():
            torch.testing.assert_close(tensor, two[name], rtol=0, atol=2e-3, msg=name)  # 12 steps of 1e-3 at most
        costs = read_json(folder / "results/tiny/backbones/kind/cost.json")
        assert (costs["processes"], costs["resumes"]) == (count, 1)
    again = run(undisturbed)
    assert again.returncode == 0 and "already done" in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["the first", "the other", "who started them"])
def test_when_one_is_killed_all_end_and_the_run_goes_on(prepared, undisturbed, victim):
    folder = prepared(2)
    with started(COMMAND, folder) as whole:
        wait_for_state(whole, folder)
        workers = sorted(children(whole.pid))
        ends = [os.pidfd_open(worker) for worker in workers]  # readable when it has ended, whoever started it
        chosen = {"the first": workers[0], "the other": workers[1], "who started them": whole.pid}[victim]
        os.kill(chosen, signal.SIGKILL)
        said = whole.communicate(timeout=300)[1].decode()
    if victim != "who started them":
        assert whole.returncode == 128 + signal.SIGKILL
        assert "was ended by SIGKILL" in said and "Traceback" not in said
    for end in ends:
        assert select.select([end], [], [], 300)[0], "a process was left behind"
        os.close(end)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert "resuming after step" in done.stdout
    assert made(folder) == made(undisturbed)


@pytest.mark.slow
def test_a_signal_stops_all_with_their_state(prepared, undisturbed):
    """But one that was ignored when they began, as under nohup."""
    folder = prepared(2)
    with started(["nohup", *COMMAND], folder) as whole:
        wait_for_state(whole, folder)
        whole.send_signal(signal.SIGHUP)
        whole.send_signal(signal.SIGTERM)
        said = whole.communicate(timeout=300)[1].decode()
    assert whole.returncode == TRY_AGAIN and said.count("SIGTERM came after step") == 1
    assert run(folder).returncode == 0
    assert made(folder) == made(undisturbed)


@pytest.mark.slow
def test_a_second_job_is_refused_once(prepared):
    folder = prepared(2)
    (folder / STATE).mkdir(parents=True)
    with open(folder / STATE / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = run(folder)
    assert refused.returncode == 2
    assert refused.stderr.count("error:") == 1 and "another process is running this job" in refused.stderr


@pytest.mark.slow
def test_torchrun_may_start_the_processes(prepared, undisturbed):
    """As on several machines: one node after another says how many there are."""
    folder = prepared(1)
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run(folder, command=[sys.executable, "-m", *torchrun, *COMMAND[1:]])
    assert done.returncode == 0, done.stderr
    assert made(folder) == made(undisturbed)


@pytest.mark.slow
def test_several_machines_train_by_the_command_of_the_docs(prepared, undisturbed):
    """docs/training.md, with one process on each of two machines, both of which are this one."""
    folder, port = prepared(1), free_port()
    command = (ROOT / "docs/training.md").read_text().partition("\nsrun ")[2].partition("```")[0]
    for said, here in (
        ("--nproc-per-node=8", "--nproc-per-node=1"),
        ("$head:29500", f"127.0.0.1:{port}"),
        ("imagenet_l", "tiny.yaml"),
    ):
        assert said in command
        command = command.replace(said, here)
    slurm = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
    tools = os.pathsep.join([str(Path(sys.executable).parent), ENVIRONMENT["PATH"]])
    run_beside([["bash", "-euc", command]] * 2, folder, cwd=folder, env=ENVIRONMENT | slurm | {"PATH": tools})
    assert made(folder) == made(undisturbed)
    assert read_json(folder / "results/tiny/backbones/kind/cost.json")["processes"] == 2


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
