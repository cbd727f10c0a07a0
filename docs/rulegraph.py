"""Draws the graph of rules that Snakemake prints, without graphviz:

snakemake --rulegraph --config experiment=rivals | python docs/rulegraph.py docs/rulegraph.svg
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "rules"  # the same bytes each time
import matplotlib.pyplot as plt  # noqa: E402

STEP_X, STEP_Y, WIDTH, HEIGHT = 2.1, 1.0, 1.75, 0.42
SWEEPS = 8  # over the layers, each ordering a layer by its neighbours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    path = parser.parse_args().file
    labels, edges = read_dot(sys.stdin.read())
    if not labels:
        sys.exit("error: no rules on standard input; see the head of this script for the command")
    draw(labels, edges, layered(labels, edges), path)


def read_dot(text: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Names of rules by node, and (from, to): without rules that read their own kind, and without arrows that others
    imply."""
    labels = dict(re.findall(r"^\s*(\d+)\[label = \"(\w+)", text, re.M))
    edges = {(source, target) for source, target in re.findall(r"^\s*(\d+) -> (\d+)", text, re.M) if source != target}
    after = {node: {target for source, target in edges if source == node} for node in labels}

    def reached(node: str) -> set[str]:
        return after[node].union(*(reached(other) for other in after[node]))

    implied = {(node, far) for node in labels for near in after[node] for far in reached(near)}
    return labels, sorted(edges - implied, key=lambda edge: tuple(map(int, edge)))


def layered(labels: Mapping[str, str], edges: Sequence[tuple[str, str]]) -> dict[str, tuple[float, int]]:
    """(place in its layer, layer) of every node: a rule lies below all that it reads."""
    before = {node: [source for source, target in edges if target == node] for node in labels}
    after = {node: [target for source, target in edges if source == node] for node in labels}
    depth: dict[str, int] = {}
    while len(depth) < len(labels):
        depth |= {n: 1 + max((depth[s] for s in before[n]), default=-1)
                  for n in labels if n not in depth and all(s in depth for s in before[n])}  # fmt: skip
    layers = [[node for node in labels if depth[node] == layer] for layer in range(max(depth.values()) + 1)]
    place = {node: index - (len(layer) - 1) / 2 for layer in layers for index, node in enumerate(layer)}
    for sweep in range(SWEEPS):
        neighbours = before if sweep % 2 == 0 else after
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted = {node: _mean([place[other] for other in neighbours[node]], place[node]) for node in layer}
            for index, node in enumerate(sorted(layer, key=wanted.__getitem__)):
                place[node] = index - (len(layer) - 1) / 2
    return {node: (place[node], depth[node]) for node in labels}


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def draw(labels: Mapping[str, str], edges: Sequence[tuple[str, str]], places: Mapping[str, tuple[float, int]],
         path: Path) -> None:  # fmt: skip
    spots = {node: (STEP_X * x, -STEP_Y * y) for node, (x, y) in places.items()}
    xs, ys = zip(*spots.values(), strict=True)
    size = (max(xs) - min(xs) + 2 * WIDTH, max(ys) - min(ys) + 2 * HEIGHT + 0.3)
    figure, axes = plt.subplots(figsize=(0.8 * size[0], 0.8 * size[1]))
    for source, target in edges:
        (x0, y0), (x1, y1) = spots[source], spots[target]
        skips = places[target][1] - places[source][1] - 1
        bend = f"arc3,rad={(0.45 if x0 == x1 else 0.12) * (1 if x0 >= x1 else -1)}" if skips else "arc3,rad=0"
        arrow = {"arrowstyle": "-|>", "color": "0.6", "lw": 0.8, "connectionstyle": bend}
        axes.annotate("", (x1, y1 + HEIGHT / 2), (x0, y0 - HEIGHT / 2), arrowprops=arrow, zorder=1)
    for node, (x, y) in spots.items():
        box = {"boxstyle": "round,pad=0.35", "facecolor": "#eef3f8", "edgecolor": "#4a6f96", "lw": 0.9}
        axes.text(x, y, labels[node], ha="center", va="center", fontsize=9, bbox=box, zorder=2)
    axes.set_xlim(min(xs) - WIDTH, max(xs) + WIDTH)
    axes.set_ylim(min(ys) - HEIGHT, max(ys) + HEIGHT)
    axes.axis("off")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
