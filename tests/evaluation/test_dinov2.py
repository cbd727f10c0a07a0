"""DINOv2 of a tiny configuration with random weights, against the pipeline of Stein et al. and PIL."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from kind.errors import UserError
from kind.evaluation.features import load_extractor

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Trained at another side than 224, as the published one is; weights large enough that images differ."""
    from transformers import Dinov2Config, Dinov2Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Dinov2Model(
            Dinov2Config(
                hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=70, patch_size=14
            )
        )  # fmt: skip
        for name, parameter in network.named_parameters():
            if "norm" not in name and "layer_scale" not in name:
                torch.nn.init.normal_(parameter, std=0.1)
    path = tmp_path_factory.mktemp("dinov2")
    network.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def dinov2(folder):
    return load_extractor(folder)


def pictures(count: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Coarse colours with fine noise, uint8 [N, H, W, C]."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, -(-height // 8), -(-width // 8), channels))
    smooth = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    return np.clip(smooth + rng.normal(scale=20, size=smooth.shape), 0, 255).astype(np.uint8)


def by_stein_and_others(folder, images: np.ndarray) -> np.ndarray:
    """Class tokens by transformers' model of images that torchvision resizes through PIL, one at a time."""
    from torchvision import transforms
    from transformers import Dinov2Model

    prepare = transforms.Compose(
        [
            transforms.Resize((224, 224), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    network = Dinov2Model.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        tokens = [network(prepare(Image.fromarray(image))[None]).last_hidden_state[:, 0] for image in images]
    return torch.cat(tokens).numpy()


@pytest.mark.parametrize("size, tolerance", [((224, 224), 1e-5), ((32, 32), 5e-3), ((256, 256), 5e-3)])
def test_features_are_the_class_tokens_that_stein_and_others_compare(dinov2, folder, size, tolerance):
    images = pictures(4, *size)
    features, expected = dinov2.extract(images, 3), by_stein_and_others(folder, images)
    assert features.spatial is None and features.logits is None
    assert features.pooled.shape == (4, 32) and features.pooled.dtype == np.float32
    spread = expected.std(axis=0).mean()
    assert np.abs(features.pooled - expected).max() < tolerance * spread, "of how much images differ"


def pils(image: np.ndarray, at_once: bool) -> np.ndarray:
    """PIL's bicubic resize: in one call, or in its two passes, whose order PIL 13 changes for some sizes."""
    picture = Image.fromarray(image)
    if not at_once:
        picture = picture.resize((224, picture.height), Image.Resampling.BICUBIC)
    return np.asarray(picture.resize((224, 224), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(
    "size, at_once",
    [((8, 8), True), ((32, 32), True), ((256, 256), True), ((64, 500), True), ((224, 100), True), ((300, 260), False)],
)
def test_the_resize_is_pils_but_for_one_grey_level_here_and_there(size, at_once):
    from kind.evaluation.dinov2 import resize

    images = pictures(3, *size)
    ours = resize(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy().transpose(0, 2, 3, 1)
    difference = np.abs(ours - np.stack([pils(image, at_once) for image in images]).astype(np.float32))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_an_image_of_224_is_left_as_it_is():
    from kind.evaluation.dinov2 import resize

    images = torch.from_numpy(pictures(2, 224, 224).transpose(0, 3, 1, 2).copy())
    torch.testing.assert_close(resize(images), images.float(), rtol=0, atol=0)


def test_grey_is_three_equal_channels(dinov2):
    grey = pictures(2, 32, 32, channels=1)
    np.testing.assert_allclose(
        dinov2.extract(grey, 2).pooled, dinov2.extract(grey.repeat(3, axis=3), 2).pooled, rtol=1e-5, atol=1e-6
    )


def test_name_and_identity(dinov2, folder, tmp_path):
    assert (dinov2.name, dinov2.class_names, dinov2.image_shape) == ("dinov2", None, None)
    sums = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("config.json", "model.safetensors")]
    assert dinov2.identity == hashlib.sha256("\n".join(sums).encode()).hexdigest()
    with pytest.raises(UserError, match="always named 'dinov2'"):
        load_extractor(folder, "better")


def test_what_is_no_whole_dinov2_is_refused(folder, tmp_path, extractor_path):
    from safetensors.torch import load_file, save_file

    def broken(name, change):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        change(copy)
        with pytest.raises(UserError) as error:
            load_extractor(copy)
        assert "KIND_DINOV2" in str(error.value) and str(copy) in str(error.value)
        return str(error.value)

    def lack(copy):
        tensors = load_file(copy / "model.safetensors")
        del tensors["layernorm.weight"]
        save_file(tensors, copy / "model.safetensors", {"format": "pt"})

    def widen(copy):
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))

    def pickle_alone(copy):
        torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
        (copy / "model.safetensors").unlink()

    assert "lacks 1 tensors of config.json's network, first layernorm.weight" in broken("lacking", lack)
    assert "cannot be loaded" in broken("wider", widen)
    assert "model.safetensors" in broken("pickle", pickle_alone)
    assert "no such file" in broken("no config", lambda copy: (copy / "config.json").unlink())
    assert "not valid JSON" in broken("no json", lambda copy: (copy / "config.json").write_text("{"))
    other = json.dumps({"model_type": "vit"})
    assert "must be 'dinov2'; found 'vit'" in broken("other", lambda copy: (copy / "config.json").write_text(other))
    noise = b"no weights at all"
    assert "cannot be loaded" in broken("noise", lambda copy: (copy / "model.safetensors").write_bytes(noise))
    with pytest.raises(UserError, match="cannot be named 'dinov2'"):
        load_extractor(extractor_path, "dinov2")
