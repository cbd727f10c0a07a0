"""The one training loop: pre-training and every method's fine-tuning run through it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from kind import distributed
from kind.adaptation import trained_parameters
from kind.artifacts import atomic_file, naming, write_csv
from kind.batches import Batch, Batches, Replay
from kind.data.prepared import StoredImages
from kind.devices import autocast, float_products, peak_memory
from kind.diffusion import Diffusion, Objective
from kind.errors import UserError
from kind.models.dit import DiT
from kind.optimizer import Optimizer
from kind.params import Training
from kind.progress import Progress
from kind.read_ahead import ReadAhead
from kind.spaces import PIXELS, Latents, Pixels
from kind.training_routine import Routine

STATE_FORMAT = 3
LOG_COLUMNS = ("step", "loss", "learning_rate", "gradient_norm")


class Diverged(UserError):
    """The loss or its gradient is not finite."""


@dataclass(frozen=True)
class Plan:
    """One training run.

    recipe: digest of everything that shapes the result; state of another recipe is not resumed.
    snapshot_steps: steps after which the averaged weights are kept.  null_gate: see `Factorization`.
    routine: what the method adds to the loop.  rate_scales: factors of the learning rate by name, where not 1.
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


@dataclass
class _State:
    """Everything that resuming needs; random numbers need none (they depend on seed and step alone)."""

    step: int = 0
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    log: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    resumes: int = 0


def train(
    model: DiT, images: Tensor | StoredImages, labels: Tensor, plan: Plan, state_path: Path, label: str
) -> Outcome:
    """Train the parameters that require gradients; running it again after a kill goes on where it was.

    images: uint8 [N, C, H, W], or what `plan.space` says, or stored ones, which are read batch by batch; labels: int64
    [N] below num_classes.
    Inside `distributed.group` all processes call this alike, and each gets the same outcome; the first one writes.
    Raises Diverged where the loss is not finite.
    """
    gate, device = model.gate, next(model.parameters()).device
    if gate is not None:
        # on a CPU zeroing and reading gradients of absent classes takes time, on a GPU counting the others' does;
        # neither DistributedDataParallel nor torch.compile has sparse ones
        gate.sparse_gradients = device.type == "cpu" and distributed.count() == 1 and not plan.compiled
    try:
        with float_products(plan.precision):
            return _Trainer(model, images, labels, plan, state_path, label).run()
    finally:
        if gate is not None:
            gate.sparse_gradients = False


