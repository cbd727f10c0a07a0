"""Small models trained for some steps, in one process or, under torchrun, in several; run by test_same_result.py.

torchrun ... trained.py FOLDER: each case by all processes together; the first one writes FOLDER/found.pt.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kind import distributed
from kind.adaptation import Start, adapt
from kind.batches import Replay
from kind.diffusion import Diffusion
from kind.methods import METHODS
from kind.models.dit import DiT, DiTConfig, build_dit
from kind.models.factorization import SoftGating
from kind.models.factorized import Factorization, factorize
from kind.models.presets import PRESETS
from kind.params import Training
from kind.spaces import Latents, Pixels
from kind.training import Plan, train
from kind.training_routine import routine_of

STEPS, CLASSES = 20, 5
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(256, (40, 3, 8, 8), generator=GENERATOR, dtype=torch.uint8)
LATENTS = torch.rand((40, 2, 2, 3, 8, 8), generator=GENERATOR).half()
LABELS = torch.arange(40) % CLASSES
SETTINGS = {
    "steps": STEPS, "batch_size": 7, "learning_rate": 1e-3, "warmup_steps": 5, "ema_decay": 0.9, "log_every": 4,
    "label_dropout": 0.3, "weight_decay": 0.05, "gradient_clip": 0.5,
}  # fmt: skip
OPTIONS = {"lora": {"rank": 4}, "sara": {"share": 0.3, "rank_penalty": 0.01}, "lt-sft": {"share": 0.1}}


def model_of(form: str) -> DiT:
    """Every parameter moved at random, so that no gradient is zero by initialisation."""
    model = build_dit(DiTConfig(*PRESETS["micro/2"], image_size=8, channels=3, num_classes=CLASSES), seed=0)
    if form == "soft":
        everyone = ((tuple(range(CLASSES)), 9),)
        soft = SoftGating((6,), "tailors", embedding_size=4)
        model = factorize(model, Factorization(8, 0, groups=everyone, soft=soft), 0)
        model.class_shares.know_seen(torch.randn(CLASSES, 4, generator=torch.Generator().manual_seed(0)))
    elif form != "dense":
        groups = (((0, 1), 3),) if form == "groups" else ()
        model = factorize(model, Factorization(8, 0 if form == "all shared" else 2, groups=groups), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def cases() -> dict[str, dict[str, Any]]:
    """Name -> what differs from the plainest: form or method, dtype, and entries of the plan."""
    gate = {"form": "kind", "null_gate": "true_class"}
    return {
        "dense": {"form": "dense"},
        "kind": {"form": "kind"},
        "dense, float32": {"form": "dense", "dtype": torch.float32},
        "kind, float32": {"form": "kind", "dtype": torch.float32},
        "sara": {"method": "sara"},
        "kind, in parts": {**gate, "accumulation": 3},
        "kind, replay": {**gate, "replay": Replay(IMAGES[:9], 0.4, 0.1)},
        "groups, flipped": {"form": "groups", "space": Pixels(flips=True)},
        "soft, latents": {"form": "soft", "space": Latents("a vae", 0.5), "images": LATENTS},
        "all shared": {"form": "all shared"},
        "lt-sft": {"method": "lt-sft"},
        "lora": {"method": "lora"},
    }


def trained(case: dict[str, Any], **changes: Any) -> dict[str, dict[str, Tensor] | list]:
    """What training leaves: weights, raw and averaged, the log, and what the model says of noise afterwards."""
    case = {**case, **changes}
    dtype, images = case.pop("dtype", torch.float64), case.pop("images", IMAGES)
    name, form = case.pop("method", None), case.pop("form", "dense")
    model, how = model_of(form), {}
    if name is not None:
        method, options = METHODS[name], METHODS[name].options(**OPTIONS[name])
        model = adapt(Start(model), method, options, CLASSES, 4, "random")
        how["routine"] = routine_of(method, options, STEPS, 4)
    plan = Plan(Training(**SETTINGS), Diffusion("cosine", "v"), 1e-3, 3, "a recipe", snapshot_steps=(9,), **how)
    model = model.to(dtype)
    with tempfile.TemporaryDirectory() as folder:
        outcome = train(model, images, LABELS, replace(plan, **case), Path(folder) / "state.pt", "a run")
    generator = torch.Generator().manual_seed(2)
    noise, times = torch.randn((12, 3, 8, 8), generator=generator), torch.arange(12) * 80
    with torch.no_grad():
        output = model.eval()(noise.to(dtype), times, torch.arange(12) % (CLASSES + 1))
    weights = outcome.raw | {
        f"averaged {step} {key}": v for step, of in outcome.averaged.items() for key, v in of.items()
    }
    return {"weights": weights, "output": output, "log": outcome.log, "cost": outcome.cost}


def main() -> None:
    torch.set_num_threads(1)
    with distributed.group(torch.device("cpu")):
        names = sys.argv[2:] or list(cases())
        found = {name: trained(cases()[name]) for name in names}
        if distributed.is_first():
            torch.save(found, Path(sys.argv[1]) / "found.pt")


if __name__ == "__main__":
    main()
