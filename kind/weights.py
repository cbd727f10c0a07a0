"""Weights that others published: what they are, where to get them, and where an experiment's lie.  Imports no torch.

Three ways lead to them: a path in the params, a path in an environment variable, `python -m kind fetch NAME`.  The
first that says something counts, and what it names must be there: nothing else is tried then, and random weights never.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HUB = "https://huggingface.co"
FOLDER = Path("weights")  # as seen from the working folder, like params and results
LOCK = Path("weights.lock")


class File(NamedTuple):
    """One published file.  sha256: how its hash begins, only where the publisher says it."""

    name: str
    url: str
    sha256: str = ""


@dataclass(frozen=True)
class Weights:
    """One published network.  key: where params name a path of it, if a section does; use: what it is for here."""

    name: str
    title: str
    use: str
    licence: str
    files: tuple[File, ...]
    key: str | None = None

    @property
    def variable(self) -> str:
        """The environment variable that may hold its path."""
        return f"KIND_{self.name.upper().replace('-', '_')}"

    @property
    def what(self) -> str:
        """What a path must lead to: one file, or a folder of several."""
        names = ", ".join(file.name for file in self.files)
        return names if len(self.files) == 1 else f"a folder with {names}"

    @property
    def ways(self) -> str:
        """How to get it, for messages about weights that are not there or not right."""
        return self.ways_by(f"in the params as {self.key}" if self.key else None)

    def ways_by(self, named: str | None) -> str:
        """The same where a path is named in another place than the params; None where it cannot be."""
        first = "" if named is None else f"name {self.what} {named}, or "
        name_it = f"name {self.what}" if named is None else "name it"
        return (
            f"{first}{name_it} in the variable {self.variable}, or run `python -m kind fetch {self.name}` "
            "where there is a network"
        )

    def place(self, named: str | None = None, said_by: str | None = None) -> Place:
        """Where these lie: at the path that the params name (or `said_by`), else the variable's, else where `fetch`
        puts them.

        Looks at no disk, so that plans can be made without them; see `Place.problem`.
        """
        if named is not None:
            return Place(self, Path(named), said_by or self.key)
        if by_variable := os.environ.get(self.variable):
            return Place(self, Path(by_variable), self.variable)
        return self.fetched()

    def fetched(self, root: Path = FOLDER) -> Place:
        """Where `fetch` puts these."""
        folder = root / self.name
        return Place(self, folder / self.files[0].name if len(self.files) == 1 else folder, None)


@dataclass(frozen=True)
class Place:
    """Where weights are expected.  said_by: the params' key or the variable that says so, None for the fetched ones."""

    weights: Weights
    path: Path
    said_by: str | None

    @property
    def files(self) -> list[Path]:
        """In the order of `Weights.files`."""
        one = len(self.weights.files) == 1
        return [self.path] if one else [self.path / file.name for file in self.weights.files]

    def problem(self) -> str | None:
        """What is not there, or None."""
        lacking = [path for path in self.files if not path.is_file()]
        if not lacking:
            return None
        who = self.said_by or f"{self.weights.name} weights, which are neither named nor fetched"
        if self.path.is_dir():
            names = ", ".join(path.name for path in lacking)
            said = f"{self.path} is a folder" if len(self.files) == 1 else f"{self.path} has no {names}"
        else:
            said = f"{self.path} is no folder" if self.path.exists() else f"{self.path} does not exist"
        return f"{who}: {said}"


EXTRACTOR_KEY = "evaluation.extractor.weights_path"
WEIGHTS = {
    weights.name: weights
    for weights in (
        Weights(
            "inception",
            "Inception of 2015-12-05, converted by torch-fidelity 0.2.0",
            "features of FID, sFID, KID and Inception Score (extractor inception)",
            "Apache-2.0",
            (
                # The file's name holds how its sha256 begins: torch_fidelity/feature_extractor_inceptionv3.py.
                File(
                    "weights-inception-2015-12-05-6726825d.pth",
                    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
                    "weights-inception-2015-12-05-6726825d.pth",
                    sha256="6726825d",
                ),
            ),
            key=EXTRACTOR_KEY,
        ),
        Weights(
            "dinov2",
            "DINOv2 ViT-L/14 (Oquab et al. 2023)",
            "features of Frechet distances as Stein et al. 2023 take them (extractor dinov2)",
            "Apache-2.0",
            (
                File("config.json", f"{HUB}/facebook/dinov2-large/resolve/main/config.json"),
                File("model.safetensors", f"{HUB}/facebook/dinov2-large/resolve/main/model.safetensors"),
            ),
            key=EXTRACTOR_KEY,
        ),
        Weights(
            "vae",
            "the VAE of Stable Diffusion, decoder tuned (ft-EMA), which DiT uses",
            "latents of 256 x 256 images",
            "MIT",
            (
                File("config.json", f"{HUB}/stabilityai/sd-vae-ft-ema/resolve/main/config.json"),
                File(
                    "diffusion_pytorch_model.safetensors",
                    f"{HUB}/stabilityai/sd-vae-ft-ema/resolve/main/diffusion_pytorch_model.safetensors",
                ),
            ),
            key="data.NAME.latents.vae",
        ),
        Weights(
            "dit-xl-2",
            "DiT-XL/2 at 256 x 256 (Peebles & Xie 2023)",
            "a trained dense backbone",
            "CC-BY-NC-4.0",
            (
                File("config.json", f"{HUB}/facebook/DiT-XL-2-256/resolve/main/transformer/config.json"),
                # On the branch main the weights are a pickle only; its pull request 1 has them as safetensors.
                File(
                    "diffusion_pytorch_model.safetensors",
                    f"{HUB}/facebook/DiT-XL-2-256/resolve/refs%2Fpr%2F1/transformer/"
                    "diffusion_pytorch_model.safetensors",
                ),
            ),
        ),
    )
}
