"""Choice of device and precision, and the settings that make a job's numbers repeatable."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import AbstractContextManager, nullcontext

import torch

from kind.errors import UserError
from kind.gpus import take_gpu


def choose_device(wanted: str, where: str = "compute.device") -> torch.device:
    """`auto` is CUDA where there is a GPU; `cuda` without one is an error.  where: who asked, for the message."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"{where}: cuda was asked for, but this machine has no usable CUDA device",
            hint="write `device: auto` (falls back to the CPU) or run where there is a GPU",
        )
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return one_gpu()


def one_gpu() -> torch.device:
    """Of several that this process sees, one that no other job holds; each of them would take the first otherwise."""
    names = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    if len(names) > 1 and "LOCAL_RANK" not in os.environ:  # torchrun's processes go by their numbers
        torch.cuda.set_device(take_gpu(tuple(names)))
    return torch.device("cuda")


PRECISIONS = ("auto", "float32", "bfloat16")


def choose_precision(wanted: str, device: torch.device) -> str:
    """`auto` is bfloat16 autocast on CUDA and float32 elsewhere."""
    if wanted not in PRECISIONS:
        raise UserError(f"no precision {wanted!r}; there are {', '.join(PRECISIONS)}")
    return ("bfloat16" if device.type == "cuda" else "float32") if wanted == "auto" else wanted


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    chosen = choose_precision(precision, device)
    return torch.autocast(device.type, torch.bfloat16) if chosen == "bfloat16" else nullcontext()


def prepare_torch(threads: int) -> None:
    """A fixed number of threads and full float32 products: both can move a result."""
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def peak_memory(device: torch.device) -> int:
    """Bytes: the GPU's peak allocation, or the process's peak resident size on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
