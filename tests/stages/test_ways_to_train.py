"""How the params say that training computes: the same way each time, in bfloat16, compiled."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from kind.__main__ import main
from kind.artifacts import load_tensors

STEPS = 40
LONGER = ("steps: 3, batch_size: 8, learning_rate: 1.0e-3", f"steps: {STEPS}, batch_size: 8, learning_rate: 1.0e-3")
MADE = Path("results/tiny/backbones/kind")


@pytest.fixture
def pretrain(tiny, tmp_path, monkeypatch):
    """pretrain(compute) -> bytes of the files of the backbone that these settings make, and what its linears put out
    while it was trained: whether sums were deterministic, dtypes of weights and of products."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny.results / "data", tmp_path / "results/tiny/data")
    plain = (tiny.folder / "tiny.yaml").read_text().replace(*LONGER, 1)

    def run(compute: str, look: bool = True) -> tuple[dict[str, bytes], set]:
        asked = plain.replace("{device: cpu}", f"{{device: cpu{compute}}}")
        (tmp_path / "tiny.yaml").write_text(asked)
        shutil.rmtree(MADE, ignore_errors=True)
        seen = set()

        def note(module: torch.nn.Module, _, output) -> None:
            if isinstance(module, torch.nn.Linear) and torch.is_grad_enabled():
                seen.add((torch.are_deterministic_algorithms_enabled(), module.weight.dtype, output.dtype))

        hook = register_module_forward_hook(note) if look else contextlib.nullcontext()
        with hook:
            assert main(["pretrain", "--experiment", "tiny.yaml", "--backbone", "kind"]) == 0
        return {path.name: path.read_bytes() for path in MADE.iterdir()}, seen

    return run


def losses(made: dict[str, bytes]) -> list[float]:
    lines = made["train.csv"].decode().splitlines()
    return [float(line.split(",")[1]) for line in lines[1:]]


def test_deterministic_training_is_so_while_it_runs_and_the_next_one_as_its_own_params_say(pretrain):
    first, during = pretrain(", deterministic: true")
    again, _ = pretrain(", deterministic: true")
    plain, afterwards = pretrain("")
    float32 = torch.float32
    assert during == {(True, float32, float32)} and afterwards == {(False, float32, float32)}
    for name in ("model.safetensors", "train.csv"):
        assert first[name] == again[name] == plain[name], "on a CPU"


def test_in_bfloat16_products_alone_are_of_it(pretrain):
    expected, _ = pretrain(", precision: float32")
    found, during = pretrain(", precision: bfloat16")
    assert during == {(False, torch.float32, torch.bfloat16)}
    tensors, _ = load_tensors(MADE / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float32}
    assert losses(found) != losses(expected) and losses(found) == pytest.approx(losses(expected), rel=0.02)
    assert losses(found)[-1] < 0.8 * losses(found)[0], "it learns"


def test_compiled_training_is_what_the_params_ask_for_and_learns_the_same(pretrain):
    """By a backend that runs what was traced; tests/together compares weights."""
    expected, _ = pretrain("", look=False)
    torch.compiler.reset()
    traced = []

    def backend(graph, _):
        traced.append(graph)
        return graph.forward

    with torch.compiler.set_stance("default", force_backend=backend):
        found, _ = pretrain(", compile: true", look=False)
    assert 0 < len(traced) < STEPS / 4, "it is traced, and not anew at each step"
    assert found.keys() == expected.keys()
    assert losses(found) == pytest.approx(losses(expected), rel=1e-3)
