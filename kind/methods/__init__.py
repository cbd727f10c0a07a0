"""Ways to adapt a backbone to a task: one module a method, found by name.  Importing this imports no torch.

A module `kind/methods/NAME.py` that defines `METHOD` is a method; an entry in the `methods` section of a params file
runs it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from kind.models.factorization import Numbers
from kind.models.presets import Preset

if TYPE_CHECKING:
    from torch import Tensor

    from kind.models.dit import DiT
    from kind.models.factorization import Factorization
    from kind.training_routine import Routine, RunLength


FREQUENCIES = 256  # of the timestep embedding, in DiT as in diffusers


class MethodOptions(BaseModel):
    """Options that every method has; a method's own come on top."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    learning_rate: Annotated[float, Field(gt=0)] | None = None  # None: the experiment's finetune.learning_rate
    objective: Literal["standard", "diff-tuning"] = "standard"  # see `kind.batches.Replay`


class DenseStart(MethodOptions):
    backbone: str = "dense"


class LearngeneStart(MethodOptions):
    backbone: str = "kind"


class SoftStart(MethodOptions):
    backbone: str = "kind-soft"


def idle_problem(options: MethodOptions) -> str | None:
    """What an entry says of training that a method does not do, or None."""
    if options.learning_rate is not None:
        return "the method trains nothing, so that learning_rate has no meaning; leave it out"
    if options.objective != "standard":
        return "the method trains nothing, so that objective has no meaning; leave it out"
    return None


@dataclass(frozen=True)
class Material:
    """What some methods are given beside their start, where they ask for it (`Method.needs`).

    embeddings: of the task's classes, [num_classes, E]; seen_embeddings: of the pre-training classes, [C, E]; both as
    they come.  seen: the start's learngenes with the tailors of all pre-training classes.
    """

    embeddings: Tensor | None = None
    seen_embeddings: Tensor | None = None
    seen: DiT | None = None


@dataclass(frozen=True)
class Adaptation:
    """What a method may know of a run: the task's number of classes, the seed, and the material that it asks for.

    material: None where a file of what was learned fills the model afterwards: then it decides no value.
    """

    num_classes: int
    seed: int
    material: Material | None = None


class Unknown(AttributeError):
    """A formula asked for what is not known before there is a model."""


class _Known(SimpleNamespace):
    def __getattr__(self, name: str) -> None:
        raise Unknown(name)


@dataclass(frozen=True)
class Outline:
    """What stands for a backbone in a formula while there is none: its shape, and what is factorized.

    channels: of its images; None where only the data can tell.
    """

    shape: Preset
    channels: int | None = None
    learned_variance: bool = False
    factorization: Factorization | None = None

    @property
    def config(self) -> SimpleNamespace:
        """Of a `DiTConfig` what formulas ask for."""
        known = self.shape._asdict()
        if self.channels is not None:
            known |= {"channels": self.channels, "out_channels": self.channels * (2 if self.learned_variance else 1)}
        return _Known(**known)

    def __getattr__(self, name: str) -> None:
        raise Unknown(name)


