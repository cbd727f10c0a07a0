"""A batch in shares and parts is the batch: what is drawn for a sample does not depend on who trains on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kind.batches import Batches, Replay
from kind.data.prepared import StoredImages
from kind.read_ahead import ReadAhead
from kind.spaces import Latents, Pixels

CPU = torch.device("cpu")
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(256, (20, 3, 8, 8), generator=GENERATOR, dtype=torch.uint8)
LATENTS = torch.rand((20, 2, 2, 3, 8, 8), generator=GENERATOR).half()
LABELS = torch.arange(20) % 5
STORED = ReadAhead(StoredImages(IMAGES.permute(0, 2, 3, 1).contiguous().numpy(), np.arange(20)), CPU)
CASES = {
    "plain": {},
    "read from disk": {"images": STORED},
    "flipped": {"space": Pixels(flips=True)},
    "latents": {"space": Latents("a vae", 0.5), "images": LATENTS},
    "replay": {"replay": Replay(IMAGES[:9], 0.4, 0.1), "keep_gates": True},
    "replay of latents": {
        "replay": Replay(LATENTS[:, 0, 0].float(), 0.4, 0.1), "space": Latents("a vae", 0.5), "images": LATENTS
    },
}  # fmt: skip


def batches(share=None, images=IMAGES, **changes):
    given = {"size": 11, "seed": 3, "num_classes": 5, "num_timesteps": 1000, "label_dropout": 0.3, "keep_gates": False}
    return Batches(images, LABELS, **given | changes, share=share)


def assert_same(found, whole):
    for name, tensor in whole._asdict().items():
        got = [getattr(one, name) for one in found]
        if name == "all_gate_labels":
            assert all(torch.equal(one, tensor) for one in got)
        else:
            assert all(one is None for one in got) if tensor is None else torch.equal(torch.cat(got), tensor), name


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("ends", [(0, 5, 11), (0, 3, 7, 11)], ids=["two", "three"])
def test_shares_together_are_the_batch(name, ends):
    shares = [slice(*pair) for pair in zip(ends, ends[1:], strict=False)]
    for step in (0, 4):
        assert_same([batches(share, **CASES[name]).at(step) for share in shares], batches(None, **CASES[name]).at(step))


@pytest.mark.parametrize("count, sizes", [(1, [11]), (3, [3, 4, 4]), (99, [1] * 11)])
def test_parts_together_are_the_batch(count, sizes):
    whole = batches(**CASES["replay"]).at(2)
    parts = list(whole.parts(count))
    assert [len(part.images) for part in parts] == sizes
    assert_same(parts, whole)
