"""What learngenes and tailors hold, as tables, plots and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kind.artifacts import load_arrays
from kind.errors import UserError
from kind.layout import Layout
from kind.reporting import grids
from kind.reporting.csv_rows import Rows, read_rows
from kind.reporting.labels import COLOURS, method_styles
from kind.reporting.plots import Plot, Series, line_plot, render
from kind.reporting.runs import number
from kind.reporting.tables import Column, Table, build_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURES = {"features": "mean features", "pixels": "mean images"}  # of classes: column -> words
ALL_BLOCKS = "all"
FEW_PAIRS = 400  # up to here every pair is a point
HOW = {"tailors": "with its tailors", "label": "label, no tailors", "learngenes": "learngenes alone"}


@dataclass(frozen=True)
class Found:
    """What the analysis `components` wrote."""

    energy: Rows
    similarity: Rows
    correlation: Rows
    pictures: Path

    @property
    def backbones(self) -> list[str]:
        return list(dict.fromkeys(row["backbone"] for row in self.energy))

    def correlation_of(self, backbone: str, pictures: str) -> Rows:
        """Of all blocks, then of each."""
        return [row for row in self.correlation if (row["backbone"], row["pictures"]) == (backbone, pictures)]

    def pictures_of(self, backbone: str) -> list[str]:
        """What tailors are compared with."""
        return list(dict.fromkeys(row["pictures"] for row in self.correlation if row["backbone"] == backbone))


@dataclass(frozen=True)
class Gallery:
    title: str
    words: str
    panels: Sequence[grids.Panel]


def load_components(layout: Layout) -> Found:
    energy, similarity, correlation, pictures = layout.component_files()
    if not pictures.is_file():
        raise UserError(f"{pictures}: no such file", hint="run the analyse stage, or snakemake")
    return Found(
        read_rows(energy, ("backbone", "block", "matrix", "tailor_share")),
        read_rows(similarity, ("backbone", "one", "other", "tailors", "features", "pixels")),
        read_rows(correlation, ("backbone", "block", "pictures", "rho", "p", "num_classes", "num_pairs")),
        pictures,
    )


# --- tables -----------------------------------------------------------------------------------------------------


def correlation_table(found: Found) -> Table:
    columns = [Column("rho", "Spearman's ρ"), Column("p", "p")]
    lines = []
    for backbone in found.backbones:
        for pictures in found.pictures_of(backbone):
            for row in found.correlation_of(backbone, pictures):
                blocks = "all blocks" if row["block"] == ALL_BLOCKS else f"block {row['block']}"
                values = {key: number(row[key]) for key in ("rho", "p")}
                lines.append(((backbone, PICTURES[pictures], blocks), None, values))
    counts = {(row["num_pairs"], row["num_classes"], row["num_permutations"]) for row in found.correlation}
    counted = "; ".join(f"{int(p):,} pairs of {c} classes, {int(n):,} permutations" for p, c, n in sorted(counts))
    caption = (
        "Whether classes whose pictures are alike have tailors that are alike: correlation over pairs of pre-training "
        f"classes, and Mantel's one-sided p, by permutations of classes ({counted})."
    )
    return build_table("Tailors and pictures", ("Backbone", "Pictures by", "Tailors of"), columns, lines, caption)


def nearest_table(found: Found, classes: Sequence[str]) -> Table:
    """For some classes the one whose tailors, and the one whose pictures, are most like theirs.

    classes: of pre-training, in the order of the params.
    """
    kinds = [key for key in ("tailors", *PICTURES) if any(row[key] for row in found.similarity)]
    words = {"tailors": "tailors", **PICTURES}
    lines, agreement = [], []
    for backbone in found.backbones:
        nearest = {
            key: _nearest([row for row in found.similarity if row["backbone"] == backbone], key) for key in kinds
        }
        usable = [name for name in classes if name in nearest["tailors"]]
        for place in grids.shown_classes(len(usable), 1):
            name = usable[place]
            found_ones = {key: nearest[key][name] for key in kinds}
            labels = (backbone, name, *(found_ones[key][0] for key in kinds))
            lines.append((labels, None, {key: found_ones[key][1] for key in kinds}))
        for key in kinds[1:]:
            same = sum(nearest["tailors"][name][0] == nearest[key][name][0] for name in usable)
            agreement.append(f"by {words[key]} of {same} of {len(usable)} ({backbone})")
    caption = (
        "The nearest other class, by cosine, of some classes, spread over all. The nearest by tailors is the nearest "
        f"{', '.join(agreement)}; one is expected by chance."
    )
    headings = ("Backbone", "Class", *(f"Nearest by {words[key]}" for key in kinds))
    columns = [Column(key, f"Cosine of {words[key]}") for key in kinds]
    return build_table("Nearest classes", headings, columns, lines, caption)


def _nearest(pairs: Rows, key: str) -> dict[str, tuple[str, float]]:
    """Of every class the nearest other, and its cosine."""
    nearest: dict[str, tuple[str, float]] = {}
    for row in pairs:
        value = float(row[key])
        for name, other in ((row["one"], row["other"]), (row["other"], row["one"])):
            if name not in nearest or value > nearest[name][1]:
                nearest[name] = (other, value)
    return nearest


# --- plots ------------------------------------------------------------------------------------------------------


def component_plots(found: Found, folder: Path) -> list[Plot]:
    made = []
    for backbone in found.backbones:
        made.append(_share_by_block(folder, backbone, found.energy))
        made += [_pairs(folder, backbone, pictures, found) for pictures in found.pictures_of(backbone)]
    return [plot for plot in made if plot]


def _share_by_block(folder: Path, backbone: str, energy: Rows) -> Plot | None:
    rows = [row for row in energy if row["backbone"] == backbone]
    styles = method_styles(dict.fromkeys(row["matrix"] for row in rows))
    blocks = sorted({int(row["block"]) for row in rows})

    def points(matrix: str) -> list[tuple[float, float]]:
        pairs = [(int(row["block"]), number(row["tailor_share"])) for row in rows if row["matrix"] == matrix]
        return [(block, share) for block, share in pairs if share is not None]

    series = [Series(matrix, style, [points(matrix)]) for matrix, style in styles.items()]
    return line_plot(
        folder, f"components_{backbone}_energy", series, "Tailors' share of energy",
        f"{backbone}: of a class's tailors and the learngenes, mean over classes", markers=True, xlabel="block",
        ticks={block: str(block) for block in blocks[:: -(-len(blocks) // 12)]},
    )  # fmt: skip


def _pairs(folder: Path, backbone: str, pictures: str, found: Found) -> Plot | None:
    overall = found.correlation_of(backbone, pictures)[0]
    rho, p = number(overall["rho"]), number(overall["p"])
    if rho is None:
        return None
    rows = [row for row in found.similarity if row["backbone"] == backbone]
    xs, ys = ([float(row[key]) for row in rows] for key in (pictures, "tailors"))
    title = f"Tailors and {pictures}: ρ = {rho:.2f}, p = {p:.2g}".replace("-", "−")

    def draw(axes: Axes) -> None:
        if len(rows) <= FEW_PAIRS:
            axes.scatter(xs, ys, s=9, color=COLOURS[1], alpha=0.6, linewidth=0, zorder=3)
        else:
            axes.hexbin(xs, ys, gridsize=36, bins="log", mincnt=1, cmap=_fading(COLOURS[1]), linewidths=0, zorder=3)
        axes.set_xlabel(f"cosine of {PICTURES[pictures]}")
        axes.set_ylabel("cosine of tailors")

    subtitle = f"{backbone}: {len(rows):,} pairs of {overall['num_classes']} classes"
    kind = "Scatter plot" if len(rows) <= FEW_PAIRS else "Density"
    alt = f"{kind} of the cosine of tailors against that of {PICTURES[pictures]} for pairs of classes. {title}."
    return render(folder, f"components_{backbone}_{pictures}", draw, title, subtitle, alt, longest=0, left=0.19)


def _fading(colour: str):
    """From nearly nothing to the colour, so that it is seen on light and on dark paper."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    return LinearSegmentedColormap.from_list("fading", [to_rgba(colour, 0.2), to_rgba(colour, 1.0)])


