"""Guided sampling against diffusers' DiTPipeline: the same weights, scheduler, steps, batch, noise; images agree.

    python benchmarks/sampling.py [--preset S/2] [--image-size 16] [--batch-size 8] [--steps 10] [--device cpu]

Peers are what stock libraries make of an export: DiTPipeline on dense weights, and DiTPipeline with peft's adapters, on
in the conditional half of guidance only.  The VAE is left out of both.  On a CPU the time is CPU time of one thread, so
that other jobs on the machine do not count; on a GPU it is wall time.  Of several runs the least counts.

ratio: ours to stock.  limit: the ratio if nothing but the counted multiply-accumulates of both halves of guidance took
time, at the rate of one large product.  x dense: ours to stock's rate for the dense model of that size.  difference:
between the two's images.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import ConfigMixin, DDIMScheduler, DiTPipeline, DiTTransformer2DModel, ModelMixin
from diffusers.configuration_utils import register_to_config
from peft import PeftModel

from kind.api import KindModel
from kind.diffusion import Diffusion
from kind.models.dit import DiTConfig, build_dit
from kind.models.factorized import Factorization, factorize
from kind.models.presets import PRESETS
from kind.params.protocol import DEFAULT_SPACING, Sampling
from kind.sampling import sample_batch

SCALE, CLASSES = 3.0, 10


class NoVAE(ModelMixin, ConfigMixin):
    """Hands latents on: decoding costs both sides the same and is not compared."""

    @register_to_config
    def __init__(self, scaling_factor: float = 1.0):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(()))

    def decode(self, latents: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=latents)


def random_model(arguments: argparse.Namespace, *, form: str) -> KindModel:
    """Weights do not matter to speed; all are moved at random so that every part shows in the images.

    KIND has learngenes as in the guess of 318 for width 768, and 3 tailors a class.
    """
    config = DiTConfig(*PRESETS[arguments.preset], image_size=arguments.image_size, channels=4, num_classes=CLASSES)
    model = build_dit(config, 0)
    if form == "kind":
        model = factorize(model, Factorization(config.width * 318 // 768, 3, overcomplete=True), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    names = tuple(f"class{label}" for label in range(CLASSES))
    return KindModel(model.eval(), names, Diffusion()).to(arguments.device)


def stock_pipeline(folder: str, content: dict, device: str) -> DiTPipeline:
    """DiTPipeline on an export, as its model card has it."""
    model = DiTTransformer2DModel.from_pretrained(folder)
    adapters = {
        label: content["adapters"][name].removeprefix("adapters/")
        for label, name in enumerate(content["classes"])
        if content["adapters"].get(name)
    }
    if adapters:
        first, *others = adapters.values()
        model = PeftModel.from_pretrained(model, f"{folder}/adapters/{first}", adapter_name=first)
        for name in others:
            model.load_adapter(f"{folder}/adapters/{name}", adapter_name=name)

        def choose(module, args, kwargs):
            labels = kwargs["class_labels"].tolist()
            kwargs["adapter_names"] = [adapters.get(label, "__base__") for label in labels]
            return args, kwargs

        model.register_forward_pre_hook(choose, with_kwargs=True)
    pipeline = DiTPipeline(model.eval(), NoVAE(), DDIMScheduler.from_pretrained(folder)).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def runners(model: KindModel, arguments: argparse.Namespace) -> tuple[Callable, Callable]:
    """(stock, ours), each drawing one batch of the same images in [0, 1]."""
    labels = model.labels(arguments.batch_size)
    protocol = Sampling(
        sampler="ddim", num_inference_steps=arguments.steps, timestep_spacing=DEFAULT_SPACING["ddim"],
        num_samples=len(labels),
    )  # fmt: skip

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in range(len(labels))]

    def ours() -> torch.Tensor:
        images = sample_batch(model.model, model.diffusion, protocol, labels.to(arguments.device), generators(), SCALE)
        return (images / 2 + 0.5).clamp(0, 1)

    with tempfile.TemporaryDirectory() as folder:
        content = model.export(Path(folder) / "x")
        pipeline = stock_pipeline(str(Path(folder) / "x"), content, arguments.device)

    def stock() -> torch.Tensor:
        return pipeline(
            labels.tolist(), guidance_scale=SCALE, generator=generators(), num_inference_steps=arguments.steps,
            output_type="pt",
        ).images  # fmt: skip

    return stock, ours


def null_macs(model: KindModel) -> int:
    """Of the null half of guidance: learngenes alone, where the gate closes for the null label."""
    return (model.learngenes() if model.null_gate == "learngenes" else model).cost["macs"]


def least_seconds(calls: list[Callable], arguments: argparse.Namespace) -> list[float]:
    """Of each, in turn, so that what the machine does meanwhile meets all alike."""
    clock, best = (time.process_time, []) if arguments.device == "cpu" else (time.perf_counter, [])
    best = [float("inf")] * len(calls)
    for _ in range(arguments.repeats):
        for index, call in enumerate(calls):
            started = clock()
            call()
            if arguments.device != "cpu":
                torch.cuda.synchronize()
            best[index] = min(best[index], clock() - started)
    return best


def multiply_rate(arguments: argparse.Namespace) -> float:
    """MACs a second of a large float32 product of this model's width: what nothing in float32 can go below."""
    width, rows = PRESETS[arguments.preset].width, 1024
    inputs, weight = torch.randn(rows, width, device=arguments.device), torch.randn(4 * width, width)
    weight = weight.to(arguments.device)

    def multiply() -> None:
        for _ in range(20):
            torch.nn.functional.linear(inputs, weight)

    multiply()
    return 20 * rows * 4 * width * width / least_seconds([multiply], arguments)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, default="S/2", help="size of the model (default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=16, help="of 4 channels (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="images at a time (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="of DDIM (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the least counts (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    whole = random_model(arguments, form="kind")
    two = whole.keep(whole.classes[:2])
    cases = {
        "dense": random_model(arguments, form="dense"),
        f"KIND, {CLASSES} classes": whole,
        "KIND, 2 classes": two,
        "KIND, 2 classes, half the MACs": two.budget(macs=0.5),
    }
    print(f"{arguments.preset}, 4 x {arguments.image_size} x {arguments.image_size}, batch {arguments.batch_size}, "
          f"{arguments.steps} steps of DDIM, guidance {SCALE}, {arguments.device}, float32")  # fmt: skip
    print(f"{'model':<32}{'GMACs':>8}{'stock, im/s':>13}{'ours, im/s':>12}{'ratio':>8}{'limit':>8}{'x dense':>9}"
          f"{'difference':>12}")  # fmt: skip
    dense_rate, multiplied = None, multiply_rate(arguments)
    for name, model in cases.items():
        stock, ours = runners(model, arguments)
        with torch.inference_mode():
            difference = float((stock() - ours()).abs().max())
            seconds = least_seconds([stock, ours], arguments)
        rates = [arguments.batch_size / one for one in seconds]
        dense_rate = dense_rate or rates[0]
        limit = multiplied / (arguments.steps * (model.cost["macs"] + null_macs(model)))
        print(
            f"{name:<32}{model.cost['macs'] / 1e9:>8.3f}{rates[0]:>13.3f}{rates[1]:>12.3f}{rates[1] / rates[0]:>8.2f}"
            f"{limit / rates[0]:>8.2f}{rates[1] / dense_rate:>9.2f}{difference:>12.1e}",
            flush=True,
        )
        assert difference < 1e-4, "stock and ours draw different images"


if __name__ == "__main__":
    main()
