"""Jobs that are forks of a process that has imported torch: as if each had run by itself."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kind.warm_start import NUMBER, SOCKET

ROOT = Path(__file__).resolve().parents[1]
PARAMS = (ROOT / "tests" / "tiny.yaml").read_text()


@pytest.fixture(scope="module")
def warm() -> Iterator[dict[str, str]]:
    """Environment of commands that a server answers."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own may be too long for the path of a socket
        path = f"{folder}/socket"
        server = subprocess.Popen(
            [sys.executable, "-m", "kind.warm_start", path], env=environment(), stdin=subprocess.PIPE
        )
        wait_for(Path(path), server)
        yield environment() | {SOCKET: path}
        server.stdin.close()
        assert server.wait() == 0, "it ends with whoever started it"
        assert not Path(path).exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, warm) -> Path:
    """A working folder with prepared data."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "tiny.yaml").write_text(PARAMS)
    done = run(folder, warm, "prepare")
    assert done.returncode == 0, done.stderr
    return folder


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def command(stage: str, *arguments: str, experiment: str = "tiny.yaml") -> list[str]:
    data = ["--data", "digits"] if stage == "prepare" else []
    return [sys.executable, "-m", "kind", stage, "--experiment", experiment, *data, *arguments]


def run(folder: Path, variables: dict[str, str], *arguments: str, **how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments, **how), cwd=folder, env=variables, capture_output=True, text=True)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Until the file is there; fails if the process ends first."""
    while not path.exists():
        assert process.poll() is None, process.stderr
        os.sched_yield()


def test_a_job_runs_where_the_command_does_and_its_output_goes_there(folder, warm):
    done = run(folder, warm, "pretrain", "--backbone", "dense")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("$ ")
    assert "pretrain dense: 3/3" in done.stderr + done.stdout
    assert (folder / "results/tiny/backbones/dense/pretrain.json").is_file()
    again = run(folder, warm, "pretrain", "--backbone", "dense")
    assert (again.returncode, "already done" in again.stderr) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "experiment", "says"),
    [
        (["--backbone", "none"], "tiny.yaml", "none"),
        (["--backbone", "dense"], "absent.yaml", "absent.yaml"),
        (["--no-such-option"], "tiny.yaml", "usage:"),
    ],
    ids=["a mistake", "no params", "a wrong option"],
)
def test_mistakes_end_as_they_do_cold(folder, warm, arguments, experiment, says):
    done = run(folder, warm, "pretrain", *arguments, experiment=experiment)
    cold = run(folder, environment(), "pretrain", *arguments, experiment=experiment)
    assert (done.returncode, done.stdout, done.stderr) == (cold.returncode, cold.stdout, cold.stderr)
    assert done.returncode == 2
    assert says in done.stderr


def long_training(folder: Path, warm: dict[str, str], name: str) -> tuple[subprocess.Popen, Path]:
    """A pre-training of many steps, in the middle; and its log."""
    (folder / f"{name}.yaml").write_text(PARAMS.replace("steps: 3,", "steps: 1000000, log_every: 1,"))
    done = run(folder, warm, "prepare", experiment=f"{name}.yaml")
    assert done.returncode == 0, done.stderr
    process = subprocess.Popen(
        command("pretrain", "--backbone", "dense", experiment=f"{name}.yaml"),
        cwd=folder, env=warm, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log = folder / f"results/{name}/state/pretrain/dense/live.csv"
    wait_for(log, process)
    return process, log


def test_a_job_dies_with_its_command(folder, warm):
    process, log = long_training(folder, warm, "killed")
    process.kill()
    process.communicate()  # ends when nobody holds its output any more: the job is gone, too
    assert process.returncode == -signal.SIGKILL
    assert not (log.parents[3] / "backbones/dense/pretrain.json").exists()


def test_a_command_ends_with_its_job(folder, warm):
    process, log = long_training(folder, warm, "vanished")
    job = int((log.parent / "lock").read_text().split()[0])
    os.kill(job, signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == 137
    assert f"process {job} of this job was killed" in said


def test_an_interrupt_reaches_the_job(folder, warm):
    process, _ = long_training(folder, warm, "interrupted")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "run the same command again" in said


def test_a_command_that_ends_before_it_has_asked_leaves_nothing_behind(warm):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(warm[SOCKET])
        socket.send_fds(connection, [NUMBER.pack(1000)], [0, 1, 2])
        job = NUMBER.unpack(connection.recv(NUMBER.size))[0]
        fork = os.pidfd_open(job)
    assert select.select([fork], [], [], 60)[0], "it waits for the rest"
    os.close(fork)


def test_a_command_whose_folder_is_gone_says_so(tmp_path, warm):
    (tmp_path / "gone").mkdir()
    code = "import os, sys; from kind.__main__ import main; os.rmdir(os.getcwd()); sys.exit(main(sys.argv[1:]))"
    arguments = command("pretrain", "--backbone", "dense")[3:]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path / "gone", env=warm, capture_output=True
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_without_an_answer_a_command_does_the_work_itself(folder, tmp_path):
    nobody = tmp_path / "nobody"
    with socket.socket(socket.AF_UNIX) as closed, tempfile.TemporaryDirectory() as short:
        closed.bind(f"{short}/nobody")  # and does not listen
        for path in (str(nobody), f"{short}/nobody"):
            done = run(folder, environment() | {SOCKET: path}, "pretrain", "--backbone", "none")
            assert (done.returncode, "none" in done.stderr) == (2, True)
