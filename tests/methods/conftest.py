"""Starts on disk, as the pipeline leaves them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from kind.diffusion import Diffusion

DIFFUSION = Diffusion("cosine", "v")


@dataclass(frozen=True)
class Starts:
    """Files of three pre-trained backbones: what each form of start loads."""

    dense: Path
    kind: Path  # learngenes alone
    whole: Path
    soft: Path

    def of(self, form: str | None) -> Path | None:
        return None if form is None else getattr(self, form)


@pytest.fixture(scope="session")
def make_starts(build, tmp_path_factory):
    """make_starts(seed) -> backbones of five classes on disk."""
    from kind.checkpoints import save_backbone, save_parts
    from kind.models.factorization import SoftGating

    def make(seed=0) -> Starts:
        folder, classes = tmp_path_factory.mktemp("starts"), list("abcde")
        save_backbone(folder / "dense", build(seed=seed), classes, DIFFUSION)
        save_backbone(folder / "whole", build(seed=seed, learngenes=12, tailors=4), classes, DIFFUSION)
        soft = SoftGating(hidden=(8,), scale="tailors", embedding_size=6)
        save_backbone(folder / "soft", build(seed=seed, learngenes=12, tailors=20, soft=soft), classes, DIFFUSION)
        save_parts(folder / "learngenes", [folder / name for name in classes], folder / "whole")
        return Starts(folder / "dense", folder / "learngenes", folder / "whole", folder / "soft")

    return make


@pytest.fixture(scope="session")
def starts(make_starts) -> Starts:
    return make_starts()
