"""Choice of device and precision."""

from __future__ import annotations

import os

import pytest
import torch

from kind import devices
from kind.devices import autocast, choose_device, choose_precision, float_products, prepare_torch
from kind.errors import UserError

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def warned(monkeypatch, capsys):
    """warned(**variables) -> what `device: auto` says on a machine without GPUs, where these are set."""

    def warned(**variables):
        for name in devices.GPU_VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        devices._warn_of_cpu.cache_clear()
        for _ in range(2):
            assert choose_device("auto", "params/x.yaml: compute.device") == CPU
        found = capsys.readouterr()
        assert not found.out
        return found.err

    return warned


@without_gpu
def test_a_job_that_was_given_gpus_it_cannot_use_says_so_once(warned):
    said = warned(SLURM_JOB_GPUS="0,1", CUDA_VISIBLE_DEVICES="0")
    assert said == (
        "warning: SLURM_JOB_GPUS=0,1, CUDA_VISIBLE_DEVICES=0, but torch finds no usable CUDA device: this job runs on "
        "the CPU (params/x.yaml: compute.device: auto)\n"
    )


@without_gpu
@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles"])
def test_nobody_is_warned_where_there_are_none(warned, hidden):
    assert warned() == warned(CUDA_VISIBLE_DEVICES=hidden) == ""


@without_gpu
def test_cuda_where_there_is_none_is_a_mistake(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(UserError, match=r"^here: cuda was asked for, but this machine has no usable CUDA device"):
        choose_device("cuda", "here")
    assert choose_device("cpu") == CPU


def test_precisions():
    on_cuda = {"auto": "bfloat16", "float32": "float32", "tf32": "tf32", "bfloat16": "bfloat16"}
    assert {wanted: choose_precision(wanted, CUDA) for wanted in devices.PRECISIONS} == on_cuda
    on_cpu = {"auto": "float32", "float32": "float32", "tf32": "float32", "bfloat16": "bfloat16"}
    assert {wanted: choose_precision(wanted, CPU) for wanted in devices.PRECISIONS} == on_cpu
    with pytest.raises(UserError, match="no precision 'half'; there are auto, float32, tf32, bfloat16"):
        choose_precision("half", CPU)


def test_tf32_holds_where_it_is_asked_for_and_nowhere_else():
    def allowed():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = allowed()
    with float_products("tf32"):
        assert allowed() == (True, True)
        with autocast("float32", CPU):
            assert allowed() == (False, False)
        assert allowed() == (True, True)
    with pytest.raises(KeyError), float_products("tf32"):
        raise KeyError
    assert allowed() == before


@pytest.mark.slow  # for what torch imports
@pytest.mark.parametrize("workspace", [None, ":16:8"])
def test_a_deterministic_job_leaves_the_next_one_what_it_found(monkeypatch, workspace):
    def settings():
        fill = torch.utils.deterministic.fill_uninitialized_memory
        deterministic = torch.are_deterministic_algorithms_enabled()
        return deterministic, os.environ.get("CUBLAS_WORKSPACE_CONFIG"), torch.backends.cudnn.benchmark, fill

    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if workspace is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = settings()
    for _ in range(2):
        prepare_torch(1, deterministic=True)
        assert settings() == (True, ":4096:8", False, False)
    prepare_torch(1)
    assert settings() == before == (False, workspace, True, True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "mine")
    prepare_torch(1)
    assert settings() == (False, "mine", True, True), "what was set in between stays"
