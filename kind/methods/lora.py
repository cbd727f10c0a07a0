"""LoRA (Hu et al. 2022) through peft: W + (alpha / r) B A on the six matrices of each block, B = 0 at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kind.methods import Adaptation, DenseStart, Method, block_linears
from kind.models.presets import Preset

if TYPE_CHECKING:
    from kind.models.dit import DiT

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]


class Options(DenseStart):
    rank: Annotated[int, Field(ge=1)]
    alpha: Annotated[float, Field(gt=0)] | None = None  # None: alpha = rank, a scale of 1


def attach(model: DiT, options: Options, task: Adaptation) -> None:
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    alpha = options.rank if options.alpha is None else options.alpha
    config = LoraConfig(r=options.rank, lora_alpha=alpha, target_modules=TARGETS, lora_dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)  # peft draws A from the global generator
        inject_adapter_in_model(config, model)


def trainable_parameters(model: DiT, options: Options, task: Adaptation) -> int:
    """depth * sum over matrices of r (in + out)."""
    shape = Preset(model.config.depth, model.config.width, model.config.num_heads, model.config.patch_size)
    return shape.depth * sum(options.rank * (inputs + outputs) for inputs, outputs in block_linears(shape))


def merge(model: DiT) -> DiT:
    """W + (alpha / r) B A as plain linears."""
    from peft.tuners.lora import Linear

    for name, layer in list(model.named_modules()):
        if isinstance(layer, Linear):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    return model


def problem(options: Options, shape: Preset, backbone: object, num_seen_classes: int, num_classes: int) -> str | None:
    if options.rank > shape.width:
        return f"impossible rank: {options.rank} exceeds the rank {shape.width} of a matrix of width {shape.width}"
    return None


METHOD = Method(
    name="lora",
    title="LoRA",
    source="Hu et al. 2022",
    options=Options,
    start="dense",
    attach=attach,
    trainable_parameters=trainable_parameters,
    merge=merge,
    examples=({"rank": 4}, {"rank": 3, "alpha": 6.0}),
    problem=problem,
)
