"""Sizes of DiT.  Imports no torch: params are validated against this table."""

from __future__ import annotations

from typing import NamedTuple


class Preset(NamedTuple):
    depth: int
    width: int
    num_heads: int
    patch_size: int


# DiT (Peebles & Xie 2023), table 1; the tiny ones are ours, for images of 8 to 16 pixels.
PRESETS = {
    "S/2": Preset(12, 384, 6, 2),
    "B/2": Preset(12, 768, 12, 2),
    "L/2": Preset(24, 1024, 16, 2),
    "XL/2": Preset(28, 1152, 16, 2),
    "tiny/2": Preset(4, 64, 4, 2),
    "micro/2": Preset(2, 32, 2, 2),
}
