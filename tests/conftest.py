"""Small models that several tests need."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

# A shell that starts the tests in the background lets them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny products: more threads only wait for one another

import pytest  # noqa: E402

TESTS = Path(__file__).parent
# Folders of which one finished experiment serves the tests, those that take longest first; of slurm/ there may be one
# cluster at a time.  Files there that need none of it take long themselves.
SHARED = ("slurm", "workflow", "dvc", "faults", "stages", "tracking", "errors")
ALONE = {
    "workflow": {"latents_pipeline", "many_classes", "paper", "rivals", "scale", "training_retries", "tuning"},
    "faults": {"class_names", "killed_training", "params_fuzz"},
    "stages": {"plan", "seen_stages", "made_of_others", "soft_gate_stages"},
}


def group_of(nodeid: str) -> str:
    """Where processes share the tests (pytest-xdist), those of a group go to one: a folder, or a file."""
    file = Path(nodeid.partition("::")[0])
    folder, name = file.parent.name, file.stem.removeprefix("test_")
    return folder if folder in SHARED and name not in ALONE.get(folder, ()) else str(file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that wait for something finished come first, then the others of these folders, then the rest."""

    def place(item: pytest.Item) -> tuple[bool, int]:
        folder, group = item.path.parent.name, group_of(item.nodeid)
        return group not in SHARED, SHARED.index(folder) if folder in SHARED else len(SHARED)

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """By `group_of`.  Groups by mark (--dist loadgroup) are nothing to pytest-xdist 3.8 with pytest 9.2, where a test's
    name cannot be changed."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture(scope="session")
def lacking() -> Callable[[str], None]:
    """lacking(why) skips a test for which this machine lacks something, and fails it where KIND_TEST_SLURM=1 says that
    nothing may be left out, as .ci/run does."""

    def lacking(why: str) -> None:
        (pytest.fail if os.environ.get("KIND_TEST_SLURM") == "1" else pytest.skip)(why)

    return lacking


@pytest.fixture(scope="session")
def build():
    """build(...) -> a micro DiT for 8x8 images, dense, or factorized where `learngenes` and `tailors` are given.

    soft: behind a soft gate, whose classes have random embeddings; `tailors` is their number in all then.
    Shaken by default: every parameter is moved at random, so that no output or gradient is zero by initialisation.
    """
    import torch

    from kind.models.dit import DiTConfig, build_dit
    from kind.models.factorization import SoftGating
    from kind.models.factorized import Factorization, factorize
    from kind.models.presets import PRESETS

    torch.set_num_threads(1)

    def build(
        *,
        num_classes=5,
        channels=3,
        learned_variance=False,
        learngenes=None,
        tailors=None,
        null_gate="learngenes",
        soft: SoftGating | None = None,
        seed=0,
        shaken=True,
    ):
        config = DiTConfig(
            *PRESETS["micro/2"],
            image_size=8,
            channels=channels,
            num_classes=num_classes,
            learned_variance=learned_variance,
        )
        model = build_dit(config, seed)
        if soft is not None:
            everyone = ((tuple(range(num_classes)), tailors),)
            model = factorize(model, Factorization(learngenes, 0, null_gate, groups=everyone, soft=soft), seed)
            generator = torch.Generator().manual_seed(seed)
            model.class_shares.know_seen(torch.randn(num_classes, soft.embedding_size, generator=generator))
        elif learngenes is not None:
            model = factorize(model, Factorization(learngenes, tailors, null_gate), seed)
        if shaken:
            generator = torch.Generator().manual_seed(seed + 1)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        return model.eval()

    return build


@pytest.fixture(scope="session")
def model_inputs():
    """model_inputs(model, batch) -> images, timesteps and labels, every class and the null class among them."""
    import torch

    def inputs(model, batch=12, seed=0):
        generator = torch.Generator().manual_seed(seed)
        config = model.config
        images = torch.randn(batch, config.channels, config.image_size, config.image_size, generator=generator)
        timesteps = torch.randint(1000, (batch,), generator=generator)
        return images, timesteps, torch.arange(batch) % (config.num_classes + 1)

    return inputs


@pytest.fixture(scope="session")
def valid_params() -> str:
    """A small params file that is in order; loading it imports no torch."""
    return """
description: for tests
seeds: [0, 1]
data:
  digits: {source: digits, split: {train: 0.5, validation: 0.1, test: 0.4}}
  letters: {source: letters, options: {classes: [A, C, E], images_per_class: 40}}
model: {preset: micro/2}
backbones:
  dense: {form: dense}
  kind: {form: kind, num_learngenes: 20, num_tailors: 4}
pretrain: {data: digits, classes: [0, 1, 2], steps: 10, batch_size: 8, learning_rate: 1.0e-3}
tasks:
  novel: {data: digits, classes: [7, 8], images_per_class: 20}
  shift: {data: letters, classes: [A, C, E]}
finetune: {steps: 8, batch_size: 8, learning_rate: 1.0e-3}
methods: {kind: {}, full: {}, lora: {rank: 4}, scratch: {}}
sampling: {sampler: ddim, num_inference_steps: 2, num_samples: 20, batch_size: 10}
evaluation:
  extractor: {type: trained, name: digits}
  num_reference: 30
  curve: [0.5]
"""


@pytest.fixture(scope="session")
def latents_in():
    """latents_in(folder) -> params of a small experiment in latents; the folder gets its images and its VAE."""
    import numpy as np
    import torch
    from PIL import Image

    from kind.diffusers_parts import autoencoder

    def make(folder: Path) -> str:
        blocks = np.random.default_rng(0).integers(0, 256, (5, 12, 4, 4, 3), dtype=np.uint8)
        for name, images in zip("abcde", blocks, strict=True):
            (folder / "pictures" / name).mkdir(parents=True)
            for number, image in enumerate(images):
                resized = Image.fromarray(image).resize((18, 16), Image.Resampling.BICUBIC)
                resized.save(folder / "pictures" / name / f"{number:02d}.png")
        torch.manual_seed(0)
        network = autoencoder()(
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16), norm_num_groups=4, sample_size=16,
        )  # fmt: skip
        network.save_pretrained(folder / "vae")
        return LATENT_PARAMS

    return make


LATENT_PARAMS = """
seeds: [0]
compute: {device: cpu, workers: 1}
data:
  pictures:
    source: folder
    options: {path: pictures, size: 16}
    split: {train: 0.5, validation: 0.25, test: 0.25}
    flips: true
    latents: {vae: vae, scale: 0.5, downsampling: 2, batch_size: 5}
model: {preset: micro/2}
diffusion: {learned_variance: true}
backbones:
  dense: {form: dense}
  kind: {form: kind, num_learngenes: 20, num_tailors: 4}
pretrain: {data: pictures, classes: [a, b, c], steps: 3, batch_size: 8, learning_rate: 1.0e-3, ema_decay: 0.5}
tasks:
  novel: {data: pictures, classes: [d, e], images_per_class: 4}
finetune: {steps: 3, batch_size: 8, learning_rate: 1.0e-3, ema_decay: 0.5}
methods: {full: {}, kind: {}, lora: {rank: 2}, replayed: {method: full, objective: diff-tuning}}
replay: {num_images: 6, num_inference_steps: 2}
sampling: {sampler: ddim, num_inference_steps: 2, guidance_scale: 1.5, num_samples: 12, batch_size: 6, shard_size: 6}
evaluation:
  extractor: {type: trained, name: pictures, steps: 5, batch_size: 8, feature_dim: 4}
"""
