"""A soft gate over tailors, DivControl's dynamic gate put on classes: every class uses all tailors, each in its share.

    alpha_c = w softmax(G(e_c))

over the T tailors of a matrix, one alpha for all matrices; e_c is an embedding of the class and G a small MLP, so that
an unseen class has shares as soon as its embedding is known.  The null class has none: learngenes alone.

Our choices: the sizes of G, SiLU, a last layer of zeros at the start (all shares alike), and w.  Shares that sum to 1
damp every tailor by about 1/T; with w = T (`tailors`) the model starts as the dense draw that it was factorized from.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from kind.models.gate import ClassGate

LEAST_SPREAD = 0.1  # of the mean one: what hardly differs between the seen classes is not blown up in unseen ones


class ClassShares(nn.Module):
    """G and the embeddings of the classes.

    embeddings: standardised, [num_classes, E]; mean, spread: of the pre-training classes' embeddings, [E].
    """

    learned_buffers = ("embeddings",)  # they come from data, and are kept beside what is trained

    def __init__(self, num_classes: int, num_tailors: int, hidden: Sequence[int], scale: str, embedding_size: int):
        super().__init__()
        self.weight = float(num_tailors) if scale == "tailors" else 1.0
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((embedding_size, *hidden, num_tailors)):
            layers += [nn.Linear(inputs, outputs), nn.SiLU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.register_buffer("mean", torch.zeros(embedding_size))
        self.register_buffer("spread", torch.ones(embedding_size))
        self.make_room(num_classes)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Xavier weights, zero biases, and zeros in the last layer."""
        linears = [layer for layer in self.mlp if isinstance(layer, nn.Linear)]
        for linear in linears:
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(linears[-1].weight)

    def make_room(self, num_classes: int) -> None:
        """For the embeddings of other classes, zeros until they are known."""
        self.register_buffer("embeddings", self.mean.new_zeros(num_classes, len(self.mean)))

    @torch.no_grad()
    def know_seen(self, vectors: Tensor) -> None:
        """The pre-training classes' embeddings as they come, [num_classes, E]: all others are measured by these."""
        self.mean.copy_(vectors.mean(0))
        self.spread.copy_(spread_of(vectors))
        self.know(vectors)

    @torch.no_grad()
    def know(self, vectors: Tensor) -> None:
        """The classes' embeddings as they come, [num_classes, E]."""
        self.embeddings.copy_((vectors.to(self.mean) - self.mean) / self.spread)

    def forward(self, embeddings: Tensor) -> Tensor:
        """[..., E] -> [..., T], in full precision whatever the products' is."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.weight * self.mlp(embeddings).softmax(-1)


def spread_of(vectors: Tensor) -> Tensor:
    """Standard deviation of each number among classes, and at least a tenth of the root mean square of all (our
    choice); 1 where the classes do not differ.  [C, E] -> [E]."""
    variance = vectors.double().var(0, unbiased=False)
    least = LEAST_SPREAD**2 * variance.mean()
    spread = variance.clamp(min=least).sqrt() if least > 0 else torch.ones_like(variance)
    return spread.to(vectors.dtype)


class SoftGate(ClassGate):
    """A gate whose classes are one group, owner of all tailors, of which each class uses its own share."""

    soft = True

    def __init__(self, class_shares: ClassShares, groups: Sequence[Sequence[int]]):
        self.class_shares = class_shares
        super().__init__(len(class_shares.embeddings), groups)

    def open(self, labels: Tensor) -> None:
        super().open(labels)
        known = self.class_shares(self.class_shares.embeddings)
        rows = torch.cat([known, known.new_zeros(1, known.shape[1])])
        self.plans["shares"] = rows[self.labels.to(rows.device)]

    def owners_of(self, label: int | None) -> tuple[int, ...]:
        """The group alone: no class has tailors of its own."""
        return super().owners_of(label)[1:]

    @property
    def shares(self) -> Tensor:
        """Of the samples that the gate is open for, zeros for the null class.  [B, T]."""
        return self.plans["shares"]

    def share_of(self, label: int) -> Tensor:
        """A class's shares.  [T]."""
        return self.class_shares(self.class_shares.embeddings[label])

    def __getstate__(self) -> dict[str, Any]:
        """Closed: a copy shares no graph with the forward pass that the gate was open for."""
        return vars(self) | {"_labels": None, "plans": {}}
