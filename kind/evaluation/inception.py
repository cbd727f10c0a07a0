"""torch-fidelity's Inception network from a weights file: the features of FID, sFID, KID and Inception Score."""

from __future__ import annotations

import io
import os
import pickle
import warnings

import torch
from torch import Tensor, nn

from kind.errors import UserError, first_difference
from kind.weights import WEIGHTS

SPATIAL_CHANNELS = 7
WAYS = WEIGHTS["inception"].ways


class InceptionExtractor(nn.Module):
    """uint8 [B, 1 or 3, H, W] -> pooled [B, 2048], spatial [B, 17 * 17 * 7 = 2023], logits [B, 1008].

    Spatial features: `Mixed_6d.branch1x1` after its ReLU (TensorFlow's mixed_6/conv), first 7 channels, flattened in
    N, H, W, C order.  Logits are without bias.  Grey images are repeated over three channels.
    Source: openai/guided-diffusion, evaluations/evaluator.py; torch-fidelity, feature_extractor_inceptionv3.py.
    """

    def __init__(self, weights_path: str | os.PathLike):
        super().__init__()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        with torch.random.fork_rng(devices=[]):
            try:
                self.network = FeatureExtractorInceptionV3(
                    "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=_safe_copy(weights_path)
                )
            except (RuntimeError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{weights_path}: not the weights of torch-fidelity's Inception network "
                    f"({first_difference(error)})",
                    hint=WAYS,
                )
        self._spatial: Tensor | None = None
        self.network.Mixed_6d.branch1x1.register_forward_hook(self._keep_spatial)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        pooled, logits = self.network(images)
        spatial, self._spatial = self._spatial, None
        return pooled, spatial, logits

    def _keep_spatial(self, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._spatial = output[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)


def _safe_copy(path: str | os.PathLike) -> io.BytesIO:
    """The file's tensors, read with weights_only=True and saved anew: torch-fidelity itself would unpickle anything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of others, which are refused
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path}: not a whole file of plain tensors ({type(error).__name__})", hint=WAYS)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer
