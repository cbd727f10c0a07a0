"""The params files: one strict, typed model of `params/*.yaml`.  Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field

from kind.data.sources import SOURCES
from kind.methods import METHODS
from kind.models.presets import PRESETS, Preset
from kind.params_analyses import Analyses
from kind.params_backbones import Backbone
from kind.params_types import ClassName, NaturalInt, PositiveFloat, PositiveInt, Section, Share


class Compute(Section):
    """Where and how jobs run.  Only `precision` is part of a recipe: the others move the last bits at most.

    recompute: what training computes again in the backward pass to save memory: the hidden activations of factorized
    matrices (`hidden`: no more memory than a dense model; nothing behind a soft gate), or all inside a block (`blocks`:
    gradient checkpointing).
    """

    threads: PositiveInt = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_seconds: PositiveFloat = 60.0
    recompute: Literal["nothing", "hidden", "blocks"] = "nothing"


class Split(Section):
    """Shares of a source's images, stratified by class and seeded."""

    train: PositiveFloat = 0.5
    validation: PositiveFloat = 0.15
    test: PositiveFloat = 0.35
    seed: NaturalInt = 0


class DataSet(Section):
    source: Literal[tuple(SOURCES)]
    options: dict[str, Any] = {}
    split: Split = Split()


class Model(Section):
    preset: Literal[tuple(PRESETS)]
    depth: PositiveInt | None = None
    width: PositiveInt | None = None
    num_heads: PositiveInt | None = None
    patch_size: PositiveInt | None = None

    def shape(self) -> Preset:
        """The preset with the overrides that the file gives."""
        given = {field: value for field in Preset._fields if (value := getattr(self, field)) is not None}
        return PRESETS[self.preset]._replace(**given)


class DiffusionParams(Section):
    schedule: Literal["linear", "cosine"] = "linear"
    prediction: Literal["epsilon", "v"] = "epsilon"
    learned_variance: bool = False
    num_train_timesteps: PositiveInt = 1000


class Training(Section):
    """Settings that every training run has: AdamW, warm-up, decay, EMA with warm-up, label dropout."""

    steps: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    warmup_steps: NaturalInt = 0
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    gradient_clip: PositiveFloat | None = None
    ema_decay: Share = 0.9999
    label_dropout: Share = 0.1
    log_every: PositiveInt = 10


class Pretrain(Training):
    data: str
    classes: Annotated[list[ClassName], Field(min_length=1)]
    seed: NaturalInt = 0


class Finetune(Training):
    label_table: Literal["random", "null"] = "random"


class Task(Section):
    data: str
    classes: Annotated[list[ClassName], Field(min_length=1)]
    images_per_class: PositiveInt | None = None
    seed: NaturalInt = 0
    guidance_scale: Annotated[float, Field(ge=1)] | None = None


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


class Ablation(Section):
    """Methods entries that differ in one number: `axis`, an option of their method or of its backbone."""

    axis: str
    entries: list[str]


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
    """Metric names carry the extractor's, and these two stand for something else there."""
    if name in ("inception", "svc"):
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


class InceptionExtractor(Section):
    """torch-fidelity's Inception network, its weights given by a path on this machine."""

    type: Literal["inception"]
    weights_path: str

    @property
    def name(self) -> str:
        return "inception"


class Evaluation(Section):
    """The measuring part of the protocol."""

    extractor: Annotated[TrainedExtractor | InceptionExtractor, Field(discriminator="type")]
    reference: Literal["train", "validation", "test", "all"] = "test"
    num_reference: PositiveInt | None = None
    reference_seed: NaturalInt = 0
    batch_size: PositiveInt = 100
    curve: list[Annotated[float, Field(gt=0, lt=1)]] = []


class Embedding(Section):
    """Vectors that stand for classes, where a method or a soft gate asks for them: see `kind.class_embeddings`.

    path: an npz or safetensors file of one vector a class; None: mean training images of at most side x side pixels.
    """

    may_be_none: ClassVar[tuple[str, ...]] = ("path",)
    path: Annotated[str, Field(pattern=r"\.(npz|safetensors)$")] | None = None
    side: Annotated[int, Field(ge=1, le=8)] = 8


class Experiment(Section):
    """One params file.  `name` is the file's own."""

    name: str
    description: str = ""
    seeds: Annotated[list[NaturalInt], Field(min_length=1)]
    compute: Compute = Compute()
    data: Annotated[dict[str, DataSet], Field(min_length=1)]
    model: Model
    diffusion: DiffusionParams = DiffusionParams()
    embedding: Embedding = Embedding()
    backbones: dict[str, Backbone]
    pretrain: Pretrain
    tasks: Annotated[dict[str, Task], Field(min_length=1)]
    finetune: Finetune
    methods: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    ablations: dict[str, Ablation] = {}
    replay: ReplaySet = ReplaySet()
    sampling: Sampling
    evaluation: Evaluation
    analyses: Analyses | None = None

    def method_options(self, label: str) -> BaseModel:
        """The typed options of a methods entry; `method` names the method where the entry has another name."""
        entry = dict(self.methods[label])
        return METHODS[entry.pop("method", label)].options.model_validate(entry)

    def method_name(self, label: str) -> str:
        return self.methods[label].get("method", label)

    def backbone_of(self, label: str) -> str | None:
        """Name of the backbone that a methods entry starts from; None for a method that starts from nothing."""
        return getattr(self.method_options(label), "backbone", None)

    def needs(self, label: str) -> frozenset[str]:
        """What the method of a methods entry is given beside its start; see `Method.needs`."""
        return METHODS[self.method_name(label)].needs(self.method_options(label))

    def start_of_backbone(self, name: str) -> str | None:
        """The dense backbone whose trained weights a factorized one begins with; None for a fresh draw."""
        return getattr(self.backbones[name], "start", None)

    def replay_of(self, label: str) -> str | None:
        """The backbone whose samples a methods entry trains on beside the task's images; None for most."""
        replays = self.method_options(label).objective == "diff-tuning"
        return self.backbone_of(label) if replays else None

    def members_of(self, label: str) -> list[str]:
        """The methods entries whose runs a run of this one is made of; none for most."""
        return self.method_options(label).of if METHODS[self.method_name(label)].combines else []

    def axis_value(self, label: str, axis: str) -> float | None:
        """The number that a methods entry stands for on the axis of an ablation; None where it has none."""
        return axis_value(axis, self.method_options(label), self.finetune, self.backbones.get(self.backbone_of(label)))

    def curve_steps(self) -> list[int]:
        """Steps at which a run is evaluated; the last is the end."""
        steps = self.finetune.steps
        return sorted({max(1, round(share * steps)) for share in self.evaluation.curve} | {steps})

    def runs(self) -> Iterator[tuple[str, str, int]]:
        """Every (task, method, seed)."""
        return ((task, method, seed) for task in self.tasks for method in self.methods for seed in self.seeds)


def axis_value(axis: str, options: BaseModel, finetune: BaseModel | None, backbone: BaseModel | None) -> float | None:
    """A number among the options; where none is given, the common one of `finetune`; else one of the backbone."""
    places = (options, finetune) if hasattr(options, axis) else (backbone,)
    values = (getattr(place, axis, None) for place in places)
    return next((v for v in values if isinstance(v, int | float) and not isinstance(v, bool)), None)
