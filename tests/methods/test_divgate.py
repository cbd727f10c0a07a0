"""A soft gate for a task's classes, against its formula in float64, and what each setting trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kind
from kind.adaptation import adapt, learned_tensors, trained_parameters
from kind.checkpoints import load_start, save_adapted
from kind.diffusion import Diffusion
from kind.errors import UserError
from kind.methods import METHODS, Material
from kind.models.dit import LABEL_TABLE
from kind.models.factorized import factorized_layers

DIVGATE = METHODS["divgate"]
EMBEDDINGS = torch.randn(3, 6, generator=torch.Generator().manual_seed(2))


def adapted(starts, **options):
    start = load_start("soft", starts.soft)
    return adapt(start, DIVGATE, DIVGATE.options(**options), 3, 0, "random", Material(embeddings=EMBEDDINGS))


@torch.no_grad()
def test_an_unseen_classes_matrix_comes_from_its_embedding(starts):
    """y = U_G (s_G V_G^T x) + U_T ((alpha s_T) V_T^T x) + b, alpha = T softmax(W2 silu(W1 e + b1) + b2)."""
    model, before = adapted(starts), load_start("soft", starts.soft).model
    state = {name: tensor.double().numpy() for name, tensor in before.state_dict().items()}
    g = {name.removeprefix("class_shares."): array for name, array in state.items() if "class_shares" in name}
    standard = (EMBEDDINGS.double().numpy() - g["mean"]) / g["spread"]
    hidden = standard @ g["mlp.0.weight"].T + g["mlp.0.bias"]
    powers = np.exp((hidden / (1 + np.exp(-hidden))) @ g["mlp.2.weight"].T + g["mlp.2.bias"])
    alpha = np.vstack([20 * powers / powers.sum(axis=1, keepdims=True), np.zeros(20)])
    labels = [2, 0, 3, 1]  # 3 is the null class
    model.gate.open(torch.tensor(labels))
    for name, layer in factorized_layers(model):
        u, s, v = (
            np.concatenate([state[f"{name}.{owner}_{part}"] for owner in ("learngene", "tailor")]) for part in "usv"
        )
        x = torch.randn(4, layer.in_features, generator=torch.Generator().manual_seed(0))
        gains = np.hstack([np.ones((4, 12)), alpha[labels]])
        expected = (x.double().numpy() @ v.T * s * gains) @ u + state[f"{name}.bias"]
        np.testing.assert_allclose(layer(x).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "train, parts",
    [("tailors", {"tailor_u", "tailor_s", "tailor_v", "class_shares", "label"}), ("gate", {"class_shares", "label"})],
)
def test_what_is_trained(starts, train, parts):
    model = adapted(starts, train=train)

    def part(name):
        if name == LABEL_TABLE:
            return "label"
        return name.split(".")[0] if name.startswith("class_shares") else name.rsplit(".", 1)[-1]

    assert {part(name) for name in trained_parameters(model)} == parts
    every = sum(1 for _ in factorized_layers(model)) * 3 if train == "tailors" else 0
    assert len(trained_parameters(model)) == every + 4 + 1


def test_zero_shot_trains_nothing_and_names_classes_by_their_embeddings(starts):
    model = adapted(starts, train="nothing").eval()
    before = load_start("soft", starts.soft).model
    assert trained_parameters(model) == {}
    assert learned_tensors(model).keys() == {"class_shares.embeddings"}
    assert all(torch.equal(row, before.label_table[-1]) for row in model.label_table)
    images = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).expand(4, -1, -1, -1)
    with torch.no_grad():
        outputs = model(images, torch.full((4,), 500), torch.arange(4))
    assert all((a - b).abs().max() > 1e-2 for i, a in enumerate(outputs) for b in outputs[i + 1 :])


def test_an_adapted_model_is_loaded_sampled_and_kept(starts, tmp_path):
    model = adapted(starts, train="nothing")
    header = {
        "method": "divgate",
        "options": DIVGATE.options(train="nothing").model_dump(),
        "classes": ["x", "y", "z"],
        "config": model.config.to_dict(),
        "diffusion": Diffusion("cosine", "v").to_dict(),
        "null_gate": "learngenes",
        "label_table": "random",
        "seed": 0,
        "start": load_start("soft", starts.soft).identity,
    }
    save_adapted(tmp_path / "adapted.safetensors", learned_tensors(model), header)
    loaded = kind.load(tmp_path / "adapted.safetensors", start=starts.soft)
    assert torch.equal(loaded.model.class_shares.embeddings, model.class_shares.embeddings)
    loaded.save(tmp_path / "whole.safetensors")
    again = kind.load(tmp_path / "whole.safetensors")
    assert np.array_equal(again.sample(6, num_steps=2), loaded.sample(6, num_steps=2))
    assert again.keep(["y"]).classes == ("y",)


def test_a_start_without_a_soft_gate_is_refused(starts):
    for path in (starts.dense, starts.whole):
        with pytest.raises(UserError, match="a backbone without a soft gate, where one with it is needed"):
            load_start("soft", path)


def test_embeddings_of_another_length_are_refused(starts):
    material = Material(embeddings=torch.zeros(3, 5))
    with pytest.raises(UserError, match="class embeddings of 5 numbers, but the backbone's gate takes 6"):
        adapt(load_start("soft", starts.soft), DIVGATE, DIVGATE.options(), 3, 0, "random", material)
