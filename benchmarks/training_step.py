"""A whole training step of KIND against a dense DiT and against the masked form: forward, backward, clipping, AdamW and
averages (EMA), and how much of it the update is.

    python benchmarks/training_step.py [--device cpu] [--dtype float32] [--compile] [--quick] [--repeats 5]

`update` is clipping, AdamW and EMA; it is part of the step.  Models take turns; the least time of each counts.
`saved` is what autograd keeps for the backward pass.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import torch
from saved_activations import saved_bytes
from torch import Tensor, nn

from kind.devices import peak_memory
from kind.models.dit import DiT, DiTConfig
from kind.models.factorized import Factorization, FactorizedLinear, make_room
from kind.models.presets import PRESETS
from kind.optimizer import Optimizer


class Case(NamedTuple):
    """Batch, image size, channels, classes and ranks (N_G, N_T)."""

    batch: int
    size: int
    channels: int
    classes: int
    ranks: tuple[int, int]


CASES = {
    "S/2": Case(16, 32, 4, 150, (234, 1)),
    "B/2": Case(8, 32, 4, 150, (318, 3)),
    "tiny/2": Case(64, 8, 1, 7, (36, 4)),  # the small experiment's
}
FORMS = ("dense", "masked", "kind", "kind, hidden recomputed", "kind, blocks recomputed", "kind, in 4 parts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="bfloat16: by autocast")
    parser.add_argument("--compile", action="store_true", help="every model under torch.compile")
    parser.add_argument("--presets", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--batch", type=int, help="in place of 16, 8 and 64")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="for a busy machine; wants --threads 1")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the small experiment's model, five times")
    options = parser.parse_args()
    if options.quick:
        options.presets = ["tiny/2"]
    torch.set_num_threads(options.threads)
    clock = ", CPU time" if options.cpu_time else ""
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"{options.threads} CPU threads{clock}"
    print(f"torch {torch.__version__}, {name}, {options.dtype}{', compiled' if options.compile else ''}")
    for preset in options.presets:
        case = CASES[preset]
        case = case._replace(batch=options.batch or case.batch)
        _print(preset, case, measure(preset, case, options))


def measure(preset: str, case: Case, options: argparse.Namespace) -> dict[str, tuple[float, float, int]]:
    """Form -> seconds of a step, of its update, and bytes saved for the backward pass."""
    runs = {form: _Run(form, preset, case, options) for form in FORMS}
    times: dict[str, list[tuple[float, float]]] = {form: [] for form in FORMS}
    for repeat in range(options.repeats + 2):
        for form, run in runs.items():
            found = run.step(repeat)
            if repeat >= 2:  # the first steps make the optimiser's state
                times[form].append(found)
    return {
        form: (min(t[0] for t in found), min(t[1] for t in found), runs[form].saved()) for form, found in times.items()
    }


class _Run:
    def __init__(self, form: str, preset: str, case: Case, options: argparse.Namespace):
        self.case, self.options, self.masked = case, options, form == "masked"
        self.parts = 4 if form == "kind, in 4 parts" else 1  # accumulation
        config = DiTConfig(
            *PRESETS[preset], image_size=case.size, channels=case.channels, num_classes=case.classes,
            learned_variance=case.channels == 4,
        )  # fmt: skip
        model = DiT(config)
        if form != "dense":
            make_room(model, Factorization(*case.ranks))
            for layer in model.modules():
                if isinstance(layer, FactorizedLinear):
                    for parameter in layer.parameters():
                        nn.init.normal_(parameter, std=0.02)
                    if self.masked:
                        layer.forward = layer.masked_product
        self.model = model.to(options.device).train()
        if model.gate is not None:
            model.gate.sparse_gradients = options.device == "cpu" and not options.compile and not self.masked
            model.gate.recompute = form == "kind, hidden recomputed"
        model.recompute_blocks = form == "kind, blocks recomputed"
        self.call = torch.compile(model) if options.compile else model
        self.trained = dict(model.named_parameters())
        self.optimizer = Optimizer(model, self.trained, weight_decay=0.0)

    def step(self, seed: int) -> tuple[float, float]:
        started = self._now()
        batch = self._batch(seed)
        self.optimizer.zero_grad()
        for number in range(self.parts):
            (self._forward(batch, number).float().square().mean() / self.parts).backward()
        computed = self._now()
        self.optimizer.step(batch[2], 1e-4, 1.0, 0.999)
        ended = self._now()
        return ended - started, ended - computed

    def _batch(self, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images, timesteps, and labels on the CPU."""
        case, device = self.case, self.options.device
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(case.batch, case.channels, case.size, case.size, generator=generator).to(device)
        labels = torch.randint(case.classes, (case.batch,), generator=generator)
        labels[torch.rand(case.batch, generator=generator) < 0.1] = case.classes  # dropped
        times = torch.randint(1000, (case.batch,), generator=generator).to(device)
        return images, times, labels

    def _forward(self, batch: tuple[Tensor, Tensor, Tensor], number: int) -> Tensor:
        """Of one part of the batch."""
        images, times, labels = (tensor.tensor_split(self.parts)[number] for tensor in batch)
        with torch.autocast(self.options.device, torch.bfloat16, enabled=self.options.dtype == "bfloat16"):
            return self.call(images, times, labels.to(self.options.device), labels)

    def saved(self) -> int:
        batch = self._batch(0)
        return saved_bytes(lambda: self._forward(batch, 0), self.trained.values())

    def _now(self) -> float:
        if self.options.device == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if self.options.cpu_time else time.perf_counter()


def _print(preset: str, case: Case, found: dict[str, tuple[float, float, int]]) -> None:
    print(f"\nDiT-{preset}: batch {case.batch}, {case.classes} classes, N_G {case.ranks[0]}, N_T {case.ranks[1]}")
    print(f"{'':<26}{'step ms':>10}{'update ms':>11}{'x dense':>9}{'x masked':>10}{'saved MiB':>11}")
    for form, (step, update, saved) in found.items():
        ratios = step / found["dense"][0], step / found["masked"][0]
        print(
            f"{form:<26}{1e3 * step:>10.1f}{1e3 * update:>11.1f}{ratios[0]:>9.2f}{ratios[1]:>10.2f}"
            f"{saved / 2**20:>11.1f}",
            flush=True,
        )
    print(f"peak memory of the process: {peak_memory(torch.device('cpu')) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