# --- pictures ---------------------------------------------------------------------------------------------------


def galleries(
    found: Found, folder: Path, experiment: str, classes: Sequence[str], null_gates: Mapping[str, str]
) -> list[Gallery]:
    """null_gates: backbone -> its policy for dropped labels."""
    arrays = load_arrays(found.pictures, ("labels", "real", "real_labels"))
    made = []
    for backbone in found.backbones:
        panels = [grids.make_panel("real", [(arrays["real"], arrays["real_labels"])], classes)]
        panels += [
            grids.make_panel(words, [(arrays[f"{backbone}.{how}"], arrays["labels"])], classes)
            for how, words in HOW.items()
        ]
        path = folder / f"components_{backbone}.png"
        grids.write_grid(path, f"{experiment}: components of {backbone}", panels, classes)
        shown = grids.shown_classes(len(classes), arrays["real"].shape[1])
        words = _words([classes[index] for index in shown], null_gates[backbone])
        made.append(Gallery(f"What the components of {backbone} draw", words, panels))
    return made


def _words(shown: Sequence[str], null_gate: str) -> str:
    trained = "for dropped labels without any tailors, and never with a label but without its tailors"
    if null_gate == "true_class":
        trained = "never without the tailors of the true class, so that the last two are new to the model"
    return (
        "Samples of the backbone as pre-trained, without guidance, from the same noise in every row: a column is one "
        f"draw of noise. Rows are classes ({', '.join(shown)}), beside real training images. With its tailors: the "
        "class's label, the learngenes and the class's tailors. Label, no tailors: the same with all tailors at zero. "
        "Learngenes alone: the null label, no tailors; nothing depends on the class, so that all rows are alike. The "
        f"model was pre-trained {trained}."
    )
