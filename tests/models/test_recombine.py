"""Keeping classes of a model and combining those of several: outputs are the whole models'."""

from __future__ import annotations

import pytest
import torch

from kind.budget import Budget, cut
from kind.errors import UserError
from kind.evaluation.complexity import count_parameters
from kind.models.dit import LABEL_TABLE, DiTConfig, build_dit
from kind.models.factorized import Factorization, factorize, factorized_layers
from kind.models.presets import PRESETS
from kind.models.recombine import combine, keep


def shaken(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def grouped():
    config = DiTConfig(*PRESETS["micro/2"], image_size=8, channels=3, num_classes=5)
    factorization = Factorization(6, (3, 1, 2, 0, 2), groups=(((0, 2), 2), ((1, 2, 3), 1)))
    return shaken(factorize(build_dit(config, 0), factorization, 0))


@pytest.fixture(scope="module", params=["plain", "groups", "cut"])
def model(request, build):
    if request.param == "groups":
        return grouped()
    whole = build(learngenes=8, tailors=3)
    return whole if request.param == "plain" else cut(whole, Budget("parameters", 0.8)).model


@torch.no_grad()
def agree(small, whole, labels, model_inputs):
    """Label i of `small` is labels[i] of `whole`; the null label too."""
    images, timesteps, _ = model_inputs(whole)
    own = torch.arange(12) % (len(labels) + 1)
    expected = whole(images, timesteps, torch.tensor([*labels, whole.config.num_classes])[own])
    torch.testing.assert_close(small(images, timesteps, own), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("labels", [[], [3], [4, 0], [2, 1, 0], [4, 3, 2, 1, 0]], ids=str)
def test_kept_classes_compute_what_the_whole_model_does(model, model_inputs, labels):
    small = keep(model, labels)
    agree(small, model, labels, model_inputs)
    assert small.config.num_classes == len(labels) and not small.training
    rows = count_parameters(model) - count_parameters(small) - (5 - len(labels)) * model.config.width
    gone = sum(
        (layer.num_components - small.get_submodule(name).num_components) * (layer.in_features + layer.out_features + 1)
        for name, layer in factorized_layers(model)
    )
    assert rows == gone


def test_keeping_twice_is_keeping_once(model, model_inputs):
    agree(keep(keep(model, [4, 2, 0]), [2, 1]), model, [0, 2], model_inputs)


def test_the_same_learngenes_take_the_classes_of_two_models_apart_again(model, model_inputs):
    joint = combine([keep(model, [4, 1]), keep(model, [0, 2, 3])])
    agree(joint, model, [4, 1, 0, 2, 3], model_inputs)
    if model.factorization.ranks is None and not model.factorization.groups:
        assert joint.factorization == model.factorization
        assert count_parameters(joint) == count_parameters(model)


def test_models_with_different_numbers_of_tailors_combine(build, model_inputs):
    few, many = build(learngenes=8, tailors=1), build(learngenes=8, tailors=3)
    state = many.state_dict()
    few.load_state_dict({**few.state_dict(), **{k: v for k, v in state.items() if "tailor" not in k}})
    joint = combine([few, many])
    agree(keep(joint, [0, 3]), few, [0, 3], model_inputs)
    agree(keep(joint, [5, 9]), many, [0, 4], model_inputs)
    assert joint.factorization.num_tailors == (1,) * 5 + (3,) * 5 and joint.factorization.ranks is None


@torch.no_grad()
def test_a_null_row_of_another_model_must_be_chosen(build, model_inputs):
    first, second = build(learngenes=8, tailors=2), build(learngenes=8, tailors=2)
    second.label_table[-1] += 1
    with pytest.raises(UserError, match="model 2 has another null label row than the first"):
        combine([first, second])
    for index, chosen in enumerate((first, second)):
        joint = combine([first, second], null_row_of=index)
        assert torch.equal(joint.label_table[-1], chosen.label_table[-1])
        assert torch.equal(joint.label_table[:-1], torch.cat([first.label_table[:-1], second.label_table[:-1]]))


def test_models_that_do_not_fit_are_refused_with_the_shapes(build):
    model = build(learngenes=8, tailors=2)
    name = r"transformer_blocks.0.attn1.to_q.learngene_u"
    with pytest.raises(UserError, match=rf"model 2 does not fit the first: {name} is \[9, 32\], [^$]* \[8, 32\]"):
        combine([model, build(learngenes=9, tailors=2)])
    with pytest.raises(UserError, match=r"model 3 does not share [^$]*: embedder[^$]* \[32, 256\] differs"):
        combine([model, model, build(learngenes=8, tailors=2, seed=4)])
    with pytest.raises(UserError, match="channels 1, where the first has 3"):
        combine([model, build(learngenes=8, tailors=2, channels=1)])
    with pytest.raises(UserError, match="null_gate true_class, where the first has learngenes"):
        combine([model, build(learngenes=8, tailors=2, null_gate="true_class")])
    with pytest.raises(UserError, match="a dense model has no learngenes"):
        combine([model, build()])
    with pytest.raises(UserError, match="a dense model has no learngenes"):
        keep(build(), [0])


@pytest.mark.parametrize("labels", [[5], [-1], [0, 0]], ids=str)
def test_labels_that_the_model_lacks_are_refused(build, labels):
    with pytest.raises(UserError, match="each must be one of 0 to 4, once"):
        keep(build(learngenes=8, tailors=2), labels)


def test_nothing_is_shared_with_the_whole_model(build):
    """A kept model may be trained on without changing the one that it came from."""
    whole = build(learngenes=8, tailors=2)
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    small = keep(whole, [1])
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(1)
    assert all(torch.equal(whole.state_dict()[name], tensor) for name, tensor in before.items())
    assert LABEL_TABLE in before
