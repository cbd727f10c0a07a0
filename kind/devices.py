"""Choice of device and precision, and the settings that make a job's numbers repeatable."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from kind import processes
from kind.errors import UserError
from kind.gpus import take_gpu

GPU_VARIABLES = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES")
NO_GPU = ("", "-1", "NoDevFiles")  # what they say where a job has none


def choose_device(wanted: str, where: str = "compute.device") -> torch.device:
    """`auto` is CUDA where there is a GPU; `cuda` without one is an error.  where: who asked, for the message.

    Of several processes that train together each gets a free GPU, or under torchrun the one that has its number among
    those of CUDA_VISIBLE_DEVICES.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"{where}: cuda was asked for, but this machine has no usable CUDA device",
            hint="write `device: auto` (falls back to the CPU) or run where there is a GPU",
        )
    if wanted == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        _warn_of_cpu(where)
        return torch.device("cpu")
    if processes.world() == 1:
        return one_gpu()
    if processes.of_machine() > (visible := torch.cuda.device_count()):
        raise UserError(
            f"{processes.of_machine()} processes train together on this machine, and it has {visible} GPUs for them",
            hint="ask for a GPU a process (slurm/config.yaml: gpu), or for fewer processes (compute.processes)",
        )
    if processes.meeting() is not None:
        return one_gpu()
    return torch.device("cuda", processes.local_rank())


def one_gpu() -> torch.device:
    """Of several that this process sees, one that no other job holds; each of them would take the first otherwise."""
    names = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    if len(names) == 1:
        return torch.device("cuda")
    index = take_gpu(tuple(names), share=processes.world() == 1)
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


@cache
def _warn_of_cpu(where: str) -> None:
    """Once, where somebody gave this job a GPU: it would be slow without anybody knowing why."""
    given = [name for name in GPU_VARIABLES if os.environ.get(name, "") not in NO_GPU]
    if given:
        said = ", ".join(f"{name}={os.environ[name]}" for name in given)
        print(
            f"warning: {said}, but torch finds no usable CUDA device: this job runs on the CPU ({where}: auto)",
            file=sys.stderr,
            flush=True,
        )


PRECISIONS = ("auto", "float32", "tf32", "bfloat16")


def choose_precision(wanted: str, device: torch.device) -> str:
    """What it is on this device: `auto` is bfloat16 autocast on CUDA and float32 elsewhere, where there is no TF32."""
    if wanted not in PRECISIONS:
        raise UserError(f"no precision {wanted!r}; there are {', '.join(PRECISIONS)}")
    if wanted == "auto":
        return "bfloat16" if device.type == "cuda" else "float32"
    return "float32" if wanted == "tf32" and device.type != "cuda" else wanted


@contextmanager
def autocast(precision: str, device: torch.device) -> Iterator[None]:
    """Products inside are of this precision."""
    chosen = choose_precision(precision, device)
    with float_products(chosen), torch.autocast(device.type, torch.bfloat16, enabled=chosen == "bfloat16"):
        yield


@contextmanager
def float_products(precision: str) -> Iterator[None]:
    """Float32 products inside are of TF32 where the precision is that, and full ones otherwise.

    Training is inside as a whole: autocast is around forward passes, and backward passes have products too.
    """
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    _allow_tf32(precision == "tf32", precision == "tf32")
    try:
        yield
    finally:
        _allow_tf32(*before)


def _allow_tf32(products: bool, convolutions: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions


def prepare_torch(threads: int, deterministic: bool = False) -> None:
    """A fixed number of threads, and full float32 products unless something else is said: both can move a result.

    deterministic: GPUs add in the same order each time, too; it is called before one is used.  A CPU always does.
    Where it is false, what a job that this process ran before changed for it is as it was; cuBLAS alone, once started,
    keeps its workspace.
    """
    torch.set_num_threads(threads)
    _allow_tf32(False, False)
    if torch.are_deterministic_algorithms_enabled() != deterministic:  # to say so takes imports
        torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        if not _before:
            _before.append(_order_of_sums())
        # the workspace is read when cuBLAS starts; filling is a safeguard against bugs, paid for at each step
        _set_order_of_sums(workspace=":4096:8", trials=False, fill=False)
    elif _before:
        _set_order_of_sums(**_before.pop())


WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_before: list[dict[str, Any]] = []  # one entry from a deterministic job to the next that is none


def _order_of_sums() -> dict[str, Any]:
    return {
        "workspace": os.environ.get(WORKSPACE),
        "trials": torch.backends.cudnn.benchmark,
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
    }


def _set_order_of_sums(workspace: str | None, trials: bool, fill: bool) -> None:
    if workspace is None:
        os.environ.pop(WORKSPACE, None)
    else:
        os.environ[WORKSPACE] = workspace
    torch.backends.cudnn.benchmark = trials
    torch.utils.deterministic.fill_uninitialized_memory = fill


def peak_memory(device: torch.device) -> int:
    """Bytes: the GPU's peak allocation, or the process's peak resident size on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
