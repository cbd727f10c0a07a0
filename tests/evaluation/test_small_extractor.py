from __future__ import annotations

import numpy as np
import pytest
import torch

from kind.errors import UserError
from kind.evaluation.small_extractor import (
    GRID,
    SPATIAL_CHANNELS,
    SmallNetwork,
    load_network,
    save_extractor,
    train_extractor,
)


def train(split, *, steps=6, seed=0, class_names=tuple("0123456789"), **changes):
    settings = {"batch_size": 32, "learning_rate": 3.0e-3, "feature_dim": 16} | changes
    return train_extractor(
        split.images,
        split.labels,
        class_names,
        validation_images=split.images[:50],
        validation_labels=split.labels[:50],
        steps=steps,
        seed=seed,
        **settings,
    )


def weights(network):
    return torch.cat([parameter.flatten() for parameter in network.parameters()])


def test_learns_digits_in_seconds(trained, digits):
    network, record = trained
    images = torch.from_numpy(digits.test.images.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        predicted = network(images)[2].argmax(dim=1).numpy()
    assert np.mean(predicted == digits.test.labels) > 0.95
    assert record["validation_accuracy"] > 0.95
    assert (record["num_train"], record["num_validation"]) == (1077, 360)


def test_training_is_decided_by_its_seed_and_leaves_the_global_state_alone(digits):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, record = train(digits.validation)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second, again = train(digits.validation)
    assert torch.equal(weights(first), weights(second))
    assert record == again
    barely = [weights(train(digits.validation, seed=seed, learning_rate=1.0e-12)[0]) for seed in (0, 1)]
    assert (barely[0] - barely[1]).abs().max() > 0.1, "the seed decides the initial weights"
    assert not torch.equal(weights(first), barely[0])


@pytest.mark.parametrize("shape", [(8, 8, 1), (12, 12, 3), (16, 16, 1), (32, 32, 3), (9, 14, 1)])
def test_takes_small_images_of_any_size(shape):
    network = SmallNetwork(shape, ["a", "b", "c"], feature_dim=24).eval()
    images = torch.randint(0, 256, (2, shape[2], *shape[:2]), dtype=torch.uint8)
    pooled, spatial, logits = network(images)
    assert (pooled.shape, spatial.shape, logits.shape) == ((2, 24), (2, GRID * GRID * SPATIAL_CHANNELS), (2, 3))


def test_spatial_features_are_the_middle_layer_in_row_column_channel_order():
    network = SmallNetwork((8, 8, 1), ["a", "b"], feature_dim=4).eval()
    seen = {}
    network.convolutions[1].register_forward_hook(lambda _m, _i, output: seen.update(middle=output))
    network.spatial_scale.fill_(2.0)
    spatial = network(torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8))[1]
    middle = torch.nn.functional.gelu(seen["middle"]) * 2.0
    assert middle.shape[2:] == (4, 4)
    for row, column, channel in ((0, 0, 0), (1, 2, 1), (3, 3, 2)):
        position = (row * 4 + column) * SPATIAL_CHANNELS + channel
        torch.testing.assert_close(spatial[:, position], middle[:, channel, row, column])


def test_features_have_unit_mean_square_on_the_training_images(trained, digits):
    images = torch.from_numpy(digits.train.images.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        pooled, spatial, _ = trained[0](images)
    assert float(pooled.square().mean()) == pytest.approx(1.0, rel=1e-4)
    assert float(spatial.square().mean()) == pytest.approx(1.0, rel=1e-4)


def test_file_describes_itself(trained, tmp_path):
    network, record = trained
    save_extractor(tmp_path / "e.safetensors", network, {"name": "digits", "record": record})
    loaded, header = load_network(tmp_path / "e.safetensors")
    assert torch.equal(weights(loaded), weights(network))
    assert torch.equal(loaded.pooled_scale, network.pooled_scale)
    assert header["record"]["validation_accuracy"] == record["validation_accuracy"]
    assert (header["image_shape"], header["class_names"]) == ([8, 8, 1], list("0123456789"))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_progress_is_told_every_step(digits):
    steps = []
    train(digits.validation, steps=3, progress=lambda step, total, loss: steps.append((step, total, loss > 0)))
    assert steps == [(1, 3, True), (2, 3, True), (3, 3, True)]


def test_refuses_what_it_cannot_learn(digits, tmp_path):
    from kind.artifacts import save_tensors

    with pytest.raises(UserError, match=r"8x8 to 32x32.*\(64, 64, 3\)"):
        SmallNetwork((64, 64, 3), ["a", "b"], 8)
    with pytest.raises(UserError, match="different class names"):
        SmallNetwork((8, 8, 1), ["a", "a"], 8)
    with pytest.raises(UserError, match=r"labels in 0 \.\. 4"):
        train(digits.validation, class_names=tuple("01234"))
    with pytest.raises(UserError, match="steps"):
        train(digits.validation, steps=0)
    with pytest.raises(UserError, match="lower its learning_rate"):
        train(digits.validation, steps=40, learning_rate=1.0e30)
    save_tensors(tmp_path / "other.safetensors", {"w": torch.zeros(2)}, {"format": "dit"})
    with pytest.raises(UserError, match="not a small-extractor file; its header has the keys format"):
        load_network(tmp_path / "other.safetensors")
