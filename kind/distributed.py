"""What processes that train one model together tell one another: DistributedDataParallel, by gloo on CPUs and NCCL on
GPUs.  In a process by itself all of this does nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kind import processes
from kind.errors import UserError

TIMEOUT = timedelta(minutes=30)  # for one that saves, reads or compiles while the others wait
LONGEST_PREPARATION = timedelta(days=2)  # of the first process: it checks all input files
GO, STAY = "go", "stay"


@cache
def _store() -> dist.Store:
    """What all processes can write to and read, before and beside training."""
    folder = processes.meeting()
    if folder is not None:
        return dist.FileStore(str(folder / "store"), processes.world())
    store, _, _ = next(dist.rendezvous("env://"))
    return store


def tell_others(go: bool) -> None:
    """Said once by the first process: whether there is anything to train."""
    _store().set("word", GO if go else STAY)


def told_to_go() -> bool:
    """What the first process says; waits for it."""
    _store().wait(["word"], LONGEST_PREPARATION)
    return _store().get("word").decode() == GO


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """The processes are connected inside.  Raises `processes.Lost` in those that are left when one has failed."""
    if processes.world() == 1:
        yield
        return
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("group", _store()),
            rank=processes.rank(),
            world_size=processes.world(),
            timeout=TIMEOUT,
        )
        try:
            yield
        except UserError:  # of all processes alike; a trial goes on by itself
            dist.destroy_process_group()
            raise
        dist.destroy_process_group()
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
            raise processes.Lost from error
        raise


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def share_of(size: int) -> slice:
    """This process's part of a batch of `size`: neighbours, and as many as the others have, or one more."""
    rank, number = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    return slice(size * rank // number, size * (rank + 1) // number)


def replica(model: nn.Module) -> nn.Module:
    """`model`, whose backward pass leaves the mean gradient of all processes in each of its parameters.

    With `find_unused_parameters` the order of sums is that of the parameters from the first step on; otherwise it
    changes after that step, and a run that was resumed would end with other last bits than one that was not.
    """
    if count() == 1:
        return model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.15 has another name for broadcast_buffers
        return DistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=True)


def apart(replica: nn.Module) -> AbstractContextManager:
    """Backward passes inside add to this process's own gradients alone, until the first one outside."""
    return replica.no_sync() if isinstance(replica, DistributedDataParallel) else nullcontext()


def total(value: Tensor) -> Tensor:
    """The sum over all processes, in place."""
    if count() > 1:
        dist.all_reduce(value)
    return value


def largest(number: int) -> int:
    """Of all processes' numbers."""
    if count() == 1:
        return number
    found = torch.tensor(number)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def word_of_first(said: int) -> int:
    """What the first process says, whatever the others do."""
    if count() == 1:
        return said
    word = torch.tensor(said)
    dist.broadcast(word, 0)
    return int(word)


def check_agreement(what: str, tensors: Iterable[Tensor]) -> None:
    """Raises UserError where processes that should hold the same tensors hold some of another sum."""
    if count() == 1:
        return
    sums = torch.stack([tensor.detach().double().sum() for tensor in tensors]).cpu().nan_to_num()
    least, most = sums.clone(), sums.clone()
    dist.all_reduce(least, dist.ReduceOp.MIN)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    if not torch.equal(least, most):
        raise UserError(
            f"processes that train together do not have the same {what}",
            hint="they must run the same code on GPUs of one kind and read the same files; run the same command again",
        )
