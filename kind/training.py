"""The one training loop: pre-training and every method's fine-tuning run through it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kind import distributed
from kind.adaptation import trained_parameters
from kind.artifacts import naming, write_csv
from kind.batch_gradients import BatchGradients
from kind.batches import Batches, Replay
from kind.data.prepared import StoredImages
from kind.devices import float_products, peak_memory
from kind.diffusion import Diffusion
from kind.divergence import divergence, first_not_finite
from kind.errors import Unfinished, UserError, first_line
from kind.models.dit import DiT
from kind.optimizer import Optimizer
from kind.params import Training
from kind.progress import Progress
from kind.read_ahead import ReadAhead
from kind.schedules import average_decay, learning_rate_at
from kind.spaces import PIXELS, Latents, Pixels
from kind.stopping import Stop, Then
from kind.training_routine import Routine
from kind.training_state import State, StateFiles

LOG_COLUMNS = ("step", "loss", "learning_rate", "gradient_norm")


@dataclass(frozen=True)
class Plan:
    """One training run.

    recipe: digest of everything that shapes the result; state of another recipe is not resumed.
    snapshot_steps: steps after which the averaged weights are kept.  null_gate: see `Factorization`.
    routine: what the method adds to the loop.  rate_scales: factors of the learning rate by name, where not 1.
    ends: of the job's wall time, seconds since the epoch; training stops `spare_seconds` before it.
    replay: of the objective `diff-tuning`; None: the ordinary one.  space: what the images are to the model.
    accumulation: in how many parts a process computes its share of a batch.  compiled: whether by torch.compile.
    """

    settings: Training
    diffusion: Diffusion
    learning_rate: float
    seed: int
    recipe: str
    null_gate: str = "learngenes"
    snapshot_steps: tuple[int, ...] = ()
    precision: str = "float32"
    checkpoint_seconds: float = 60.0
    ends: float | None = None
    spare_seconds: float = 120.0
    routine: Callable[[DiT], Routine] = Routine
    rate_scales: Mapping[str, float] = field(default_factory=dict)
    replay: Replay | None = None
    space: Pixels | Latents = PIXELS
    accumulation: int = 1
    compiled: bool = False


@dataclass
class Outcome:
    """What training leaves: averaged weights by step, final raw weights (what was learned only), log and cost."""

    averaged: dict[int, dict[str, Tensor]]
    raw: dict[str, Tensor]
    log: list[dict[str, float]]
    cost: dict[str, float | int | str]
    precision: str


def train(
    model: DiT, images: Tensor | StoredImages, labels: Tensor, plan: Plan, state_path: Path, label: str
) -> Outcome:
    """Train the parameters that require gradients; running it again after a kill goes on where it was.

    images: uint8 [N, C, H, W], or what `plan.space` says, or stored ones, which are read batch by batch; labels: int64
    [N] below num_classes.
    Inside `distributed.group` all processes call this alike, and each gets the same outcome; the first one writes.
    Raises Diverged where the loss is not finite, Unfinished where the job's time is up or a signal came.
    """
    gate, device = model.gate, next(model.parameters()).device
    if gate is not None:
        # on a CPU zeroing and reading gradients of absent classes takes time, on a GPU counting the others' does;
        # neither DistributedDataParallel nor torch.compile has sparse ones
        gate.sparse_gradients = device.type == "cpu" and distributed.count() == 1 and not plan.compiled
    try:
        with float_products(plan.precision):
            return _Trainer(model, images, labels, plan, state_path, label).run()
    except RuntimeError as error:
        if plan.compiled and isinstance(error, torch._dynamo.exc.TorchDynamoException):
            raise UserError(f"{label}: torch.compile failed: {first_line(error)}", hint="set compute.compile to false")
        raise
    finally:
        if gate is not None:
            gate.sparse_gradients = False


class _Trainer:
    def __init__(
        self, model: DiT, images: Tensor | StoredImages, labels: Tensor, plan: Plan, state_path: Path, label: str
    ):
        self.plan, self.label, self.files = plan, label, StateFiles(state_path, label)
        self.live_path = state_path.with_name("live.csv")  # the log so far, for whoever follows the job
        self.device = next(model.parameters()).device
        self.model = model.train()
        self.batches = Batches(
            ReadAhead(images, self.device, plan.space) if isinstance(images, StoredImages) else images.to(self.device),
            labels,
            size=plan.settings.batch_size,
            seed=plan.seed,
            num_classes=model.config.num_classes,
            num_timesteps=plan.diffusion.num_train_timesteps,
            label_dropout=plan.settings.label_dropout,
            keep_gates=plan.null_gate == "true_class",
            replay=plan.replay,
            space=plan.space,
            share=distributed.share_of(plan.settings.batch_size),
        )
        self.routine = plan.routine(model)
        self._begin_phase()
        self.state, self.cpu_started = State(), time.process_time()

    def _begin_phase(self) -> None:
        self.trained = trained_parameters(self.model)
        settings = self.plan.settings
        self.optimizer = Optimizer(self.model, self.trained, settings.weight_decay, self.plan.rate_scales)
        self.gradients: BatchGradients | None = None  # made at the first step of the phase

    def run(self) -> Outcome:
        if not self.trained:
            return self._untrained()
        with Stop(self.plan.ends, self.plan.spare_seconds) as stop:
            self._resume()
            self._train(stop)
        return self._outcome()

    def _train(self, stop: Stop) -> None:
        """Raises Unfinished, with the state saved, where `stop` says so after a step."""
        settings, state = self.plan.settings, self.state
        if distributed.is_first():
            write_csv(self.live_path, state.log, LOG_COLUMNS)
        progress = Progress(self.label, settings.steps, state.step)
        started, self.cpu_started = time.monotonic() - state.seconds, time.process_time()
        saved_at = time.monotonic()
        while state.step < settings.steps:
            at, rate = self._clock(state.step)
            loss, norm = self._step(rate, average_decay(at, settings.ema_decay))
            state.losses.append(loss)
            state.norms.append(norm)
            state.step += 1
            state.seconds = time.monotonic() - started
            if state.step % settings.log_every == 0 or state.step == settings.steps:
                self._log(rate)
            if state.step in self.plan.snapshot_steps:
                state.snapshots[state.step] = self.routine.learned(self.optimizer.averages())
            if state.step in self.routine.turns and state.step < settings.steps:
                self._turn()
            progress.update(note=f"loss {state.log[-1]['loss']:.4f}" if state.log else "")
            if state.step == settings.steps:
                break
            due = time.monotonic() - saved_at >= self.plan.checkpoint_seconds
            then = Then(distributed.word_of_first(stop.then(due)))
            if then != Then.GO_ON:
                self._save()
                saved_at = time.monotonic()
            if then in (Then.STOP, Then.INTERRUPT):
                distributed.word_of_first(0)  # who leaves before the state is written ends the first one, too
            if then == Then.INTERRUPT:
                raise KeyboardInterrupt
            if then == Then.STOP:
                why = stop.reason() or "the first process stops"
                raise Unfinished(f"{self.label}: {why} after step {state.step} of {settings.steps}")
        progress.close()

    def _untrained(self) -> Outcome:
        """Of a method that trains nothing: the model as it is, at every step that is asked for."""
        self.state.snapshots = {step: self.routine.learned({}) for step in self.plan.snapshot_steps}
        self.state.step = self.plan.settings.steps
        return self._outcome()

    def _turn(self) -> None:
        averages = self.optimizer.averages() if self.routine.keeps_averages else None
        self.optimizer.zero_grad()
        del self.optimizer, self.gradients  # a turn may need much memory itself
        self.routine.turn(self.state.step)
        self._begin_phase()
        if averages is not None:
            self.optimizer.put_averages(averages)

    def _step(self, rate: float, decay: float) -> tuple[Tensor, Tensor]:
        """One optimizer step; returns loss and gradient norm without waiting for the device."""
        batch = self.batches.at(self.state.step)
        self.optimizer.zero_grad()
        if self.gradients is None:
            self.gradients = BatchGradients(self.model, self.plan, self.routine)
        loss = self.gradients.leave(batch, self.state.step)
        self.routine.mask_gradients()
        limit = self.plan.settings.gradient_clip or math.inf
        norm = self.optimizer.step(batch.all_gate_labels, rate, limit, decay)
        self.routine.restore()
        return distributed.total(loss), norm

    def _log(self, rate: float) -> None:
        state, step = self.state, self.state.step
        self._check_finite()
        loss, norm = torch.stack(state.losses).mean().item(), torch.stack(state.norms).mean().item()
        state.last_loss = float(state.losses[-1])
        state.losses, state.norms = [], []
        row = dict(zip(LOG_COLUMNS, (step, loss, rate, norm), strict=True))
        state.log.append(row)
        if distributed.is_first():
            with naming(self.live_path), open(self.live_path, "a") as handle:
                handle.write(",".join(map(str, row.values())) + "\n")

    def _check_finite(self) -> None:
        """Raises Diverged for the first step since the last row of the log whose loss or gradient is not finite."""
        state = self.state
        if not state.losses:
            return
        losses, norms = torch.stack(state.losses).tolist(), torch.stack(state.norms).tolist()
        bad = first_not_finite(losses, norms)
        if bad is None:
            return
        step = state.step - len(losses) + bad  # from 0, as batches are numbered
        last_finite = losses[bad - 1] if bad else state.last_loss
        indices = self.batches.indices(step)
        raise divergence(self.label, step + 1, losses[bad], norms[bad], self._clock(step)[1], last_finite, indices)

    def _clock(self, step: int) -> tuple[int, float]:
        """Of a step, numbered from 0: its number in its phase, and its learning rate."""
        at, phase = self.routine.clock(step, self.plan.settings)
        return at, learning_rate_at(at, self.plan.learning_rate, phase)

    def _save(self) -> None:
        self._check_finite()
        distributed.check_agreement("weights", self.trained.values())
        used = self._used()
        if not distributed.is_first():
            return
        content = {
            "recipe": self.plan.recipe,
            "parameters": {name: p.detach() for name, p in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "routine": self.routine.state_dict(),
            "state": vars(self.state) | used,
        }
        self.files.save(content)

    def _used(self) -> dict[str, float]:
        """What all processes have used so far: processor seconds together, memory the one that has most."""
        seconds, peak = time.process_time() - self.cpu_started, peak_memory(self.device)
        return {
            "cpu_seconds": self.state.cpu_seconds
            + distributed.total(torch.tensor(seconds, dtype=torch.float64)).item(),
            "peak_bytes": max(self.state.peak_bytes, distributed.largest(peak)),
        }

    def _resume(self) -> None:
        if self.files.load(self.plan.recipe, self.device, self._take):
            self.state.resumes += 1
            print(f"{self.label}: resuming after step {self.state.step}", flush=True)
        distributed.check_agreement("training state", [torch.tensor(self.state.step)])

    def _take(self, content: Mapping[str, Any]) -> None:
        self.routine.load_state_dict(content["routine"])
        self._begin_phase()
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(content["parameters"][name])
        self.optimizer.load_state_dict(content["optimizer"])
        vars(self.state).update({key: content["state"][key] for key in vars(self.state)})

    def _outcome(self) -> Outcome:
        state, used, number = self.state, self._used(), distributed.count()
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        distributed.check_agreement("weights", self.trained.values())
        cost = {
            "train_seconds": round(state.seconds, 3),
            "train_cpu_seconds": round(used["cpu_seconds"], 3),
            "peak_memory_bytes": used["peak_bytes"],
            "device": device if number == 1 else f"{number} x {device}",
            "threads": torch.get_num_threads(),
            "processes": number,
            "resumes": state.resumes,
            "steps": state.step,
        }
        averaged = state.snapshots | {state.step: self.routine.learned(self.optimizer.averages())}
        raw = self.routine.learned({name: p.detach() for name, p in self.trained.items()})
        return Outcome(averaged, raw, state.log, cost, self.plan.precision)
