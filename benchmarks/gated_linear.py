"""The gated product of a factorized matrix against what it could be: time, memory and ratios, for the six matrices of
a block of DiT together.

    python benchmarks/gated_linear.py [--device cpu] [--dtype float32] [--compile] [--quick] [--repeats 5]

No optimiser takes part.  `floor` is the dense time x our active multiply-accumulates / the dense ones.  `saved` is what
autograd keeps for the backward pass.  Forms take turns, so that a busy machine is busy for all of them; the least time
of each counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from saved_activations import saved_bytes
from torch import Tensor, nn

from kind.models.factorization import FACTORIZED, LayerRanks, matrix_shape
from kind.models.factorized import FactorizedLinear
from kind.models.gate import ClassGate
from kind.models.presets import PRESETS

NUM_CLASSES, TOKENS = 150, 256
RANKS = {"S/2": (234, 1), "B/2": (318, 3), "L/2": (274, 5)}  # N_G, N_T: N_G + 150 N_T is the rank
FORMS = ("dense", "masked", "loop", "peft", "ours", "ours, recomputing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="bfloat16: by autocast")
    parser.add_argument("--compile", action="store_true", help="every form under torch.compile")
    parser.add_argument("--presets", nargs="+", default=list(RANKS), choices=list(RANKS))
    parser.add_argument("--distinct", nargs="+", type=int, default=[1, 8, 32], help="classes in the batch")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="for a busy machine; wants --threads 1")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="B/2 with 8 classes and a batch of 8, twice")
    options = parser.parse_args()
    if options.quick:
        options.presets, options.distinct, options.batch, options.repeats = ["B/2"], [8], 8, 2
    torch.set_num_threads(options.threads)
    clock = ", CPU time" if options.cpu_time else ""
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"{options.threads} CPU threads{clock}"
    print(f"torch {torch.__version__}, {name}, {options.dtype}, batch {options.batch} x {TOKENS} tokens, 150 classes")
    for preset in options.presets:
        for distinct in options.distinct:
            _print(preset, distinct, measure(preset, distinct, options), options)


def measure(preset: str, distinct: int, options: argparse.Namespace) -> dict[str, tuple[float, float, float]]:
    """Form -> forward seconds, forward and backward seconds, saved bytes, of the six matrices together."""
    width, totals = PRESETS[preset].width, {}
    for shape in {matrix_shape(kind, width) for kind in FACTORIZED}:
        times = sum(matrix_shape(kind, width) == shape for kind in FACTORIZED)
        for form, found in _measure_matrix(*shape, RANKS[preset], distinct, options).items():
            totals[form] = [a + times * b for a, b in zip(totals.get(form, (0, 0, 0)), found, strict=True)]
    return totals


def _measure_matrix(inputs: int, outputs: int, ranks: tuple[int, int], distinct: int, options) -> dict:
    device, generator = options.device, torch.Generator().manual_seed(0)
    labels = (torch.arange(options.batch) % distinct * (NUM_CLASSES // distinct)).sort().values
    x = torch.randn(options.batch, TOKENS, inputs, generator=generator).to(device).requires_grad_()
    gradient = torch.randn(options.batch, TOKENS, outputs, generator=generator).to(device)
    forms = dict(_forms(inputs, outputs, ranks, labels, device))
    if options.compile:
        forms = {name: (torch.compile(form), parameters) for name, (form, parameters) in forms.items()}
    found: dict[str, list] = {}
    for repeat in range(options.repeats + 1):
        for name, (form, parameters) in forms.items():
            found.setdefault(name, []).append(_once(form, parameters, x, gradient, options, name == "peft"))
            if repeat == 0:
                found[name] = []  # the first run prepares
    saved = {name: _saved_bytes(form, parameters, x, options) for name, (form, parameters) in forms.items()}
    return {name: (min(t[0] for t in times), min(t[1] for t in times), saved[name]) for name, times in found.items()}


def _forms(inputs: int, outputs: int, ranks: tuple[int, int], labels: Tensor, device: str) -> Iterator:
    """Name, and the form with its parameters."""
    dense = nn.Linear(inputs, outputs).to(device)
    yield "dense", (dense, list(dense.parameters()))
    gate = ClassGate(NUM_CLASSES)
    layer = FactorizedLinear(inputs, outputs, LayerRanks(ranks[0], (ranks[1],) * NUM_CLASSES), gate).to(device)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.02)
    parameters = list(layer.parameters())

    def opened(form: Callable, recompute: bool = False) -> Callable:
        def run(x: Tensor) -> Tensor:
            gate.recompute, gate.sparse_gradients = recompute, not torch.compiler.is_compiling()
            gate.open(labels.to(x.device) if x.is_cuda else labels)
            return form(x)

        return run

    yield "masked", (opened(layer.masked_product), parameters)
    yield "loop", (opened(lambda x: _loop(layer, x, labels)), parameters)
    yield "peft", _peft(inputs, outputs, ranks, labels, device)
    yield "ours", (opened(layer), parameters)
    yield "ours, recomputing", (opened(layer, recompute=True), parameters)


def _loop(layer: FactorizedLinear, x: Tensor, labels: Tensor) -> Tensor:
    """Learngenes for all samples, then for each class its tailors for its samples."""
    y = F.linear(F.linear(x, layer.learngene_v) * layer.learngene_s, layer.learngene_u.T, layer.bias)
    for label in labels.unique().tolist():
        own = (labels == label).nonzero()[:, 0].to(x.device)
        u, s, v = layer.components_of(label)
        y = y.index_add(0, own, F.linear(F.linear(x[own], v) * s, u.T).to(y.dtype))
    return y


def _peft(inputs: int, outputs: int, ranks: tuple[int, int], labels: Tensor, device: str):
    """A mixed batch of LoRA adapters of rank N_T on a dense matrix: forward only, peft trains no mixed batch."""
    from peft import LoraConfig, get_peft_model

    model = nn.ModuleDict({"linear": nn.Linear(inputs, outputs)})
    model.forward = lambda x: model.linear(x)
    config = LoraConfig(r=ranks[1], target_modules=["linear"], init_lora_weights=False)
    names = [f"class{label}" for label in labels.tolist()]
    peft = get_peft_model(model, config, adapter_name=names[0])
    for name in dict.fromkeys(names[1:]):
        if name != names[0]:
            peft.add_adapter(name, config)
    layer = peft.base_model.model.linear.to(device).eval()
    return (lambda x: layer(x, adapter_names=names)), []


def _once(form: Callable, parameters: list, x: Tensor, gradient: Tensor, options, forward_only: bool) -> tuple:
    for parameter in (x, *parameters):
        parameter.grad = None
    started = _now(x, options)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=options.dtype == "bfloat16"):
        y = form(x) if not forward_only else form(x.detach())
    forward = _now(x, options) - started
    if forward_only:
        return forward, float("nan")
    y.backward(gradient.to(y.dtype))
    return forward, _now(x, options) - started


def _now(x: Tensor, options: argparse.Namespace) -> float:
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.process_time() if options.cpu_time else time.perf_counter()


def _saved_bytes(form: Callable, parameters: list, x: Tensor, options) -> int:
    with torch.autocast(x.device.type, torch.bfloat16, enabled=options.dtype == "bfloat16"):
        return saved_bytes(lambda: form(x), parameters)


def _print(preset: str, distinct: int, totals: dict, options) -> None:
    width, (learngenes, tailors) = PRESETS[preset].width, RANKS[preset]
    shapes = [matrix_shape(kind, width) for kind in FACTORIZED]
    share = (learngenes + tailors) * sum(i + o for i, o in shapes) / sum(i * o for i, o in shapes)
    dense, both = totals["dense"][:2]
    print(f"\nDiT-{preset}: N_G {learngenes}, N_T {tailors}, {distinct} classes in the batch")
    print(f"{'':<20}{'forward ms':>11}{'and back ms':>12}{'x dense':>9}{'x floor':>9}{'saved MiB':>11}")
    rows = {**totals, "floor": (dense * share, both * share, float("nan"))}
    for name, (forward, whole, saved) in rows.items():
        time, against = (whole, both) if whole == whole else (forward, dense)
        ratio, floor = time / against, time / against / share
        print(
            f"{name:<20}{1e3 * forward:>11.1f}{1e3 * whole:>12.1f}{ratio:>9.2f}{floor:>9.2f}{saved / 2**20:>11.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
