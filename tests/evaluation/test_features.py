from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from kind.errors import UserError
from kind.evaluation.features import load_extractor
from kind.evaluation.frechet import frechet_distance, gaussian_statistics
from kind.evaluation.kernel_distance import kernel_distance

# --- the small network ----------------------------------------------------------------------------------------


def test_extractor_carries_its_protocol(extractor, extractor_path):
    assert extractor.name == "digits"
    assert extractor.identity == hashlib.sha256(extractor_path.read_bytes()).hexdigest()
    assert extractor.class_names == tuple("0123456789")
    assert load_extractor(extractor_path, "mnist").name == "mnist"


def test_features_have_their_shapes_and_repeat(extractor, digits):
    features = extractor.extract(digits.test.images, 128)
    assert [output.shape for output in features] == [(360, 32), (360, 48), (360, 10)]
    assert {output.dtype for output in features} == {np.dtype(np.float32)}
    for first, second in zip(features, extractor.extract(digits.test.images, 128), strict=True):
        np.testing.assert_array_equal(first, second)


def test_splitting_at_multiples_of_the_batch_changes_no_bit(extractor, digits):
    images = digits.test.images[:300]
    whole = extractor.extract(images, 64)
    parts = [extractor.extract(part, 64) for part in np.split(images, [64, 192])]
    for index, output in enumerate(whole):
        np.testing.assert_array_equal(output, np.concatenate([part[index] for part in parts]))


def test_batch_size_moves_only_the_last_digits(extractor, digits):
    for first, second in zip(
        extractor.extract(digits.test.images, 7), extractor.extract(digits.test.images, 360), strict=True
    ):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


def test_settings_around_it_neither_matter_nor_change(extractor, digits):
    expected = extractor.extract(digits.test.images[:64], 64)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = extractor.extract(digits.test.images[:64], 64)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    for first, second in zip(expected, found, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_permuted_spatial_layout_changes_the_distance(extractor, digits):
    """H, W, C against C, H, W: the mistake behind guided-diffusion#109.  Against itself nothing would show."""
    test, train = (extractor.extract(part.images, 128).spatial for part in (digits.test, digits.train))
    permuted = test.reshape(-1, 4, 4, 3).transpose(0, 3, 1, 2).reshape(len(test), -1)
    target = gaussian_statistics(train)
    right = frechet_distance(gaussian_statistics(test), target)
    assert frechet_distance(gaussian_statistics(permuted), target) > 5 * right


def test_distances_grow_with_noise(extractor, digits, with_noise):
    target_features = extractor.extract(digits.test.images, 128).pooled
    target = gaussian_statistics(target_features)
    distances = [
        frechet_distance(
            gaussian_statistics(extractor.extract(with_noise(digits.train.images, amplitude), 128).pooled), target
        )
        for amplitude in (0, 20, 40, 80, 160)
    ]
    assert distances == sorted(distances)
    kernel = [
        kernel_distance(extractor.extract(with_noise(digits.validation.images, amplitude), 128).pooled, target_features)
        for amplitude in (0, 40, 80, 160)
    ]
    assert kernel == sorted(kernel)
    assert abs(kernel[0]) < 0.02 * kernel[-1], "two sets of real digits are no distance apart"
    assert distances[-1] > 10 * distances[0]


def test_features_that_are_not_finite_are_an_error(extractor_path, digits):
    broken = load_extractor(extractor_path)
    with torch.no_grad():
        broken.network.bottleneck.bias[0] = float("nan")
    with pytest.raises(UserError, match="pooled features of images 0 to 9 are not finite"):
        broken.extract(digits.test.images[:10], 64)


def test_refuses_wrong_images_and_files(extractor, extractor_path, digits, tmp_path):
    with pytest.raises(UserError, match=r"\(8, 8, 1\); got \(9, 9, 1\)"):
        extractor.extract(np.zeros((2, 9, 9, 1), np.uint8), 8)
    with pytest.raises(UserError, match="float64"):
        extractor.extract(digits.test.images / 255.0, 8)
    with pytest.raises(UserError, match="batch_size"):
        extractor.extract(digits.test.images, 0)
    with pytest.raises(UserError, match=r"gone\.pth: no such extractor weights\n.*python -m kind fetch"):
        load_extractor(tmp_path / "gone.pth")
    with pytest.raises(UserError, match="cannot be named 'inception'"):
        load_extractor(extractor_path, "inception")
    (tmp_path / "noise.pth").write_bytes(b"no weights at all")
    with pytest.raises(UserError, match=r"noise\.pth: not a whole file of plain tensors"):
        load_extractor(tmp_path / "noise.pth")


# --- Inception ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inception(inception_path):
    return load_extractor(inception_path)


def test_inception_gives_torch_fidelitys_features_and_adms_spatial_ones(inception, inception_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    images = np.random.default_rng(0).integers(0, 256, size=(3, 24, 24, 3), dtype=np.uint8)
    features = inception.extract(images, 2)
    theirs = FeatureExtractorInceptionV3(
        "theirs", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(inception_path)
    )
    entering = []
    theirs.Mixed_6d.register_forward_pre_hook(lambda _module, inputs: entering.append(inputs[0]))
    with torch.no_grad():
        pooled, logits = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        branch = theirs.Mixed_6d.branch1x1
        spatial = torch.relu(branch.bn(branch.conv(entering[0])))
    assert [output.shape for output in features] == [(3, 2048), (3, 2023), (3, 1008)]
    np.testing.assert_allclose(features.pooled, pooled, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(features.logits, logits, rtol=1e-3, atol=1e-4)
    expected = spatial.numpy()[:, :7]
    assert (expected > 0).any()
    assert (expected == 0).any(), "both sides of the ReLU must be there to tell it"
    for row, column, channel in ((0, 0, 0), (5, 16, 6), (16, 2, 3)):
        position = (row * 17 + column) * 7 + channel
        np.testing.assert_allclose(
            features.spatial[:, position], expected[:, channel, row, column], rtol=1e-3, atol=1e-4
        )
    np.testing.assert_allclose(features.spatial, expected.transpose(0, 2, 3, 1).reshape(3, -1), rtol=1e-3, atol=1e-4)


def test_inception_sees_grey_as_three_equal_channels(inception):
    grey = np.random.default_rng(1).integers(0, 256, size=(2, 8, 8, 1), dtype=np.uint8)
    for first, second in zip(inception.extract(grey, 2), inception.extract(np.repeat(grey, 3, axis=3), 2), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


def test_inception_has_its_name_and_identity(inception, inception_path):
    assert inception.name == "inception"
    assert inception.class_names is None
    assert inception.identity == hashlib.sha256(inception_path.read_bytes()).hexdigest()
    with pytest.raises(UserError, match="always named 'inception'"):
        load_extractor(inception_path, "better")


def test_inception_refuses_other_weights_and_runs_no_code_in_them(tmp_path):
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "small.pth")
    with pytest.raises(UserError, match=r"small\.pth: not the weights of torch-fidelity's Inception.*Missing key"):
        load_extractor(tmp_path / "small.pth")
    torch.save({"fc.weight": _Intruder()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="not a whole file of plain tensors"):
        load_extractor(tmp_path / "evil.pth")
    assert not _Intruder.ran


class _Intruder:
    ran = False

    def __reduce__(self):
        return (_run_intruder, ())


def _run_intruder():
    _Intruder.ran = True
