"""KIND's adaptation: inherited learngenes, frozen, with fresh tailors for the task's classes (KIND, figure 3).

The paper does not say how fresh tailors are drawn or how many a task gets; the options and defaults are ours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from kind.methods import Adaptation, LearngeneStart, Material, Method
from kind.models.factorization import Factorization, Numbers, matrix_shape
from kind.models.presets import Preset

if TYPE_CHECKING:
    from kind.models.dit import DiT


BUDGET_PER_WIDTH = 100 / 1024


class Options(LearngeneStart):
    """num_tailors: per class and matrix; None: `tailor_budget` shared among the task's classes, at least 1; 0: the
        learngenes alone, so that nothing but the label table is trained.

    tailor_budget: tailors of all classes per matrix; None: 100 at width 1024 (DiT-L/2), in proportion to the width.
        Our derivation: one tailor in all 144 matrices of DiT-L/2 is 24 x 18,438 = 442,512 numbers, so that the paper's
        45.4 M trained parameters are about 103 tailors a matrix; 100 divide evenly among 20 classes.
    tailor_start: `random` and `zero` are fresh draws (`draw_tailors`); `mean` and `nearest` begin with the tailors of
        the seen classes (`kind.models.tailor_starts`), `nearest` with those of the class whose embedding is nearest.
    null_gate: see `Factorization`; None: the backbone's.  With `learngenes` label-dropped samples train nothing but the
        null label's row, and guidance contrasts the task with what the backbone knew before; with `true_class` both
        halves of guidance adapt.
    """

    num_tailors: Annotated[int, Field(ge=0)] | None = None
    tailor_budget: Annotated[int, Field(ge=1)] | None = None
    tailor_start: Literal["random", "zero", "mean", "nearest"] = "random"
    learngenes: Literal["frozen", "trained"] = "frozen"
    train_dense: Literal["none", "biases", "all"] = "none"
    null_gate: Literal["learngenes", "true_class"] | None = None


def tailors_per_class(options: Options, width: int, num_classes: int) -> int:
    """Tailors that each class of a task gets in every matrix of a model of this width."""
    if options.num_tailors is not None:
        return options.num_tailors
    budget = options.tailor_budget or round(BUDGET_PER_WIDTH * width)
    return max(1, budget // num_classes)


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from kind.models.factorized import LEARNGENE_TENSORS, TAILOR_TENSORS
    from kind.models.learngene import add_fresh_tailors

    count = tailors_per_class(options, model.config.width, task.num_classes)
    if options.null_gate is not None:
        model.factorization = replace(model.factorization, null_gate=options.null_gate)
    start = options.tailor_start
    add_fresh_tailors(model, task.num_classes, count, start if start == "random" else "zero", task.seed)
    if task.material is not None:
        _begin_with_seen(model, start, task.material)
    for name, parameter in model.named_parameters():
        kind = name.rsplit(".", 1)[-1]
        if kind in TAILOR_TENSORS:
            trained = count > 0
        elif kind in LEARNGENE_TENSORS:
            trained = options.learngenes == "trained"
        else:
            trained = options.train_dense == "all" or (options.train_dense == "biases" and kind == "bias")
        parameter.requires_grad_(trained)


def _begin_with_seen(model: DiT, start: str, material: Material) -> None:
    from kind.class_embeddings import nearest_seen
    from kind.models.tailor_starts import begin_with_mean, begin_with_nearest

    if start == "mean":
        begin_with_mean(model, material.seen)
    elif start == "nearest":
        begin_with_nearest(model, material.seen, nearest_seen(material.embeddings, material.seen_embeddings))


def needs(options: Options) -> frozenset[str]:
    given = {"mean": {"seen"}, "nearest": {"seen", "embeddings", "seen_embeddings"}}
    return frozenset(given.get(options.tailor_start, ()))


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """C * N_T * depth * sum over matrices of (in + out + 1), plus what the options unfreeze."""
    return count_trained(model, model.factorization, options, task)


def count_trained(model: DiT, learngenes: Factorization, options: Options, task: Adaptation) -> int:
    """The formula for a model that has, or will have, these learngenes."""
    count, total = tailors_per_class(options, model.config.width, task.num_classes), 0
    factorization = learngenes.with_tailors(task.num_classes, count)
    for name, kind in factorization.layers(model.config.depth):
        component = sum(matrix_shape(kind, model.config.width)) + 1
        ranks = factorization.layer_ranks(name, task.num_classes)
        total += component * ranks.num_tailors
        if options.learngenes == "trained":
            total += component * ranks.num_learngenes
    if options.train_dense == "none":
        return total
    factors = ("learngene_u", "learngene_s", "learngene_v", "tailor_u", "tailor_s", "tailor_v")
    dense = {name: p for name, p in model.named_parameters() if name.rsplit(".", 1)[-1] not in factors}
    if options.train_dense == "biases":
        dense = {name: p for name, p in dense.items() if name.endswith("bias")}
    return total + sum(p.numel() for p in dense.values() if p is not model.label_table)


def deployed(model: DiT, options: Options, task: Adaptation) -> dict[str, Numbers]:
    """Learngenes and the task's tailors."""
    return held_by(model, model.factorization, options, task)


def held_by(model: DiT, learngenes: Factorization, options: Options, task: Adaptation) -> dict[str, Numbers]:
    """The same of a model that has, or will have, these learngenes."""
    width = model.config.width
    count = tailors_per_class(options, width, task.num_classes)
    return learngenes.with_tailors(task.num_classes, count).numbers(width, task.num_classes)


def problem(options: Options, shape: Preset, backbone: object, num_seen_classes: int, num_classes: int) -> str | None:
    if options.num_tailors is not None and options.tailor_budget is not None:
        return "num_tailors and tailor_budget are two ways to say one thing; give one"
    if backbone is None:
        return None
    if needs(options) and not backbone.has_tailors:
        return (
            f"tailor_start {options.tailor_start!r} begins with the tailors of the pre-training classes, and its "
            "backbone has none; write random or zero"
        )
    count, learngenes = tailors_per_class(options, shape.width, num_classes), backbone.most_learngenes
    active = learngenes + count
    if active > shape.width:
        return (
            f"impossible rank: {learngenes} learngenes + {count} tailors a class = {active} active "
            f"components exceed the rank {shape.width}; lower num_tailors or tailor_budget"
        )
    return None


METHOD = Method(
    name="kind",
    title="KIND",
    source="Xie et al. 2025",
    trains="fresh tailors of the task's classes; learngenes frozen",
    formula="classes x N_T x sum of (in + out + 1)",
    options=Options,
    examples=(
        {},
        {"tailor_start": "zero", "num_tailors": 2},
        {"num_tailors": 0},
        {"learngenes": "trained", "null_gate": "true_class"},
        {"train_dense": "biases"},
        {"train_dense": "all"},
    ),
    start="kind",
    attach=attach,
    trainable_parameters=trainable_parameters,
    deployed=deployed,
    needs=needs,
    keeps_output=lambda options: options.tailor_start == "zero" or options.num_tailors == 0,
    size_option="num_tailors",
    problem=problem,
)
