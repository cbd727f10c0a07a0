"""What every method leaves: files that compute the same when loaded, plain weights, samples; and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from every_method import (
    SEED,
    attached,
    classes_of,
    each_method,
    material_of,
    outputs,
    shake,
    start_of,
    train_three_steps,
)

from kind.adaptation import adapt, learned_tensors, trained_parameters
from kind.artifacts import load_tensors, save_tensors
from kind.checkpoints import load_adapted, load_start, save_adapted
from kind.diffusion import Diffusion
from kind.errors import UserError
from kind.methods import METHODS
from kind.models.dit import to_diffusers
from kind.models.plain import is_plain
from kind.sampling import predictor


def save(path, model, name, options, starts, **changes):
    method = METHODS[name]
    learned = learned_tensors(model)
    header = {
        "method": name,
        "options": options.model_dump(),
        "classes": classes_of(name),
        "config": model.config.to_dict(),
        "diffusion": Diffusion("cosine", "v").to_dict(),
        "null_gate": "learngenes",
        "label_table": "random",
        "seed": SEED,
        "start": load_start(method.start, starts.of(method.start), model.config, SEED).identity,
        **changes,
    }
    save_adapted(path, learned, header)
    return learned.keys()


@each_method
def test_saved_and_loaded_it_computes_the_same(name, given, starts, tmp_path):
    method, options = METHODS[name], METHODS[name].options.model_validate(given)
    start = start_of(name, starts)
    model = adapt(start, method, options, 3, SEED, "random", material_of(method, options))
    train_three_steps(model, tmp_path, name, options)
    shake(trained_parameters(model.eval()).values())
    path = tmp_path / "adapted"
    names = save(path, model, name, options, starts)
    tensors, header = load_tensors(path)
    assert tensors.keys() == names
    loaded = load_adapted(path, starts.of(method.start))
    assert torch.equal(outputs(loaded.model.eval()), outputs(model))
    assert (loaded.classes, loaded.diffusion) == (classes_of(name), Diffusion("cosine", "v"))
    assert loaded.header == header
    assert header["format"] == "adapted/2"
    assert outputs(model).std() > 0.1


@each_method
def test_merging_keeps_the_output_and_exports(name, given, starts):
    model, _ = attached(name, given, starts)
    shake(trained_parameters(model).values())
    before = outputs(model)
    merged = copy.deepcopy(model)
    if METHODS[name].merge is not None:
        merged = METHODS[name].merge(merged)
    torch.testing.assert_close(outputs(merged), before, rtol=1e-5, atol=1e-5)
    assert is_plain(merged) == METHODS[name].has_plain_form, "what may be saved, cut and exported"
    if merged.gate is not None or not METHODS[name].has_plain_form:
        return
    start = start_of(name, starts).model
    assert merged.state_dict().keys() == start.state_dict().keys()
    stock = to_diffusers(merged)
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exported = stock(images, timestep=torch.arange(8) * 120, class_labels=torch.arange(8) % 4).sample
    torch.testing.assert_close(exported, before, rtol=1e-5, atol=1e-5)


@each_method
def test_sampling_steps_compute_what_the_model_does(name, given, starts):
    model, _ = attached(name, given, starts)
    shake(trained_parameters(model).values())
    times, labels = torch.tensor([900, 100]), torch.arange(8) % 4
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    predict = predictor(model, times, labels, None)
    for step in range(2):
        with torch.no_grad():
            expected = model(images, times[step].expand(8), labels)
        torch.testing.assert_close(predict(images, step), expected, rtol=1e-5, atol=1e-5)


@each_method
def test_files_that_do_not_fit_are_refused(name, given, starts, make_starts, tmp_path):
    model, options = attached(name, given, starts)
    path, method = tmp_path / "adapted", METHODS[name]
    save(path, model, name, options, starts)
    tensors, header = load_tensors(path)
    start = starts.of(method.start)

    if start is not None:
        with pytest.raises(UserError, match="was trained from another start"):
            load_adapted(path, make_starts(seed=5).of(method.start))
        with pytest.raises(UserError, match="format 'adapted/2', where '(backbone|learngenes)/2' is needed"):
            load_adapted(path, path)
    with pytest.raises(UserError, match="is needed"):
        load_adapted(starts.dense, start)

    for first in sorted(tensors)[:1]:
        save_tensors(path, {key: tensor for key, tensor in tensors.items() if key != first}, header)
        with pytest.raises(UserError, match=f"does not hold what {name} trains.*{first}"):
            load_adapted(path, start)
        save_tensors(path, {**tensors, first: tensors[first][..., :1]}, header)
        with pytest.raises(UserError, match=f"does not hold what {name} trains.*{first}"):
            load_adapted(path, start)
    save_tensors(path, {**tensors, "more": torch.zeros(1)}, header)
    with pytest.raises(UserError, match=f"does not hold what {name} trains.*more"):
        load_adapted(path, start)
    save_tensors(path, tensors, {**header, "method": "nomethod"})
    with pytest.raises(UserError, match="trained by method 'nomethod', which this version does not have"):
        load_adapted(path, start)
    save_tensors(path, tensors, header)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_adapted(path, start)