class _Trainer:
    def __init__(
        self, model: DiT, images: Tensor | StoredImages, labels: Tensor, plan: Plan, state_path: Path, label: str
    ):
        self.plan, self.state_path, self.label = plan, state_path, label
        self.live_path = state_path.with_name("live.csv")  # the log so far, for whoever follows the job
        self.device, self.dtype = (first := next(model.parameters())).device, first.dtype
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
        self.objective = Objective(plan.diffusion, self.device)
        self.routine = plan.routine(model)
        self._begin_phase()
        self.state = _State()

    def _begin_phase(self) -> None:
        self.trained = trained_parameters(self.model)
        settings = self.plan.settings
        self.optimizer = Optimizer(self.model, self.trained, settings.weight_decay, self.plan.rate_scales)
        self.replica = None  # made at the first step of the phase

    def run(self) -> Outcome:
        settings, state = self.plan.settings, self.state
        if not self.trained:
            return self._untrained()
        self._resume()
        write_csv(self.live_path, state.log, LOG_COLUMNS)
        progress = Progress(self.label, settings.steps, state.step)
        started, cpu_started = time.monotonic() - state.seconds, time.process_time() - state.cpu_seconds
        saved_at, losses, norms = time.monotonic(), [], []
        while state.step < settings.steps:
            at, phase = self.routine.clock(state.step, settings)
            rate = learning_rate_at(at, self.plan.learning_rate, phase)
            loss, norm = self._step(rate, average_decay(at, settings.ema_decay))
            losses.append(loss)
            norms.append(norm)
            state.step += 1
            state.seconds, state.cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
            at_log = state.step % settings.log_every == 0 or state.step == settings.steps
            if at_log:
                self._log(losses, norms, rate)
                losses, norms = [], []
            if state.step in self.plan.snapshot_steps:
                state.snapshots[state.step] = self.routine.learned(self.optimizer.averages())
            if state.step in self.routine.turns and state.step < settings.steps:
                self._turn()
            progress.update(note=f"loss {state.log[-1]['loss']:.4f}" if state.log else "")
            # only right after a log row, so that no half-gathered row is lost by a kill
            if at_log and time.monotonic() - saved_at >= self.plan.checkpoint_seconds and state.step < settings.steps:
                self._save()
                saved_at = time.monotonic()
        progress.close()
        return self._outcome()

    def _untrained(self) -> Outcome:
        """Of a method that trains nothing: the model as it is, at every step that is asked for."""
        self.state.snapshots = {step: self.routine.learned({}) for step in self.plan.snapshot_steps}
        self.state.step = self.plan.settings.steps
        return self._outcome()

    def _turn(self) -> None:
        averages = self.optimizer.averages() if self.routine.keeps_averages else None
        self.optimizer.zero_grad()
        del self.optimizer, self.replica  # a turn may need much memory itself
        self.routine.turn(self.state.step)
        self._begin_phase()
        if averages is not None:
            self.optimizer.put_averages(averages)

    def _step(self, rate: float, decay: float) -> tuple[Tensor, Tensor]:
        """One optimizer step; returns loss and gradient norm without waiting for the device."""
        batch = self.batches.at(self.state.step)
        self.optimizer.zero_grad()
        loss = self._gradients(batch)
        self.routine.mask_gradients()
        limit = self.plan.settings.gradient_clip or math.inf
        norm = self.optimizer.step(batch.all_gate_labels, rate, limit, decay)
        self.routine.restore()
        return distributed.total(loss), norm

    def _gradients(self, batch: Batch) -> Tensor:
        """Gradients of the loss of the whole batch in all parameters; returns what this process's share adds to it.

        L = 1/B sum_b w_b l_b, plus the penalty; the mean over N processes of the gradients of N L_n, for L = sum_n L_n.
        """
        if self.replica is None:
            compiled = torch.compile(self.model) if self.plan.compiled else self.model
            self.replica = distributed.replica(compiled)
        parts, added = list(batch.parts(self.plan.accumulation)), []
        for number, part in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else distributed.apart(self.replica):
                loss = self._loss_of(part)
                added.append(loss.detach())
                loss = loss * distributed.count()
                if number == len(parts) and (penalty := self.routine.penalty(self.state.step)) is not None:
                    loss = loss + penalty
                loss.backward()
        return sum(added)

    def _loss_of(self, part: Batch) -> Tensor:
        """What these samples add to the mean loss of the batch."""

        def predict(noisy: Tensor, times: Tensor) -> Tensor:
            with autocast(self.plan.precision, self.device):
                return self.replica(noisy, times, part.labels, part.gate_labels)

        images, noise = part.images.to(self.dtype), part.noise.to(self.dtype)
        losses = self.objective.loss(predict, images, part.timesteps, noise)
        return (losses if part.weights is None else losses * part.weights).sum() / self.plan.settings.batch_size

    def _log(self, losses: list[Tensor], norms: list[Tensor], rate: float) -> None:
        loss, norm = torch.stack(losses).mean().item(), torch.stack(norms).mean().item()
        step = self.state.step
        if not math.isfinite(loss) or not math.isfinite(norm):
            last = f"; last finite loss {self.state.log[-1]['loss']:g}" if self.state.log else ""
            raise Diverged(
                f"{self.label}: the loss or its gradient is not finite in steps {step - len(losses) + 1} to {step}, "
                f"learning rate {rate:g}{last}",
                hint="lower the learning rate, lengthen the warm-up or set gradient_clip",
            )
        row = dict(zip(LOG_COLUMNS, (step, loss, rate, norm), strict=True))
        self.state.log.append(row)
        with naming(self.live_path), open(self.live_path, "a") as handle:
            handle.write(",".join(map(str, row.values())) + "\n")

    def _save(self) -> None:
        state = self.state
        content = {
            "format": STATE_FORMAT,
            "recipe": self.plan.recipe,
            "parameters": {name: p.detach() for name, p in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "routine": self.routine.state_dict(),
            "state": vars(state) | {"peak_bytes": max(state.peak_bytes, peak_memory(self.device))},
        }
        with atomic_file(self.state_path) as handle:
            torch.save(content, handle)

    def _resume(self) -> None:
        if not self.state_path.is_file():
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickles of others, which are refused
                content = torch.load(self.state_path, map_location=self.device, weights_only=True)
            if content["format"] != STATE_FORMAT or content["recipe"] != self.plan.recipe:
                print(f"{self.state_path}: state of another recipe; starting over", flush=True)
                return
            self.routine.load_state_dict(content["routine"])
            self._begin_phase()
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    parameter.copy_(content["parameters"][name])
            self.optimizer.load_state_dict(content["optimizer"])
            vars(self.state).update({key: content["state"][key] for key in vars(self.state)})
        except Exception as error:  # noqa: BLE001  torch raises many types for a damaged file, some a page long
            raise UserError(
                f"{self.state_path}: unreadable training state ({type(error).__name__}); expected "
                f"what {self.label} saved",
                hint="cut off or changed after it was written: delete it and run the same command again, to start over",
            )
        self.state.resumes += 1
        print(f"{self.label}: resuming after step {self.state.step}", flush=True)

    def _outcome(self) -> Outcome:
        state = self.state
        cost = {
            "train_seconds": round(state.seconds, 3),
            "train_cpu_seconds": round(state.cpu_seconds, 3),
            "peak_memory_bytes": max(state.peak_bytes, peak_memory(self.device)),
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "resumes": state.resumes,
            "steps": state.step,
        }
        averaged = state.snapshots | {state.step: self.routine.learned(self.optimizer.averages())}
        raw = self.routine.learned({name: p.detach() for name, p in self.trained.items()})
        return Outcome(averaged, raw, state.log, cost, self.plan.precision)


def learning_rate_at(step: int, peak: float, settings: Training) -> float:
    """Linear warm-up over `warmup_steps`, then constant or half a cosine that would reach zero at step `steps`."""
    if step < settings.warmup_steps:
        return peak * (step + 1) / settings.warmup_steps
    if settings.learning_rate_schedule == "constant":
        return peak
    share = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * share))


def average_decay(step: int, decay: float) -> float:
    """EMA decay with warm-up, min(decay, (1 + t) / (10 + t)): a fixed 0.9999 would still be noise after a short run."""
    return min(decay, (1 + step) / (10 + step))
