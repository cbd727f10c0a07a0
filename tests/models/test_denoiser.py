"""A denoiser's outputs are the model's own, whatever is prepared and in whatever order rows come."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kind.budget import Budget, cut
from kind.models import denoiser
from kind.models.denoiser import Denoiser
from kind.models.dit import DiTConfig, build_dit
from kind.models.factorization import SoftGating
from kind.models.factorized import Factorization, factorize
from kind.models.presets import PRESETS

TIMES = torch.tensor([999, 500, 3])


def grouped():
    config = DiTConfig(*PRESETS["micro/2"], image_size=8, channels=3, num_classes=5)
    factorization = Factorization(
        4, (3, 1, 2, 0, 2), matrices=("q", "v", "out", "adaln"), groups=(((0, 2), 2), ((1, 2, 3), 1))
    )
    model = factorize(build_dit(config, 0), factorization, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture(
    scope="module",
    params=["dense", "cheap factors", "cheap matrices", "grouped", "cut", "learned variance", "soft", "cheap soft"],
)
def model(request, build):
    return {
        "dense": lambda: build(),
        "cheap factors": lambda: build(learngenes=8, tailors=2),
        "cheap matrices": lambda: build(learngenes=24, tailors=2),
        "grouped": grouped,
        "cut": lambda: cut(build(learngenes=8, tailors=3), Budget("parameters", 0.8)).model,
        "soft": lambda: build(learngenes=12, tailors=20, soft=SoftGating((8,), "tailors", 6)),
        "cheap soft": lambda: build(learngenes=4, tailors=3, soft=SoftGating((), "none", 6)),
        "learned variance": lambda: build(learngenes=8, tailors=2, learned_variance=True),
    }[request.param]()


def check(model, labels, gates=None, steps=(0, 1, 2), batch=None, tolerance=1e-5):
    labels = torch.tensor(labels)
    gates = None if gates is None else torch.tensor(gates)
    prepared = Denoiser(model, TIMES, labels, gates)
    for step in steps:
        images = torch.randn(batch or len(labels), 3, 8, 8, generator=torch.Generator().manual_seed(step))
        rows = images.repeat(len(labels) // len(images), 1, 1, 1)
        expected = model(rows, TIMES[step].expand(len(labels)), labels, gates)
        torch.testing.assert_close(prepared(images, step), expected, rtol=tolerance, atol=tolerance)


@torch.no_grad()
def test_a_denoiser_computes_what_the_model_does(model):
    check(model, [3, 0, 5, 1, 3, 0, 4, 2])
    check(model, [2])
    check(model, [5, 5])


@torch.no_grad()
def test_both_halves_of_guidance_under_both_policies(model):
    check(model, [3, 0, 3, 5, 5, 5], [3, 0, 3, 5, 5, 5], batch=3)
    check(model, [3, 0, 3, 5, 5, 5], [3, 0, 3, 3, 0, 3], batch=3)


@torch.no_grad()
@pytest.mark.parametrize(
    "limits", [{"MODULATION_BYTES": 1}, {"FACTOR_BYTES": 1}, {"CALL_MACS": 0}, {"CALL_MACS": 10**9}], ids=str
)
def test_limits_change_nothing_but_speed(model, monkeypatch, limits):
    for name, value in limits.items():
        monkeypatch.setattr(denoiser, name, value)
    check(model, [3, 0, 3, 5, 5, 5], [3, 0, 3, 3, 0, 3], batch=3)
    check(model, [3, 0, 3, 5], steps=(2, 0, 1, 1))


@torch.no_grad()
def test_another_forward_between_steps_does_no_harm(model):
    """One gate is shared by all layers, and a forward pass opens it for its own labels."""
    labels = torch.tensor([3, 0, 5, 1])
    images = torch.randn(4, 3, 8, 8)
    prepared = Denoiser(model, TIMES, labels)
    first = prepared(images, 1)
    model(images[:1], TIMES[:1], torch.tensor([2]))
    assert torch.equal(prepared(images, 1), first)


@torch.no_grad()
def test_under_autocast_outputs_are_as_near_as_the_models_own(model):
    labels, images = torch.tensor([3, 0, 5, 1]), torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    exact = model(images, TIMES[1].expand(4), labels)
    with torch.autocast("cpu", torch.bfloat16):
        own = (model(images, TIMES[1].expand(4), labels) - exact).abs().max()
        found = (Denoiser(model, TIMES, labels)(images, 1).float() - exact).abs().max()
    assert found <= 2 * own


@torch.no_grad()
def test_the_null_half_uses_learngenes_alone(build, monkeypatch):
    """Whether classes are apart (each run of rows its own factors) or masked, and whichever is chosen."""
    model = build(learngenes=8, tailors=2)
    labels = torch.tensor([3, 0, 3, 5, 5, 5])
    ranks = {}
    for macs in (0, 10**9):
        monkeypatch.setattr(denoiser, "CALL_MACS", macs)
        parts = Denoiser(model, TIMES, labels).products["transformer_blocks.0.ff.net.2"].parts
        ranks[macs] = [(part.first, part.last, len(part.matrices[0]), part.mask is not None) for part in parts]
    assert ranks == {
        0: [(0, 1, 10, False), (1, 3, 10, False), (3, 6, 8, False)],
        10**9: [(0, 3, 12, True), (3, 6, 8, False)],
    }


@torch.no_grad()
def test_embedders_run_once_for_all_steps_and_labels(model, monkeypatch):
    calls = []
    forward = type(model.embedder).forward
    monkeypatch.setattr(
        type(model.embedder), "forward", lambda self, *a, **k: calls.append(len(a[1])) or forward(self, *a, **k)
    )
    prepared = Denoiser(model, TIMES, torch.tensor([3, 0, 3, 3, 5, 5, 5, 5]))
    for step in range(3):
        prepared(torch.randn(4, 3, 8, 8), step)
    assert calls == [3 * 3]  # three steps of labels 0, 3 and null


def test_models_that_are_built_differently_are_left_to_their_own_forward(build):
    assert Denoiser.fits(build()) and Denoiser.fits(build(learngenes=8, tailors=2))
    assert not Denoiser.fits(nn.Linear(1, 1))
    hooked, other = build(), build()
    hooked.transformer_blocks[1].register_forward_hook(lambda *_: None)
    other.transformer_blocks[0].ff = nn.Identity()
    assert not Denoiser.fits(hooked) and not Denoiser.fits(other)


@torch.no_grad()
def test_a_lora_inside_is_used(build):
    from peft import LoraConfig, inject_adapter_in_model

    model = build()
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["to_q", "ff.net.2"], init_lora_weights=False), model)
    assert Denoiser.fits(model.eval())
    check(model, [3, 0, 5])
