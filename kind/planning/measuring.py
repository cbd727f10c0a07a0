"""Throughput of this machine, measured: a few training steps and sampling steps of each form of backbone.

On a CPU seconds are those of the processor, so that a busy machine measures the same as an idle one; there they are
seconds of one core.  Nothing is kept: what was measured is in the plan that it was measured for.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import torch
from torch import nn

from kind.costs import Network, backbone_cost
from kind.devices import autocast, choose_device, choose_precision, prepare_torch
from kind.diffusion import Diffusion
from kind.models.dit import DiT, DiTConfig, build_dit
from kind.models.factorization import Factorization
from kind.models.factorized import make_room
from kind.params import Experiment, Training
from kind.params.protocol import Sampling
from kind.planning.models import Models
from kind.planning.rates import Rates
from kind.planning.work import TRAINING
from kind.random_streams import stream
from kind.sampling import balanced_labels, sample_batch
from kind.training import Plan, train

STEPS = 4  # of training; the first makes the optimiser's state and does not count
FEW, MORE = 2, 6  # steps of sampling, whose difference counts
# What jobs load: on a CPU they are forks of a process that has loaded the rest (kind/warm_start.py); elsewhere as the
# command line loads it (kind/diffusers_parts.py).
LOADED = {
    "cpu": "import kind.params.file",
    "cuda": "import sys; sys.modules['__main__'].__spec__ = type('Spec', (), {'name': 'kind.__main__'}); "
    "import kind.checkpoints, kind.sampling, kind.training",
}
LIMIT = {"cpu": 1e11, "cuda": 1e15}  # multiply-accumulates of a forward pass: larger batches are cut


def measured_rates(experiment: Experiment, models: Models) -> Rates:
    """Takes seconds for small models, and minutes and the model's memory for large ones on a CPU."""
    prepare_torch(experiment.compute.threads, experiment.compute.deterministic)
    device = choose_device(experiment.compute.device)
    rates, notes = {}, []
    for form, built, macs in _one_of_each_form(models):
        batch = _batch(experiment.finetune.batch_size, macs, device)
        rows = _batch(experiment.sampling.batch_size, macs, device)
        model = built.to(device)
        seconds = _training_step(experiment, model, batch, device)
        rates["train", form] = batch * TRAINING * macs / seconds
        drawing = _sampling_step(experiment, model, rows, device)
        rates["draw", form] = rows * 2 * macs / drawing
        notes.append(
            f"{form}: {seconds:.3g} s a training step of {batch} images, {drawing:.3g} s a guided sampling step of "
            f"{rows}"
        )
    startup = _startup(device)
    where = f"one core of this machine ({experiment.compute.threads} a job)" if device.type == "cpu" else str(
        torch.cuda.get_device_name())  # fmt: skip
    notes += [
        "what was measured of a form is taken for all methods that end in it, at equal multiply-accumulates; "
        "adapters in training cost more, frozen weights less",
        f"{startup:.1f} s for the start of a {'warm ' if device.type == 'cpu' else ''}job; distances between sets of "
        "features are not counted",
    ]
    return Rates(max(rates.values()), rates, startup, where, tuple(notes))


def _one_of_each_form(models: Models) -> Iterator[tuple[str, DiT, int]]:
    """(form, model with random weights, its multiply-accumulates); `adapted` is a factorized backbone of as many
    classes as the first task has."""
    experiment, network = models.experiment, models.network
    forms = {model.form: name for name, model in reversed(models.backbones.items())}
    for form, name in forms.items():
        learned, model = models.learned(name), models.backbones[name]
        yield form, _build(network, learned, model.num_classes), model.cost.macs
        if learned is not None:
            count = min(model.num_classes, len(next(iter(experiment.tasks.values())).classes))
            few = learned.select(range(count))
            yield "adapted", _build(network, few, count), backbone_cost(network, few, count).macs


def _batch(wanted: int, macs: int, device: torch.device) -> int:
    return max(1, min(wanted, int(LIMIT[device.type] / macs)))


def _build(network: Network, learned: Factorization | None, num_classes: int) -> DiT:
    """No matrix of which is zero."""
    config = DiTConfig(
        *network.shape, image_size=network.side, channels=network.channels, num_classes=num_classes,
        learned_variance=network.learned_variance,
    )  # fmt: skip
    built = build_dit(config, seed=0)
    if learned is not None:
        built = make_room(built, learned)
    for parameter in built.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return built


def _training_step(experiment: Experiment, model: DiT, batch: int, device: torch.device) -> float:
    """Least seconds from one forward pass to the next."""
    config, stamps = model.config, []
    settings = Training(steps=STEPS, batch_size=batch, learning_rate=1e-4, gradient_clip=1.0, log_every=STEPS)
    diffusion = Diffusion(learned_variance=config.learned_variance)
    precision = choose_precision(experiment.compute.precision, device)
    plan = Plan(settings, diffusion, learning_rate=1e-4, seed=0, recipe="", precision=precision)
    images = torch.randint(256, (2 * batch, config.channels, config.image_size, config.image_size), dtype=torch.uint8)
    hook = model.register_forward_pre_hook(lambda *_: stamps.append(_now(device)))
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        train(model, images, torch.arange(2 * batch) % config.num_classes, plan, Path(folder) / "state.pt", "")
    hook.remove()
    return min(later - earlier for earlier, later in zip(stamps[1:], stamps[2:], strict=False))


def _sampling_step(experiment: Experiment, model: DiT, rows: int, device: torch.device) -> float:
    """Seconds of one step, guided."""
    settings = experiment.sampling.model_dump() | {"batch_size": rows, "num_samples": rows}
    diffusion = Diffusion(learned_variance=model.config.learned_variance)
    labels, taken = balanced_labels(rows, model.config.num_classes), {}
    for steps in (FEW, FEW, MORE):  # the first is a warm-up
        protocol = Sampling(**settings | {"num_inference_steps": steps})
        generators = [stream(0, "sample", row) for row in range(rows)]
        started = _now(device)
        with autocast(experiment.compute.precision, device):
            sample_batch(model.eval(), diffusion, protocol, labels.to(device), generators, scale=2.0)
        taken[steps] = _now(device) - started
    return max(1e-9, (taken[MORE] - taken[FEW]) / (MORE - FEW))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def _startup(device: torch.device) -> float:
    """Least processor seconds of a process that loads what jobs load: the first one may read from disk."""
    taken = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", LOADED[device.type]], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)
