"""What a model costs, by formulas of its sizes: what `kind.evaluation.complexity` counts.  Imports no torch.

Sums go over the matrices of a block; P is the patch's side, C and C' the channels that come in and out, D the width, N
the number of tokens, R the components of a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from kind.methods import FREQUENCIES, Adaptation, Method, MethodOptions, Outline, num_weights
from kind.models.factorization import MATRICES, Factorization, Numbers, matrix_shape
from kind.models.presets import Preset


class Cost(NamedTuple):
    """As deployed: parameters, and multiply-accumulates of one forward pass of one image."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class Network:
    """What a DiT works on.  side, channels: of an image, or of its latents."""

    shape: Preset
    side: int
    channels: int
    learned_variance: bool

    @property
    def num_tokens(self) -> int:
        return (self.side // self.shape.patch_size) ** 2

    def outline(self, factorization: Factorization | None = None) -> Outline:
        return Outline(self.shape, self.channels, self.learned_variance, factorization)


def backbone_cost(network: Network, factorization: Factorization | None, num_classes: int) -> Cost:
    """factorization: None for a dense one."""
    held = {} if factorization is None else factorization.numbers(network.shape.width, num_classes)
    return _cost(network, num_classes, held, factorization)


def adapted_cost(
    network: Network, learned: Factorization | None, method: Method, options: MethodOptions, num_classes: int
) -> Cost:
    """Of a method's model for a task.  learned: of the backbone that it starts from; None for a dense one."""
    outline = network.outline(learned)
    held = method.deployed(outline, options, Adaptation(num_classes, seed=0)) if method.deployed else {}
    return _cost(network, num_classes, held, learned)


def _cost(network: Network, num_classes: int, held: Mapping[str, Numbers], factorization: Factorization | None) -> Cost:
    """held: of the kinds of matrices that are not plain, in each block.

    parameters = dense ones + label table + depth sum (held - in out);
    MACs = depth (N sum used + 6 D^2 + 2 N^2 D) + N D P^2 (C + C') + (256 + D + 2 D) D.  AdaLN is applied once, as is
    the network of a soft gate, which comes on top.
    """
    depth, width, _, patch = network.shape
    tokens, config = network.num_tokens, network.outline().config
    parameters = num_weights(network.outline(), vectors=True) + (num_classes + 1) * width
    macs = tokens * width * patch**2 * (config.channels + config.out_channels)
    macs += (FREQUENCIES + width + 2 * width) * width + depth * 2 * tokens**2 * width
    for kind in MATRICES:
        inputs, outputs = matrix_shape(kind, width)
        numbers = held.get(kind, Numbers(inputs * outputs, inputs * outputs))
        parameters += depth * (numbers.held - inputs * outputs)
        macs += depth * numbers.used * (1 if kind == "adaln" else tokens)
    for inputs, outputs in _gate_layers(factorization):
        parameters += (inputs + 1) * outputs
        macs += inputs * outputs
    return Cost(parameters, macs)


def _gate_layers(factorization: Factorization | None) -> list[tuple[int, int]]:
    """(in, out) of the network of a soft gate; of none without one.  An unknown size of embeddings counts as 0."""
    if factorization is None or factorization.soft is None:
        return []
    soft, ((_, num_tailors),) = factorization.soft, factorization.groups
    return list(pairwise((soft.embedding_size or 0, *soft.hidden, num_tailors)))
