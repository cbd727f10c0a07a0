"""Training steps of every method beside full fine-tuning: CPU seconds and peak memory, one table from one run.

    python benchmarks/methods.py [--methods lora oft] [--preset S/2] [--batch 16] [--device cpu] [--quick]

A step is what `kind.training.train` does between two forward passes: forward, backward, clipping, AdamW, averages and
the next batch.  Each method has a process of its own, and they take turns, so that a busy machine is busy for all; the
least time counts.

state: parameters, gradients, AdamW's moments and averages.  saved: what autograd keeps for the backward pass.  peak:
what the process (on a GPU its allocator) holds at most, in a few more steps, above what it held before the model was
built; there freed memory goes back to the system at once.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stderr
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import peft  # noqa: F401  before there are processes, so that it counts for no method
import torch
from saved_activations import saved_bytes
from torch import nn

from kind.adaptation import Start, adapt, trained_parameters
from kind.diffusion import Diffusion
from kind.methods import METHODS, Method, MethodOptions
from kind.models.dit import DiT, DiTConfig, build_dit
from kind.models.factorization import SoftGating
from kind.models.factorized import Factorization, factorize
from kind.models.presets import PRESETS
from kind.models.recombine import keep
from kind.params import Training
from kind.training import Plan, train
from kind.training_routine import routine_of

TRAINED = [name for name, method in METHODS.items() if not method.combines]  # a soup only mixes what others trained
NUM_SEEN, NUM_CLASSES, CHANNELS = 4, 10, 4
RANK = 16  # of methods that have one
SHARED = 5 / 8  # of a matrix's rank is learngenes
STEPS = 4  # of a turn; the first makes the optimiser's state and does not count
MIB = 2**20
C_LIBRARY, M_MMAP_THRESHOLD = ctypes.CDLL(None), -3  # of <malloc.h>


class Measured(NamedTuple):
    seconds: float
    trained: int
    state: int
    saved: int
    peak: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=TRAINED, default=TRAINED, metavar="NAME")
    parser.add_argument("--preset", choices=PRESETS, default="S/2", help="size of the model (default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=16, help="of 4 channels (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=2, help="turns of each (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="the small experiment's model, one turn")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.preset, arguments.image_size, arguments.repeats = "tiny/2", 8, 1
    names = ["full", *(name for name in arguments.methods if name != "full")]
    print(
        f"torch {torch.__version__}, {arguments.preset}, {CHANNELS} x {arguments.image_size} x {arguments.image_size}, "
        f"batch {arguments.batch}, {NUM_CLASSES} classes, {arguments.device}, float32"
    )
    print(f"{'method':<14}{'step ms':>10}{'x full':>8}{'trained':>12}{'state MiB':>11}{'saved MiB':>11}"
          f"{'peak MiB':>10}{'x full':>8}", flush=True)  # fmt: skip
    found = measure(names, arguments)
    full = found["full"]
    for name, one in sorted(found.items(), key=lambda item: item[1].seconds):
        print(
            f"{name:<14}{1e3 * one.seconds:>10.1f}{one.seconds / full.seconds:>8.2f}{one.trained:>12,}"
            f"{one.state / MIB:>11.1f}{one.saved / MIB:>11.1f}{one.peak / MIB:>10.1f}{one.peak / full.peak:>8.2f}"
        )


def measure(names: list[str], arguments: argparse.Namespace) -> dict[str, Measured]:
    """By method.  Every process waits for its turn."""
    context, workers = multiprocessing.get_context("fork"), {}  # the imports are paid once
    for name in names:
        ours, theirs = context.Pipe()
        context.Process(target=work, args=(name, arguments, theirs), daemon=True).start()
        theirs.close()
        workers[name] = ours
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(arguments.repeats):
        for name, worker in workers.items():
            seconds[name].append(_turn(worker))
    found = {}
    for name, worker in workers.items():
        worker.send("facts")
        found[name] = Measured(min(seconds[name]), **worker.recv())
    return found


def _turn(worker: Connection) -> float:
    worker.send("turn")
    return worker.recv()


def work(name: str, arguments: argparse.Namespace, orders: Connection) -> None:
    """The process of one method."""
    torch.set_num_threads(1)
    small = argparse.Namespace(preset="micro/2", image_size=8, batch=2, device=arguments.device)
    Run(METHODS["full"], small).turn()  # so that what torch and diffusers load when they are first used is there
    run = None
    while (order := orders.recv()) is not None:
        run = run or Run(METHODS[name], arguments)
        orders.send(run.turn() if order == "turn" else run.facts())


class Run:
    def __init__(self, method: Method, arguments: argparse.Namespace):
        self.arguments, self.device = arguments, torch.device(arguments.device)
        C_LIBRARY.malloc_trim(0)
        self.before = held(self.device)
        config = DiTConfig(
            *PRESETS[arguments.preset], image_size=arguments.image_size, channels=CHANNELS, num_classes=NUM_SEEN
        )
        options = options_of(method, config.width)
        start = Start(start_of(method, config))
        self.model = adapt(start, method, options, NUM_CLASSES, 0, "random").to(self.device)
        shape = (4 * arguments.batch, CHANNELS, arguments.image_size, arguments.image_size)
        self.images = torch.randint(256, shape, dtype=torch.uint8)
        self.labels = torch.arange(len(self.images)) % NUM_CLASSES
        self.stamps: list[float] = []
        self.model.register_forward_pre_hook(lambda *_: self.stamps.append(self._now()))
        self.of_method = {
            "routine": routine_of(method, options, STEPS, 0), "rate_scales": method.rate_scales(self.model, options)
        }  # fmt: skip

    def turn(self) -> float:
        """Least seconds of a step."""
        settings = Training(
            steps=STEPS, batch_size=self.arguments.batch, learning_rate=1e-4, gradient_clip=1.0, log_every=STEPS
        )
        plan = Plan(settings, Diffusion(), learning_rate=1e-4, seed=0, recipe="", **self.of_method)
        self.stamps.clear()
        with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            train(self.model, self.images, self.labels, plan, Path(folder) / "training.pt", "")
        times = [later - earlier for earlier, later in zip(self.stamps[1:], self.stamps[2:], strict=False)]
        return min(times)

    def facts(self) -> dict[str, int]:
        trained = trained_parameters(self.model)
        kept = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in self._tensors()}
        changing = sum(parameter.nbytes for parameter in trained.values())
        batch = slice(0, self.arguments.batch)
        images, labels = self.images[batch].float().to(self.device), self.labels[batch]
        times = torch.zeros(len(labels), dtype=torch.long, device=self.device)
        C_LIBRARY.mallopt(M_MMAP_THRESHOLD, 2**16)  # slower, but what is freed goes back to the system
        C_LIBRARY.malloc_trim(0)
        forget_peak(self.device)
        self.turn()
        return {
            "trained": sum(p.numel() for p in trained.values()) - self.model.label_table.numel(),
            "state": sum(kept.values()) + 4 * changing,
            "saved": saved_bytes(lambda: self.model(images, times, labels.to(self.device), labels), self._tensors()),
            "peak": peak(self.device) - self.before,
        }

    def _tensors(self) -> list[torch.Tensor]:
        return [*self.model.parameters(), *self.model.buffers()]

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()


def options_of(method: Method, width: int) -> MethodOptions:
    """Of its first example, at a rank and a number of learngenes that fit the model."""
    given: dict[str, Any] = dict(method.examples[0])
    common: Mapping[str, int] = {"rank": RANK, "num_learngenes": int(SHARED * width)}
    given |= {key: value for key, value in common.items() if key in method.options.model_fields}
    return method.options.model_validate(given)


def start_of(method: Method, config: DiTConfig) -> DiT:
    """What the method is given, with no matrix left at zero, as a trained backbone has none."""
    model = build_dit(config, seed=0)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02, generator=generator)
    if method.start == "soft":
        everyone = ((tuple(range(config.num_classes)), config.width - int(SHARED * config.width)),)
        soft = SoftGating((64,), "tailors", embedding_size=64)
        shared = int(SHARED * config.width)
        return factorize(model, Factorization(shared, 0, groups=everyone, soft=soft), seed=0)
    if method.start != "kind":
        return model
    shared = config.width if method.name == "kind-nogate" else int(SHARED * config.width)
    return keep(factorize(model, Factorization(shared, 0), seed=0), [])


def held(device: torch.device) -> int:
    """Bytes now: of the allocator on a GPU, else what the process holds in memory."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS")


def peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024


if __name__ == "__main__":
    main()
