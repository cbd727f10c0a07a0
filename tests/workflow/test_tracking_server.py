"""A real MLflow server that is silent, comes late, is slow, or is killed and started again while models are trained:
they are those of a run without any, byte for byte."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from trainings import held
from workspace import ROOT, Workspace, environment

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "KIND_TRACKING": "on"}
NAMES = ["novel / kind / seed 0", "novel / lora / seed 0", "pretrain / dense", "pretrain / kind", "report"]
SECONDS = 900  # that a server may take to start, or to be told something: a machine may be busy
DELAY = 0.3  # seconds: of all that a slow server is told
LONGER = ("finetune: {steps: 20,", "finetune: {steps: 60,")  # both methods are trained again, and can be met at it


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def without(finished, tmp_path_factory) -> dict[str, bytes]:
    """What the runs are after they were trained for longer, without a server."""
    folder = tmp_path_factory.mktemp("without") / "work"
    shutil.copytree(finished.folder, folder, symlinks=True)
    workspace = Workspace(folder)
    before = made(workspace)
    workspace.edit(*LONGER)
    run = workspace.snakemake()
    assert run.code == 0, run.output
    after = made(workspace)
    assert before.keys() != after.keys(), "models of other steps"
    return after


def made(workspace: Workspace) -> dict[str, bytes]:
    """Weights, samples and losses of the runs."""
    places = ("adapters/**/*.safetensors", "samples/**/*.npz", "runs/**/train.csv")
    files = [path for place in places for path in workspace.results.glob(place)]
    return {str(path.relative_to(workspace.results)): path.read_bytes() for path in files}


@contextlib.contextmanager
def server(folder: Path, port: int, *more: str):
    """What `python -m kind server` starts, once it answers."""
    command = [sys.executable, "-m", "kind", "server", "--port", str(port), "--workers", "1", *more]
    with open(folder / "server.log", "a") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + SECONDS
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
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10):
            return True
    except OSError:
        return False


def status(port: int, host: str, address: str = "127.0.0.1") -> int | None:
    """Of what it answers who reaches it at this address and calls it so; None where nothing listens."""
    connection = http.client.HTTPConnection(address, port, timeout=SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/api/2.0/mlflow/experiments/search?max_results=1", headers={"Host": host})
        except ConnectionRefusedError:
            return None
        return connection.getresponse().status


def runs(port: int) -> list[tuple[str, str, str]]:
    """(name, status, superseded) of all that the server has."""
    from mlflow import MlflowClient

    client = MlflowClient(f"http://127.0.0.1:{port}")
    found = client.search_runs([client.get_experiment_by_name("mini").experiment_id])
    return sorted((run.info.run_name, run.info.status, run.data.tags["superseded"]) for run in found)


def track(workspace: Workspace, port: int) -> None:
    """Brings in what the server lacks, with patience."""
    variables = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(SECONDS)}
    command = [sys.executable, "-m", "kind", "track", "--experiment", "params/mini.yaml"]
    done = subprocess.run(command, cwd=workspace.folder, env=environment() | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Slow(socketserver.ThreadingTCPServer):
    """Stands before the server at `port`, which hears all that it is told so many seconds later."""

    daemon_threads = True

    def __init__(self, port: int):
        self.port, self.heard = port, threading.Event()
        super().__init__(("127.0.0.1", 0), Between)

    def __enter__(self) -> Slow:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.shutdown()
        self.server_close()


class Between(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.server.port)) as far:
            threading.Thread(target=self.pass_on, args=(far, self.request), daemon=True).start()
            self.pass_on(self.request, far, DELAY)

    def pass_on(self, source: socket.socket, target: socket.socket, delay: float = 0) -> None:
        with contextlib.suppress(OSError):  # either may be gone
            while said := source.recv(1 << 16):
                time.sleep(delay)
                if delay:
                    self.server.heard.set()
                target.sendall(said)
            target.shutdown(socket.SHUT_RDWR)


def test_a_server_that_is_silent_and_comes_late_has_everything_afterwards(copied, without, port):
    copied.edit(*LONGER)
    variables = IMPATIENT | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        silent.bind(("127.0.0.1", port))
        silent.listen()  # takes calls and never says a word
        run = copied.snakemake(variables=variables)
    assert run.code == 0, run.output
    assert "note: MLflow has not got everything" in run.output
    assert made(copied) == without
    with server(copied.folder, port):
        track(copied, port)
        assert runs(port) == [(name, "FINISHED", "false") for name in NAMES]


def test_a_slow_server_that_is_killed_and_started_again_while_a_model_is_trained_loses_nothing(copied, without, port):
    with Slow(port) as slow, server(copied.folder, port) as first, contextlib.ExitStack() as again:
        track(copied, port)
        copied.edit(*LONGER)
        variables = IMPATIENT | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{slow.server_address[1]}"}
        running = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *copied.arguments("--cores", "2")],
            cwd=ROOT, env=environment() | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        again.callback(running.kill)
        states = [copied.results / "state/finetune/novel" / method / "0" for method in ("kind", "lora")]
        with held(*states, running=running):  # the other is trained and measured on the second core: there is news
            slow.heard.clear()
            assert slow.heard.wait(SECONDS), "nothing was told while a model was trained"
            kill(first)
            again.enter_context(server(copied.folder, port))
        output, _ = running.communicate()
        assert running.returncode == 0, output
        assert made(copied) == without
        track(copied, port)
        replaced = [(name, "FINISHED", "true") for name in NAMES if "novel" in name or name == "report"]
        assert runs(port) == sorted([*((name, "FINISHED", "false") for name in NAMES), *replaced])


def test_a_server_for_all_addresses_is_called_by_names_of_this_machine_and_no_others(tmp_path, port):
    """A browser that a page has tricked sends the page's name."""
    name, another = socket.gethostname(), "127.0.0.2"  # is this machine, too
    with server(tmp_path, port, "--host", "0.0.0.0"):
        for host in (name, f"{name}:{port}", f"127.0.0.1:{port}", f"localhost:{port}", f"192.168.1.7:{port}"):
            assert status(port, host) == status(port, host, another) == 200, host
        for host in ("page.example", f"page.example:{port}", f"{name}.page.example", "8.8.8.8"):
            assert status(port, host) == 403, host
    with server(tmp_path, port):
        assert status(port, f"127.0.0.1:{port}") == 200
        assert status(port, "page.example") == 403
        assert status(port, f"127.0.0.1:{port}", another) is None, "for this machine alone"
