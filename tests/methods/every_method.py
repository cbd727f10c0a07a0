"""What the tests of all methods share: each method with each of its examples, attached to a small model.

A new method is tested by being there; settings that are worth a test are its `examples`.
"""

from __future__ import annotations

import pytest
import torch

from kind.adaptation import Start, adapt, trained_parameters
from kind.checkpoints import load_start
from kind.diffusion import Diffusion
from kind.methods import METHODS, Material
from kind.models.dit import LABEL_TABLE, DiTConfig
from kind.models.presets import PRESETS
from kind.params import Training
from kind.training import Plan, train
from kind.training_routine import routine_of

CASES = [
    pytest.param(name, options, id=" ".join([name, *(f"{k}={v}" for k, v in options.items())]))
    for name in METHODS
    for options in METHODS[name].examples
]
CLASSES, SEED = ["x", "y", "z"], 11
SEEN = ["d", "a", "c"]  # of those that the starts were pre-trained on
each_method = pytest.mark.parametrize("name, given", CASES)


def start_of(name, starts) -> Start:
    method = METHODS[name]
    fresh = DiTConfig(*PRESETS["micro/2"], image_size=8, channels=3, num_classes=3)
    start = load_start(method.start, starts.of(method.start), fresh, SEED)
    if method.start is None:
        shake(start.model.parameters())  # a fresh DiT's output is zero whatever is attached
    return start.of_classes(SEEN) if method.for_seen else start


def classes_of(name):
    return SEEN if METHODS[name].for_seen else CLASSES


def shake(parameters):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def attached(name, given, starts, seed=SEED):
    """The start with the method attached, in evaluation mode, and its options."""
    method, options = METHODS[name], METHODS[name].options.model_validate(given)
    material = material_of(method, options)
    return adapt(start_of(name, starts), method, options, 3, seed, "random", material).eval(), options


def material_of(method, options) -> Material | None:
    needs, generator = method.needs(options), torch.Generator().manual_seed(4)
    return Material(embeddings=torch.randn(3, 6, generator=generator)) if "embeddings" in needs else None


def counted(model):
    """Numbers that are trained, without the label table."""
    trained = trained_parameters(model)
    return sum(parameter.numel() for name, parameter in trained.items() if name != LABEL_TABLE)


def outputs(model):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 8, 8, generator=generator)
    with torch.no_grad():
        return model(images, torch.arange(8) * 120, torch.arange(8) % 4)  # class 3 is the null class


def train_three_steps(model, folder, name, options, **changes):
    settings = Training(steps=3, batch_size=8, learning_rate=1e-2, ema_decay=0.5, **changes)
    method = METHODS[name]
    of_method = {"routine": routine_of(method, options, 3, 0), "rate_scales": method.rate_scales(model, options)}
    plan = Plan(settings, Diffusion("cosine", "v"), 1e-2, seed=0, recipe="test", snapshot_steps=(1,), **of_method)
    images = torch.randint(256, (8, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return train(model, images, torch.arange(8) % 3, plan, folder / "state.pt", "test")
