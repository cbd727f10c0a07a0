"""DivControl's dynamic gate put on classes: a backbone pre-trained with a soft gate gives an unseen class its shares of
the tailors, alpha = w softmax(G(e)), from an embedding e of the class alone.

With nothing trained that is zero-shot; the other settings tune G, or the tailors too.  DivControl puts the gate on
conditions of ControlNets; that `train` says what is tuned for classes, and its default, are our choices.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from kind.methods import Adaptation, Method, SoftStart, Unknown
from kind.models.factorization import Numbers, matrix_shape
from kind.models.presets import Preset

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(SoftStart):
    """train: `tailors` (tailors and G), `gate` (G alone) or `nothing`: then not even the label table is trained, and
    new labels have the null label's row.  null_gate: see `Factorization`; None: the backbone's."""

    train: Literal["tailors", "gate", "nothing"] = "tailors"
    null_gate: Literal["learngenes", "true_class"] | None = None


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    from kind.models.factorized import TAILOR_TENSORS
    from kind.models.soft_classes import give_classes

    give_classes(model, task.num_classes, task.material and task.material.embeddings)
    if options.null_gate is not None:
        model.factorization = replace(model.factorization, null_gate=options.null_gate)
    model.class_shares.mlp.requires_grad_(options.train != "nothing")
    for name, parameter in model.named_parameters():
        if name.rsplit(".", 1)[-1] in TAILOR_TENSORS:
            parameter.requires_grad_(options.train == "tailors")


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """G's weights and biases, and T * depth * sum over matrices of (in + out + 1)."""
    if options.train == "nothing":
        return 0
    factorization = model.factorization
    soft, ((_, num_tailors),) = factorization.soft, factorization.groups
    if soft.embedding_size is None:
        raise Unknown("the data decide the size of class embeddings")
    sizes = (soft.embedding_size, *soft.hidden, num_tailors)
    total = sum((inputs + 1) * outputs for inputs, outputs in zip(sizes, sizes[1:], strict=False))
    if options.train == "tailors":
        kinds = [kind for _, kind in factorization.layers(model.config.depth)]
        total += num_tailors * sum(sum(matrix_shape(kind, model.config.width)) + 1 for kind in kinds)
    return total


def deployed(model: DiT, options: Options, task: Adaptation) -> dict[str, Numbers]:
    """All components; the gate itself is counted apart."""
    learned = model.factorization
    ((_, num_tailors),) = learned.groups
    everyone = ((tuple(range(task.num_classes)), num_tailors),)
    return replace(learned, groups=everyone).numbers(model.config.width, task.num_classes)


def problem(options: Options, shape: Preset, backbone: object, num_seen_classes: int, num_classes: int) -> str | None:
    if options.train == "nothing" and options.objective != "standard":
        return "train: nothing leaves objective without a meaning; leave out one or the other"
    return None


METHOD = Method(
    name="divgate",
    title="Dynamic gate",
    source="DivControl's, our port to classes",
    trains="tailors that all classes share, and the gate; the gate alone, or nothing (zero-shot)",
    formula="T x sum of (in + out + 1), and the gate",
    options=Options,
    start="soft",
    attach=attach,
    trainable_parameters=trainable_parameters,
    deployed=deployed,
    trains_nothing=lambda options: options.train == "nothing",
    needs=lambda options: frozenset({"embeddings"}),
    keeps_output=lambda options: False,
    problem=problem,
    examples=({}, {"train": "gate", "null_gate": "true_class"}, {"train": "nothing"}),
)
