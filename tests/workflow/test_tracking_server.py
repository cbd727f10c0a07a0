"""A real MLflow server that is silent, comes late, or is killed and started again while jobs run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from workspace import ROOT, Workspace, environment

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "KIND_TRACKING": "on"}
NAMES = ["novel / kind / seed 0", "novel / lora / seed 0", "pretrain / dense", "pretrain / kind", "report"]
START_SECONDS = 120


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def server(folder: Path, port: int):
    """What `python -m kind server` starts, once it answers."""
    command = [sys.executable, "-m", "kind", "server", "--port", str(port), "--workers", "1"]
    with open(folder / "server.log", "a") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(port):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its workers too
    process.wait()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
            return True
    except OSError:
        return False


def runs(port: int) -> list[tuple[str, str, str]]:
    """(name, status, superseded) of all that the server has."""
    from mlflow import MlflowClient

    client = MlflowClient(f"http://127.0.0.1:{port}")
    found = client.search_runs([client.get_experiment_by_name("mini").experiment_id])
    return sorted((run.info.run_name, run.info.status, run.data.tags["superseded"]) for run in found)


def track(workspace: Workspace, variables: dict[str, str]) -> None:
    command = [sys.executable, "-m", "kind", "track", "--experiment", "params/mini.yaml"]
    done = subprocess.run(command, cwd=workspace.folder, env=environment() | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_server_that_is_silent_and_comes_late_has_everything_afterwards(copied, port):
    copied.edit("curve: [0.5]", "curve: [0.5]\ndescription: other words")
    before = (copied.results / "runs/novel/kind/seed_0/metrics.json").read_bytes()
    variables = IMPATIENT | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        silent.bind(("127.0.0.1", port))
        silent.listen()  # takes calls and never says a word
        run = copied.snakemake(variables=variables)
    assert run.code == 0, run.output
    assert "note: MLflow has not got everything" in run.output
    assert (copied.results / "runs/novel/kind/seed_0/metrics.json").read_bytes() == before
    with server(copied.folder, port):
        track(copied, variables)
        assert runs(port) == [(name, "FINISHED", "false") for name in NAMES]


def test_a_server_that_is_killed_while_jobs_run_loses_nothing(copied, port):
    variables = IMPATIENT | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    with server(copied.folder, port) as first:
        track(copied, variables)
        copied.edit("lora: {rank: 4}", "lora: {rank: 5}")
        log = copied.results / "logs/finetune/novel.lora.0.log"
        log.unlink()
        running = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *copied.arguments()],
            cwd=ROOT, env=environment() | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        while not log.exists():
            assert running.poll() is None, running.stdout.read()
            time.sleep(0.05)
        kill(first)
        with server(copied.folder, port):
            output, _ = running.communicate()
            assert running.returncode == 0, output
            track(copied, variables)
            before = [(name, "FINISHED", "true") for name in ("novel / lora / seed 0", "report")]  # of rank 4
            assert runs(port) == sorted([*((name, "FINISHED", "false") for name in NAMES), *before])
