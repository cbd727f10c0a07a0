"""The parts of diffusers that the project uses, imported from one place.

diffusers imports peft, transformers, accelerate, torchvision and scipy.stats where it finds them, none of which these
parts need: 4 of the 11 seconds that `import diffusers` takes on a slow core.  A pipeline of sixty short jobs feels
that, so the command line (and only it: a library user's diffusers stays whole) hides them during the import.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

OPTIONAL = ("accelerate", "onnx", "peft", "scipy", "sklearn", "torchvision", "transformers")


@contextmanager
def _hidden(names: tuple[str, ...]) -> Iterator[None]:
    """Make packages look absent, unless they are imported already."""
    names = tuple(name for name in names if name not in sys.modules)
    sys.modules.update(dict.fromkeys(names))
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _is_command_line() -> bool:
    """Whether this is `python -m kind`, which uses no other part of diffusers, or the process its jobs are forks of."""
    main = sys.modules.get("__main__")
    return getattr(getattr(main, "__spec__", None), "name", None) in ("kind.__main__", "kind.warm_start")


with _hidden(OPTIONAL if _is_command_line() and "diffusers" not in sys.modules else ()):
    from diffusers.models.attention import Attention, BasicTransformerBlock, FeedForward
    from diffusers.models.normalization import AdaLayerNormZero
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler


def autoencoder() -> type[AutoencoderKL]:
    """Imported where it is needed: only latents ask for it, and it takes another second."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return AutoencoderKL


__all__ = [
    "AdaLayerNormZero",
    "Attention",
    "BasicTransformerBlock",
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "DiTTransformer2DModel",
    "FeedForward",
    "autoencoder",
]
