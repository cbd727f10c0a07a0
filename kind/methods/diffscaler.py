"""DiffScaler (Nair et al. 2024): y = (1 + a) * W x + c + b + scale W_up relu(W_down x) on each matrix, the backbone
frozen; a, c and W_up are 0 at the start.

The authors start the rows of new labels from the null label's: `finetune.label_table: null`, for all methods at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method, lora, matrices
from kind.models.factorization import FACTORIZED, Numbers, matrix_shape

if TYPE_CHECKING:
    from kind.models.dit import DiT


class Options(DenseStart):
    rank: Annotated[int, Field(ge=1)]
    scale: Annotated[float, Field(gt=0)]


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    import torch

    from kind.models.adapted_linears import BottleneckLinear, replace_linears

    generator = torch.Generator().manual_seed(task.seed)
    replace_linears(model, lambda linear: BottleneckLinear(linear, options.rank, options.scale, generator))


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """Sum over matrices of 2 out + r (in + out)."""
    return sum(2 * outputs + options.rank * (inputs + outputs) for inputs, outputs in matrices(model))


def deployed(model: DiT, options: Options, task: Adaptation) -> dict[str, Numbers]:
    """The plain matrix, the bottleneck beside it, and a scale and a shift of its outputs."""
    found = {}
    for name in FACTORIZED:
        inputs, outputs = matrix_shape(name, model.config.width)
        products = inputs * outputs + options.rank * (inputs + outputs)
        found[name] = Numbers(products + 2 * outputs, products)
    return found


METHOD = Method(
    name="diffscaler",
    title="DiffScaler",
    source="Nair et al. 2024",
    trains="scale, shift and a ReLU bottleneck beside each matrix",
    formula="sum of 2 out + r (in + out)",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    deployed=deployed,
    has_plain_form=False,
    examples=({"rank": 4, "scale": 1.0}, {"rank": 3, "scale": 0.5}),
    size_option="rank",
    problem=lora.problem,
)
