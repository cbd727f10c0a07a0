"""The `data` section of a params file.  Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from kind.data.sources import SOURCES
from kind.params.types import NaturalInt, PositiveFloat, PositiveInt, Section
from kind.weights import WEIGHTS, Place


class Split(Section):
    """Shares of a source's images, stratified by class and seeded."""

    train: PositiveFloat = 0.5
    validation: PositiveFloat = 0.15
    test: PositiveFloat = 0.35
    seed: NaturalInt = 0


class Latents(Section):
    """A data set is trained on as latents of an AutoencoderKL that others trained, as diffusers saves it.

    vae: its folder; without it see kind/weights.py.  scale: what latents are multiplied by (Rombach et al. 2022; DiT
    has 0.18215).  downsampling, channels: what the VAE makes of a side and of three colours, so that experiments are
    planned without it.  batch_size: of encoding and of decoding, always filled up from the first row on, since the
    last bits of a product depend on its batch.  precision: of both; our choice, DiT has float32.
    """

    may_be_none: ClassVar[tuple[str, ...]] = ("vae",)
    vae: Annotated[str, Field(min_length=1)] | None = None
    scale: PositiveFloat = 0.18215
    downsampling: Literal[1, 2, 4, 8, 16, 32] = 8
    channels: PositiveInt = 4
    batch_size: PositiveInt = 32
    precision: Literal["float32", "bfloat16"] = "float32"

    def place(self, data: str) -> Place:
        """Where the VAE of this data set lies."""
        place = WEIGHTS["vae"].place(self.vae)
        return place if self.vae is None else replace(place, said_by=f"data.{data}.latents.vae")


class DataSet(Section):
    """flips: each image is mirrored or not, by a seeded draw at each step; not for what has a left and a right, as
    letters do.  latents: None for pixels.  copies_of_pretraining: of pictures that tasks take from here and that
    pre-training trains on, out of another data set: they end the job, or are counted.
    """

    may_be_none: ClassVar[tuple[str, ...]] = ("latents",)
    source: Literal[tuple(SOURCES)]
    options: dict[str, Any] = {}
    split: Split = Split()
    flips: bool = False
    latents: Latents | None = None
    copies_of_pretraining: Literal["fail", "count"] = "fail"

    @model_serializer(mode="wrap")
    def _described(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Recipes of data sets without these do not know them."""
        unsaid = (("flips", False), ("latents", None), ("copies_of_pretraining", "fail"))
        absent = {name for name, value in unsaid if getattr(self, name) == value}
        return {key: value for key, value in handler(self).items() if key not in absent}

    def latent_settings(self) -> dict[str, Any]:
        """What the latents depend on but for images and VAE, which are input files wherever they lie."""
        return {"flips": self.flips, **self.latents.model_dump(exclude={"vae"})}

    def space(self) -> dict[str, Any]:
        """What training has to know beyond the stored files; nothing for pixels as they are."""
        if self.latents is not None:
            return self.latent_settings()
        return {"flips": True} if self.flips else {}
