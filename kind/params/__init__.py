"""The params files: one strict, typed model of `params/*.yaml`.  Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from kind.methods import METHODS
from kind.models.presets import PRESETS, Preset
from kind.params.ablations import MEASURED, Ablation, Settings, Value, axis_value, family_of, settings_of
from kind.params.analyses import Analyses, is_gated
from kind.params.backbones import Backbone
from kind.params.compute import Compute
from kind.params.data import DataSet, Latents
from kind.params.data import Split as Split
from kind.params.match import Match, Place, channels_of, find_match
from kind.params.methods import options_of
from kind.params.protocol import Evaluation, ReplaySet, Sampling
from kind.params.tasks import Task, Tune, split_label, trial_label
from kind.params.types import ClassList, NaturalInt, PositiveFloat, PositiveInt, Section, Share


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
    classes: ClassList
    seed: NaturalInt = 0


class Finetune(Training):
    """learning_rate: of all methods entries without one of their own; None: each method's, or what `tune` finds."""

    learning_rate: PositiveFloat | None = None
    label_table: Literal["random", "null"] = "random"


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
    tune: Tune | None = None
    ablations: dict[str, Ablation] = {}
    replay: ReplaySet = ReplaySet()
    sampling: Sampling
    evaluation: Evaluation
    analyses: Analyses | None = None

    def task(self, name: str) -> Task:
        """One of `tasks`, or of those that learning rates are chosen on."""
        return self.tasks[name] if name in self.tasks else self.tune.tasks[name]

    def all_tasks(self) -> dict[str, Task]:
        return self.tasks | (self.tune.tasks if self.tune else {})

    @property
    def latents(self) -> Latents | None:
        """What all data sets are trained on as, those of tasks like that of pre-training; None for pixels."""
        return self.data[self.pretrain.data].latents

    @property
    def is_judged(self) -> bool:
        """Whether a support vector machine judges samples: pixels unless the params say something, latents not."""
        said = self.evaluation.judge
        return self.latents is None if said is None else said

    @property
    def looks_for_copies(self) -> bool:
        """Whether samples are compared with the training images pixel by pixel; the same."""
        said = self.evaluation.memorisation
        return self.latents is None if said is None else said

    def class_users(self) -> Iterator[tuple[str, Pretrain | Task]]:
        """What names classes, by its key in the file."""
        yield "pretrain", self.pretrain
        yield from ((f"tasks.{name}", task) for name, task in self.tasks.items())
        yield from ((f"tune.tasks.{name}", task) for name, task in (self.tune.tasks if self.tune else {}).items())

    def is_for_tuning(self, task: str) -> bool:
        return task not in self.tasks

    def entries_on(self, task: str) -> list[str]:
        """The methods entries that run on a task: those that take classes such as its are."""
        seen = self.task(task).seen
        return [label for label in self.methods if METHODS[self.method_name(label)].for_seen == seen]

    def tasks_of(self, label: str) -> list[str]:
        """The tasks that a methods entry runs on."""
        seen = METHODS[self.method_name(label)].for_seen
        return [name for name, task in self.tasks.items() if task.seen == seen]

    def method_options(self, label: str, task: str | None = None) -> BaseModel:
        """The typed options of a methods entry, or of a trial; task: needed where it has `match` or `like`."""
        entry, trial = split_label(label)
        options = options_of(self.methods[entry])
        if match := self.match(entry, task):
            options[match.option] = match.size
        if like := self._option(entry, "like"):
            options["components"] = self.backbones[like].components(self.pretrain.classes, self.task(task).classes)
        if trial is not None:
            options["learning_rate"] = self.rates(entry)[trial - 1]
        return METHODS[self.method_name(entry)].options.model_validate(options)

    def method_name(self, label: str) -> str:
        """`method` names it where the entry has another name."""
        entry, _ = split_label(label)
        return self.methods[entry].get("method", entry)

    def backbone_of(self, label: str) -> str | None:
        """Name of the backbone that a methods entry starts from; None for a method that starts from nothing."""
        return self._option(label, "backbone")

    def own_guidance(self, label: str) -> float | None:
        """The guidance scale of a methods entry that has one of its own, which is in no protocol."""
        return self.methods[split_label(label)[0]].get("guidance_scale")

    def guidance_scale(self, label: str, task: str) -> float:
        """Of samples of a methods entry, or of a trial: the entry's own, else the task's, else the common one."""
        own = self.own_guidance(label)
        return next(
            one for one in (own, self.task(task).guidance_scale, self.sampling.guidance_scale) if one is not None
        )

    def starting_backbones(self) -> list[str]:
        """Those that methods entries start from, in the order of `backbones`."""
        used = {self.backbone_of(label) for label in self.methods}
        return [name for name in self.backbones if name in used]

    def gated_backbones(self) -> list[str]:
        """Of these, those with tailors behind KIND's class gate."""
        return [name for name in self.starting_backbones() if is_gated(self.backbones[name])]

    def replay_of(self, label: str) -> str | None:
        """The backbone whose samples a methods entry trains on beside the task's images; None for most."""
        return self.backbone_of(label) if self._option(label, "objective") == "diff-tuning" else None

    def members_of(self, label: str) -> list[str]:
        """The methods entries whose runs a run of this one is made of; none for most."""
        return self._option(label, "of") if METHODS[self.method_name(label)].combines else []

    def _option(self, label: str, key: str) -> Any:
        """One option as the file or the method has it: what needs no task, where others may."""
        field = METHODS[self.method_name(label)].options.model_fields.get(key)
        return self.methods[split_label(label)[0]].get(key, field.default if field else None)

    def match(self, label: str, task: str | None) -> Match | None:
        """What was found for an entry with `match` on this task; None for one without.  Raises NoMatch."""
        given = self.methods[split_label(label)[0]]
        if given.get("match") is None:
            return None
        found = self._matches.get((label, task))
        if found is None:
            wanted = given["match"]
            place, other = self._place(label, task), self._place(wanted, task)
            target = other.count(METHODS[self.method_name(wanted)], self.method_options(wanted, task))
            method = METHODS[self.method_name(label)]
            found = self._matches[label, task] = find_match(method, options_of(given), place, wanted, target)
        return found

    @cached_property
    def _matches(self) -> dict[tuple[str, str], Match]:
        return {}

    def _place(self, label: str, task: str) -> Place:
        backbone, data = self.backbones.get(self.backbone_of(label)), self.data[self.task(task).data]
        learned = self.diffusion.learned_variance
        count = len(self.task(task).classes)
        return Place(self.model.shape(), backbone, self.pretrain.classes, count, channels_of(data), learned)

    def needs(self, label: str, task: str) -> frozenset[str]:
        """What the method of a methods entry is given beside its start; see `Method.needs`."""
        return METHODS[self.method_name(label)].needs(self.method_options(label, task))

    def start_of_backbone(self, name: str) -> str | None:
        """The dense backbone whose trained weights a factorized one begins with; None for a fresh draw."""
        return getattr(self.backbones[name], "start", None)

    def axis_value(self, label: str, axis: str) -> Value | None:
        """The number or choice that a methods entry stands for on the axis of an ablation; None where it has none."""
        options = self.method_options(label, self.tasks_of(label)[0])
        return axis_value(axis, options, self.finetune, self.backbones.get(self.backbone_of(label)))

    @cached_property
    def ablation_settings(self) -> list[Settings]:
        """Every ablation with what its entries stand for; asked for every run that is tracked."""
        found = []
        for name, one in self.ablations.items():
            asked = one.axis is not None and one.axis not in MEASURED
            values = {label: self.axis_value(label, one.axis) for label in one.entries} if asked else {}
            measured = {label: self._family(label) for label in one.entries} if one.axis in MEASURED else {}
            backbones = frozenset(map(self.backbone_of, one.entries))
            found.append(replace(settings_of(name, one, values), families=measured, backbones=backbones))
        return found

    def _family(self, label: str) -> tuple[str, ...]:
        return family_of(self.method_name(label), self.method_options(label, self.tasks_of(label)[0]))

    def training(self, task: str) -> Finetune:
        """Settings of the runs on a task: trials may be shorter, and on classes of pre-training nothing is trained."""
        if self.task(task).seen:
            return self.finetune.model_copy(update={"steps": 0, "warmup_steps": 0, "learning_rate": None})
        steps = self.tune.steps if self.is_for_tuning(task) else None
        return self.finetune.model_copy(update={"steps": steps}) if steps else self.finetune

    def curve_steps(self, task: str | None = None) -> list[int]:
        """Steps at which a run on this task, or on any of new classes, is evaluated; the last is the end, which of a
        trial, and of a run that trains nothing, is the only one."""
        if task is not None and (self.is_for_tuning(task) or self.task(task).seen):
            return [self.training(task).steps]
        steps = self.finetune.steps
        return sorted({max(1, round(share * steps)) for share in self.evaluation.curve} | {steps})

    def reference_set(self, task: str) -> tuple[str, int | None]:
        """The split that samples of this task are compared with, and how many of its images; None: all."""
        if self.is_for_tuning(task):
            return "validation", None
        return self.evaluation.reference, self.evaluation.num_reference

    def runs(self) -> Iterator[tuple[str, str, int]]:
        """Every (task, method, seed); see `entries_on`."""
        return ((task, method, seed) for task in self.tasks for method in self.entries_on(task) for seed in self.seeds)

    def tuned(self) -> list[str]:
        """The entries whose learning rate `tune` chooses: those that have none, and train."""
        return self._tuned

    @cached_property
    def _tuned(self) -> list[str]:
        """Asked for every job of a plan."""
        open_rates = [label for label, given in self.methods.items() if "learning_rate" not in given]
        return [label for label in open_rates if self._trains(label)] if self.tune else []

    def _trains(self, label: str) -> bool:
        method, any_task = METHODS[self.method_name(label)], self.tasks_of(label)[0]
        return method.learns(self.method_options(label, any_task))

    def rates(self, label: str) -> list[float]:
        """Those that are tried with an entry."""
        return self.methods[label].get("learning_rates") or self.tune.learning_rate

    def trials(self, label: str) -> Iterator[tuple[str, str, int]]:
        """(task, method, seed) of every run that chooses an entry's learning rate, rate by rate."""
        labels = [trial_label(label, number) for number in range(1, len(self.rates(label)) + 1)]
        return ((task, trial, self.tune.seed) for trial in labels for task in self.tune.tasks)

    def all_runs(self) -> Iterator[tuple[str, str, int]]:
        """Those of the tables, then the trials."""
        yield from self.runs()
        for label in self.tuned():
            yield from self.trials(label)
