"""How many GPUs there are, and that no two jobs take one; with pretend GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kind.gpus import count_gpus

ROOT = Path(__file__).parents[1]
TWO = "GPU 0: NVIDIA X (UUID: GPU-1)\n  MIG 1g.5gb Device 0: (UUID: MIG-7)\nGPU 1: NVIDIA X (UUID: GPU-2)\n"


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A program of that name that says this."""

    def made(text, code=0):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\ncat <<'.'\n{text}.\nexit {code}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return made


@pytest.mark.parametrize(
    ("visible", "count"),
    [
        ("", 0),
        ("-1", 0),
        ("0", 1),
        ("0,2", 2),
        ("1,-1,0", 1),
        ("GPU-8932f937,GPU-a1", 2),
        ("MIG-a/3/0", 1),
        ("none", 0),
    ],
)
def test_the_variable_is_read_as_cuda_reads_it(monkeypatch, visible, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_gpus() == count


def test_without_it_the_driver_is_asked(nvidia_smi, monkeypatch):
    nvidia_smi(TWO)
    assert count_gpus() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert count_gpus() == 1
    nvidia_smi("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", code=9)
    assert count_gpus() == 0


HOLD = "import sys; from kind.gpus import take_gpu; print(take_gpu(('GPU-1', 'GPU-2')), flush=True); sys.stdin.read()"


def test_each_job_takes_another_gpu_and_gives_it_back_when_it_ends(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}

    def start():
        command = [sys.executable, "-c", HOLD]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(command, env=environment, text=True, **pipes)
        return process, int(process.stdout.readline())

    (first, a), (second, b), (third, c) = start(), start(), start()
    assert (a, b, c) == (0, 1, 0)
    assert "other jobs hold all 2 GPUs" in third.communicate()[1]
    first.kill()
    first.communicate()
    fourth, d = start()
    assert d == 0
    assert "other jobs" not in fourth.communicate()[1]
    second.communicate()
