"""Real digits, an extractor trained on them, and the pieces that several tests need."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

NAMES = tuple("0123456789")
TASK = ("9", "7", "8")  # neither sorted nor all classes: labels must go by name


class Split(NamedTuple):
    images: np.ndarray
    labels: np.ndarray


class Digits(NamedTuple):
    train: Split
    validation: Split
    test: Split


@pytest.fixture(scope="session")
def digits() -> Digits:
    """scikit-learn's 1,797 digits as uint8 [N, 8, 8, 1], split 1077 / 360 / 360 with a fixed seed."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    images = np.round(bundle.images * (255 / 16)).astype(np.uint8)[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    parts = np.split(order, [1077, 1437])
    return Digits(*(Split(images[part], bundle.target[part].astype(np.int64)) for part in parts))


@pytest.fixture(scope="session")
def trained(digits):
    """(network, record) of the small extractor after a short training."""
    from kind.evaluation.small_extractor import train_extractor

    return train_extractor(
        digits.train.images,
        digits.train.labels,
        NAMES,
        validation_images=digits.validation.images,
        validation_labels=digits.validation.labels,
        steps=500,
        batch_size=128,
        learning_rate=1.0e-2,
        seed=0,
    )


@pytest.fixture(scope="session")
def extractor_path(trained, tmp_path_factory):
    from kind.evaluation.small_extractor import save_extractor

    network, record = trained
    path = tmp_path_factory.mktemp("extractor") / "digits.safetensors"
    save_extractor(path, network, {"name": "digits", "record": record})
    return path


@pytest.fixture(scope="session")
def extractor(extractor_path):
    from kind.evaluation.features import load_extractor

    return load_extractor(extractor_path)


@pytest.fixture(scope="session")
def judge(digits):
    from kind.evaluation.judge import fit_judge

    return fit_judge(*digits.train, NAMES)


@pytest.fixture(scope="session")
def with_noise():
    """with_noise(images, amplitude) -> images with Gaussian noise of that many grey levels."""

    def add(images: np.ndarray, amplitude: float, seed: int = 0) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(scale=amplitude, size=images.shape)
        return np.clip(np.round(images + noise), 0, 255).astype(np.uint8)

    return add


@pytest.fixture(scope="session")
def inception_path(tmp_path_factory):
    """Random weights for torch-fidelity's network, with the shapes that its own modules have."""
    import torch
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    class Shapes(theirs.FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict, strict=True, assign=False):
            return None

    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save({}, path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Shapes("shapes", ["2048"], feature_extractor_weights_path=str(path))
    generator = torch.Generator().manual_seed(1)
    state = network.state_dict()
    for name, tensor in state.items():
        if name.endswith(("bn.bias", "running_mean")):
            state[name] = 0.2 * torch.randn(tensor.shape, generator=generator)
        elif name.endswith("conv.weight"):
            fan_in = tensor[0].numel()
            state[name] = torch.randn(tensor.shape, generator=generator) * (2 / fan_in) ** 0.5
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def task(digits):
    """Test and training digits of the task's classes, labelled by their place in TASK."""

    def part(split):
        chosen = np.isin(split.labels, [int(name) for name in TASK])
        return split.images[chosen], np.array([TASK.index(str(label)) for label in split.labels[chosen]])

    return part(digits.test), part(digits.train)


@pytest.fixture(scope="session")
def reference(task, extractor):
    """The test digits of the task as the extractor sees them."""
    from kind.evaluation.feature_sets import measure_images
    from kind.evaluation.image_sets import from_arrays

    return measure_images(from_arrays(*task[0], TASK), extractor, 64, num_images=1000)
