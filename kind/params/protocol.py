"""The `sampling`, `evaluation` and `replay` sections of a params file.  Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer

from kind.params.types import NaturalInt, PositiveFloat, PositiveInt, Section
from kind.weights import WEIGHTS, Place

DEFAULT_SPACING = {"ddpm": "linspace", "ddim": "trailing", "dpm": "linspace"}  # where no params file says


def spacing_problem(sampler: str, timestep_spacing: str) -> str | None:
    """Why these do not go together, or None."""
    if (sampler, timestep_spacing) == ("ddim", "linspace"):
        return (
            "linspace is wrong for ddim, which steps by a fixed stride and not along the list; "
            "write leading or trailing"
        )
    return None


class Sampling(Section):
    """The sampler's part of the protocol."""

    sampler: Literal["ddpm", "ddim", "dpm"]
    num_inference_steps: PositiveInt
    timestep_spacing: Literal["linspace", "leading", "trailing"] = "leading"
    guidance_scale: Annotated[float, Field(ge=1)] = 1.0
    guided_channels: Literal["all", "first_three"] = "all"
    clip_sample: bool = False
    weights: Literal["ema", "raw"] = "ema"
    num_samples: PositiveInt
    curve_num_samples: PositiveInt | None = None
    shard_size: PositiveInt = 10_000
    batch_size: PositiveInt = 100
    seed: NaturalInt = 0


def _own_name(name: str) -> str:
    """Metric names carry the extractor's, and these stand for something else there."""
    if name in ("inception", "dinov2", "svc"):
        raise ValueError("this name is taken; choose another")
    return name


class TrainedExtractor(Section):
    """A small network trained on the training images of the experiment's tasks."""

    type: Literal["trained"]
    name: Annotated[str, Field(pattern="^[a-z][a-z0-9]*$"), AfterValidator(_own_name)]
    feature_dim: PositiveInt = 32
    steps: PositiveInt = 400
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 3.0e-3
    seed: NaturalInt = 0


class _PublishedExtractor(Section):
    """A network that others trained.  weights_path: where its weights lie; without it see kind/weights.py."""

    may_be_none: ClassVar[tuple[str, ...]] = ("weights_path",)

    type: str
    weights_path: Annotated[str, Field(min_length=1)] | None = None

    @property
    def name(self) -> str:
        return self.type

    def place(self) -> Place:
        return WEIGHTS[self.type].place(self.weights_path)


class InceptionExtractor(_PublishedExtractor):
    """torch-fidelity's Inception network, a file."""

    type: Literal["inception"]


class Dinov2Extractor(_PublishedExtractor):
    """DINOv2 ViT-L/14 as transformers saves it, a folder."""

    type: Literal["dinov2"]


class Evaluation(Section):
    """The measuring part of the protocol.

    judge: fit a support vector machine to the pixels of all training images (`accuracy_svc`).  memorisation: compare
    every sample with every training image of its task (`nearest_train`).  Both are for small images, so that None is
    true for pixels and false for latents; our choice.
    """

    may_be_none: ClassVar[tuple[str, ...]] = ("judge", "memorisation")
    extractor: Annotated[TrainedExtractor | InceptionExtractor | Dinov2Extractor, Field(discriminator="type")]
    reference: Literal["train", "validation", "test", "all"] = "test"
    num_reference: PositiveInt | None = None
    reference_seed: NaturalInt = 0
    batch_size: PositiveInt = 100
    curve: list[Annotated[float, Field(gt=0, lt=1)]] = []
    judge: bool | None = None
    memorisation: bool | None = None

    @model_serializer(mode="wrap")
    def _described(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Recipes of experiments that say nothing of these do not know them."""
        unsaid = {name for name in ("judge", "memorisation") if getattr(self, name) is None}
        return {key: value for key, value in handler(self).items() if key not in unsaid}


class ReplaySet(Section):
    """Images of the source model that `objective: diff-tuning` trains on beside the task's (Zhong et al. 2024).

    share: of a batch; weight: of their loss: the authors' 0.2 and 0.1.  Number of images and sampler are our choice:
    they are drawn with the seen classes' labels in turn, and without guidance, which would make them less varied.
    """

    num_images: PositiveInt = 1000
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    weight: PositiveFloat = 0.1
    sampler: Literal["ddpm", "ddim", "dpm"] = "dpm"
    num_inference_steps: PositiveInt = 50
    timestep_spacing: Literal["linspace", "leading", "trailing"] = "linspace"
    guidance_scale: Annotated[float, Field(ge=1)] = 1.0
    batch_size: PositiveInt = 100
    seed: NaturalInt = 0

    def sampling(self) -> Sampling:
        """How the images are drawn."""
        settings = self.model_dump(exclude={"num_images", "share", "weight"})
        return Sampling(**settings, num_samples=self.num_images)
