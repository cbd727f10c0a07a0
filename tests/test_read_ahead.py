"""Images that are read from disk batch by batch train as those in memory do, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from kind import read_ahead
from kind.batches import Batches
from kind.data.prepared import LabelledImages, StoredImages
from kind.diffusion import Diffusion
from kind.params import Training
from kind.read_ahead import ReadAhead
from kind.stages.training_job import for_training
from kind.training import Plan, train

ROWS = np.array([9, 3, 17, 4, 5, 0, 21, 11])
LABELS = torch.arange(8) % 5
HOW = {"size": 3, "seed": 3, "num_classes": 5, "num_timesteps": 1000, "label_dropout": 0.1, "keep_gates": False}


@pytest.fixture
def stored(tmp_path) -> StoredImages:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    return StoredImages(np.load(tmp_path / "images.npy", mmap_mode="r"), ROWS)


def in_memory(stored: StoredImages) -> Tensor:
    return torch.from_numpy(np.load(stored.stored.filename)[ROWS]).permute(0, 3, 1, 2).contiguous()


def test_stored_images_are_the_rows_that_they_name(stored):
    pixels = np.load(stored.stored.filename)
    assert stored.shape == (8, 8, 8, 3) and stored.nbytes == 8 * 192 and len(stored) == 8
    np.testing.assert_array_equal(stored[:], pixels[ROWS])
    np.testing.assert_array_equal(stored[np.array([7, 0, 0])], pixels[[11, 9, 9]])
    np.testing.assert_array_equal(stored.take(np.array([2, 1]))[1:], pixels[[3]])
    assert type(stored[:2]) is np.ndarray and stored[:2].flags.writeable


@pytest.mark.parametrize("steps", [range(9), [5, 6, 2, 2, 8]], ids=["in order", "resumed and repeated"])
def test_batches_are_those_of_images_in_memory(stored, steps):
    read = Batches(ReadAhead(stored, torch.device("cpu")), LABELS, **HOW)
    held = Batches(in_memory(stored), LABELS, **HOW)
    for step in steps:
        for one, other in zip(read.at(step), held.at(step), strict=True):
            assert one is other is None or (torch.equal(one, other) and one.stride() == other.stride())


def test_the_next_batch_is_read_while_this_one_is_used(stored):
    asked = []

    class Watched(StoredImages):
        def __getitem__(self, chosen):
            asked.append(chosen.tolist())
            return super().__getitem__(chosen)

    ahead = ReadAhead(Watched(stored.stored, stored.rows), torch.device("cpu"))
    ahead.read(torch.tensor([0, 1]), torch.tensor([2, 3]))
    ahead._begun[1].result()
    assert asked == [[0, 1], [2, 3]]
    ahead.read(torch.tensor([2, 3]), torch.tensor([4]))
    ahead._begun[1].result()
    assert asked == [[0, 1], [2, 3], [4]]


def test_training_from_disk_ends_with_the_same_bits(build, stored, tmp_path):
    settings = Training(steps=6, batch_size=3, learning_rate=1e-3, log_every=3, ema_decay=0.9)
    plan = Plan(settings, Diffusion("cosine", "v"), 1e-3, 7, "a recipe")
    outcomes = [
        train(build(), images, LABELS, plan, tmp_path / name / "state.pt", "a run")
        for name, images in (("disk", stored), ("memory", in_memory(stored)))
    ]
    for name, tensor in outcomes[1].raw.items():
        assert torch.equal(outcomes[0].raw[name], tensor), name
    assert outcomes[0].log == outcomes[1].log


def test_large_sets_stay_on_disk_and_small_ones_are_read_once(stored, monkeypatch):
    data = LabelledImages(stored, LABELS.numpy(), tuple("abcde"))
    assert torch.equal(for_training(data), in_memory(stored))
    monkeypatch.setattr("kind.stages.training_job.RESIDENT_BYTES", stored.nbytes - 1)
    assert for_training(data) is stored
    assert read_ahead.RESIDENT_BYTES == 2**30