@dataclass(frozen=True)
class Method:
    """One way to adapt a backbone.

    trains, formula: for people: what is trained, and how many numbers that is; sums go over the six matrices of every
        block, in and out are their sizes, D is the width, depth the number of blocks.
    start: what it is given: `dense` (a dense backbone), `kind` (the learngenes of a factorized backbone, without
        tailors), `whole` (a factorized backbone with its tailors), `soft` (one with a soft gate) or None (freshly
        initialised weights).  The label table already holds the task's rows.
    for_seen: whether it draws classes of pre-training, as the backbone knows them: it is given the start with their
        label rows (and tailors) alone, and trains nothing.  Other methods adapt the start to classes that are new.
    attach: changes the model in place, every parameter frozen before, and sets `requires_grad` on what it trains.
        The label table is trained whatever it says: the treatment is one for all methods.
    trainable_parameters: the formula for what `attach` makes trainable, without the label table.  It is asked of the
        attached model, and of an `Outline` of the backbone to find a size before there is a model (`size_option`).
    size_option: the option that sets how much is trained, more of it being more: a whole number up to the width, or a
        share; None where nothing does.  Entries with `match` leave it to be found.
    finds: options that no params file gives: an entry names a backbone (`like`), and they are found from its sizes.
    trains_nothing: whether, with these options, not even the label table is trained; new labels have the null row then.
    needs: names of the fields of `Material` that attaching needs, with these options, where nothing is learned yet.
    keeps_output: whether, with these options, the attached and untrained model computes what its start did.
    routine: what it adds to the training loop (`kind.training_routine`); None where that is nothing.
    rate_scales: factors of the learning rate by parameter name, where they are not 1.
    combines: made of the runs of other entries, `options.of`, and not trained (`kind.stages.soup_run`).
    deployed: what the adapted model holds in the place of plain matrices, by kind of matrix, in each block: for methods
        that leave any.  It is asked of the attached model's start or of an `Outline` of it, before there is a model.
    estimates: whether, with these options, weights decide how much is left of each matrix: `deployed` is then an upper
        bound in all, close for parameters, and says little of single matrices.
    merge: folds what was added into plain weights for deployment; None where nothing needs folding.
    has_plain_form: whether the adapted model, for methods without tailors, is a plain DiT after `merge`.
    examples: options that the shared tests try the method with; needed where an option has no default.
    renews: whether parts of the start are drawn anew, so that runs do not begin with one model.
    problem: why the options do not fit a model, or None.
    """

    name: str
    title: str
    source: str
    trains: str
    formula: str
    options: type[MethodOptions]
    start: Literal["dense", "kind", "whole", "soft"] | None
    attach: Callable[[DiT, MethodOptions, Adaptation], None]
    trainable_parameters: Callable[..., int]
    for_seen: bool = False
    finds: tuple[str, ...] = ()
    trains_nothing: Callable[[MethodOptions], bool] = lambda options: False
    needs: Callable[[MethodOptions], frozenset[str]] = lambda options: frozenset()
    keeps_output: Callable[[MethodOptions], bool] = lambda options: True
    routine: Callable[[DiT, MethodOptions, RunLength], Routine] | None = None
    rate_scales: Callable[[DiT, MethodOptions], dict[str, float]] = lambda model, options: {}
    deployed: Callable[..., dict[str, Numbers]] | None = None
    estimates: Callable[[MethodOptions], bool] = lambda options: False
    merge: Callable[[DiT], DiT] | None = None
    has_plain_form: bool = True
    combines: bool = False
    examples: tuple[dict, ...] = ({},)
    size_option: str | None = None
    renews: bool = False
    problem: Callable[..., str | None] = lambda options, shape, backbone, num_seen_classes, num_classes: None

    @property
    def takes(self) -> str | None:
        """Which backbones it starts from; see `Backbone.given_to`."""
        return "kind" if self.start == "whole" else self.start

    def merged(self, model: DiT) -> DiT:
        """The model with what was added folded into plain weights, where there is anything to fold."""
        return self.merge(model) if self.merge else model

    def learns(self, options: MethodOptions) -> bool:
        """Whether a run has a learning rate."""
        return not (self.combines or self.trains_nothing(options))


def _discover() -> dict[str, Method]:
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    methods = [module.METHOD for module in modules if hasattr(module, "METHOD")]
    return {method.name: method for method in methods}


def block_linears(shape: Preset) -> list[tuple[int, int]]:
    """(in, out) of the six matrices of a block: q, k, v, o, in, out."""
    width = shape.width
    return [(width, width)] * 4 + [(width, 4 * width), (4 * width, width)]


def matrices(model: DiT) -> list[tuple[int, int]]:
    """(in, out) of the six matrices of every block of a model."""
    config = model.config
    return config.depth * block_linears(Preset(config.depth, config.width, config.num_heads, config.patch_size))


def num_weights(model: DiT, *, vectors: bool) -> int:
    """Numbers in the matrices of a dense model, with or without those in its vectors, but for the label table."""
    config = model.config
    width, patch = config.width, config.patch_size**2
    linears = config.depth * [*block_linears(Preset(config.depth, width, config.num_heads, config.patch_size))]
    linears += config.depth * [(width, 6 * width)]  # AdaLN
    linears += [(patch * config.channels, width), (FREQUENCIES, width), (width, width)]  # patches and timesteps
    linears += [(width, 2 * width), (width, patch * config.out_channels)]  # the final layer
    return sum(inputs * outputs + vectors * outputs for inputs, outputs in linears)


def fold_linears(model: DiT) -> DiT:
    """`merge` of methods whose layers stand in the place of plain ones; see `kind.models.adapted_linears`."""
    from kind.models.adapted_linears import fold

    return fold(model)


METHODS = _discover()
