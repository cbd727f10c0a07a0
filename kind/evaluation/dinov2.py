"""DINOv2 from a folder of transformers' making: the features that Stein et al. 2023 compare images by."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from kind.errors import UserError, first_difference
from kind.weights import WEIGHTS

WAYS = WEIGHTS["dinov2"].ways
SIDE = 224  # what Stein et al. resize to, whatever side the network was trained at
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


class Dinov2Extractor(nn.Module):
    """uint8 [B, 1 or 3, H, W] -> pooled [B, D]: the class token after the last layer norm; D = 1024 for ViT-L/14.

    There are no spatial features and no logits.  Grey images are repeated over three channels.
    Source: Stein et al. 2023 (layer6ai-labs/dgm-eval, dgm_eval/models/dinov2.py), of which two things differ in the
    last digits: `resize` stands for PIL's, and positions are brought from the network's own side to 224 as
    transformers does it, by size and not, as DINOv2's own code, by a factor with 0.1 added.
    """

    def __init__(self, folder: str | os.PathLike):
        super().__init__()
        self.network = _load(Path(folder))
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, None, None]:
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        pixels = (resize(images) / 255 - self.mean) / self.std
        return self.network(pixel_values=pixels).pooler_output, None, None


def resize(images: Tensor) -> Tensor:
    """uint8 [B, C, H, W] -> float32 [B, C, 224, 224] of whole grey levels 0 to 255.

    Torch's antialiased bicubic in place of PIL's, which is for one image at a time and the CPU: first the width, then
    the height is brought to 224, and each time values are rounded and cut off to 8 bits.  PIL calculates with whole
    numbers, so that fewer than one value in a hundred differs, by one grey level.  (PIL 13 takes the height first for
    some sizes that are higher than wide; earlier versions, which Stein et al. had, did not.)
    """
    pixels = images.float()
    for size in ((images.shape[2], SIDE), (SIDE, SIDE)):
        pixels = nn.functional.interpolate(pixels, size, mode="bicubic", antialias=True).round().clamp(0, 255)
    return pixels


def _load(folder: Path) -> nn.Module:
    """The network, every weight of it from model.safetensors: transformers would draw a missing one at random."""
    _check_config(folder / "config.json")
    from safetensors import SafetensorError
    from transformers import Dinov2Model

    try:
        network, info = Dinov2Model.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="sdpa",  # said here, so that no config can name code from elsewhere
            output_loading_info=True,
        )
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{folder}: DINOv2 cannot be loaded from it ({first_difference(error)})", hint=WAYS)
    lacking = sorted({*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])})
    if lacking:
        raise UserError(
            f"{folder}: model.safetensors lacks {len(lacking)} tensors of config.json's network, first {lacking[0]}",
            hint=WAYS,
        )
    return network


def _check_config(path: Path) -> None:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", hint=WAYS)
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})", hint=WAYS)
    found = config.get("model_type") if isinstance(config, dict) else None
    if found != "dinov2":
        raise UserError(f"{path}: model_type must be 'dinov2'; found {found!r}", hint=WAYS)
