"""Comparison tables: mean and spread over seeds, the best value marked; as CSV, Markdown and LaTeX."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kind.artifacts import write_csv, write_text
from kind.reporting.labels import ARROWS, MISSING, decimals_for, fixed, short_count
from kind.reporting.runs import number


@dataclass(frozen=True)
class Column:
    """key: the name in CSV; words: what people read; name: the exact metric name under it.

    exact: a count that seeds do not move (its spread is shown only if there is one); divide_by: display unit;
    together: columns of a table that say it are rounded alike.
    """

    key: str
    words: str
    name: str = ""
    direction: str | None = None
    exact: bool = False
    unit: str = ""
    divide_by: float = 1.0
    together: bool = False

    @property
    def heading(self) -> str:
        words = f"{self.words} ({self.unit})" if self.unit else self.words
        return f"{words} {ARROWS[self.direction]}" if self.direction in ARROWS else words


@dataclass(frozen=True)
class Cell:
    """Sample mean and sample standard deviation of the `n` values there are, of `expected` seeds."""

    mean: float | None
    std: float | None
    n: int
    expected: int
    mean_text: str = MISSING
    std_text: str = ""
    best: bool = False

    @property
    def shortfall(self) -> str:
        """What says that a mean hides missing values; nothing where all seeds count, or none."""
        return f"n = {self.n} of {self.expected}" if 0 < self.n < self.expected else ""


@dataclass(frozen=True)
class Row:
    labels: tuple[str, ...]
    cells: Sequence[Cell]
    method: str | None = None


@dataclass(frozen=True)
class Table:
    title: str
    headings: tuple[str, ...]
    columns: Sequence[Column]
    rows: Sequence[Row]
    caption: str
    notes: Sequence[str] = field(default=())


# column key -> one value a seed, or a number that has no seeds, or None where there can be none: the cell is empty
Values = Mapping[str, Sequence[Any] | float | None]


def build_table(
    title: str,
    headings: tuple[str, ...],
    columns: Sequence[Column],
    rows: Sequence[tuple[tuple[str, ...], str | None, Values]],
    caption: str,
) -> Table:
    """A table from the values of each row's seeds.

    A value that is null or not finite is left out of the mean; the cell then says how many seeds it stands for, and
    is not marked as best.  Values that read alike are marked alike.
    """
    summaries = [[_summary(values.get(column.key, ())) for _, _, values in rows] for column in columns]
    means = [
        [cell.mean / column.divide_by for cell in cells if cell.mean is not None]
        for column, cells in zip(columns, summaries, strict=True)
    ]
    common = [mean for column, own in zip(columns, means, strict=True) if column.together for mean in own]
    by_column = []
    for column, cells, own in zip(columns, summaries, means, strict=True):
        decimals = decimals_for(common if column.together else own)
        by_column.append(_mark_best([_with_text(cell, column, decimals) for cell in cells], column.direction))
    records = [
        Row(labels, [cells[place] for cells in by_column], method) for place, (labels, method, _) in enumerate(rows)
    ]
    notes = []
    cells = [cell for row in records for cell in row.cells]
    if any(cell.shortfall for cell in cells):
        notes.append("“n = a of b”: only a of b seeds have a value; such a mean is not marked as best.")
    if any(cell.mean is None and cell.mean_text for cell in cells):
        notes.append(f"“{MISSING}” alone: no seed has a value.")
    if any(cell.std_text == MISSING for cell in cells):
        notes.append(f"“± {MISSING}”: one value has no spread.")
    return Table(title, headings, columns, records, caption, notes)


def _summary(values: Sequence[Any] | float | None) -> Cell:
    if values is None:
        return Cell(None, None, 0, 0, mean_text="")
    if isinstance(values, int | float):
        return Cell(values, 0.0, 1, 1)
    present = [value for value in map(number, values) if value is not None]
    if not present:
        return Cell(None, None, 0, len(values))
    std = statistics.stdev(present) if len(present) > 1 else None
    return Cell(statistics.fmean(present), std, len(present), len(values))


def _with_text(cell: Cell, column: Column, decimals: int) -> Cell:
    if cell.mean is None:
        return cell
    if column.exact:
        mean, std = short_count(cell.mean), short_count(cell.std) if cell.std else ""
    elif cell.n == 1 and cell.std is not None:
        mean, std = fixed(cell.mean / column.divide_by, decimals), ""
    else:
        mean = fixed(cell.mean / column.divide_by, decimals)
        std = MISSING if cell.std is None else fixed(cell.std / column.divide_by, decimals)
    return Cell(cell.mean, cell.std, cell.n, cell.expected, mean, std)


def _mark_best(cells: list[Cell], direction: str | None) -> list[Cell]:
    complete = [cell for cell in cells if cell.mean is not None and not cell.shortfall]
    if direction not in ARROWS or len(complete) < 2:
        return cells
    best = (min if direction == "lower" else max)(complete, key=lambda cell: cell.mean).mean_text
    return [
        Cell(cell.mean, cell.std, cell.n, cell.expected, cell.mean_text, cell.std_text, best=True)
        if cell in complete and cell.mean_text == best
        else cell
        for cell in cells
    ]


def with_note(table: Table | None, note: str | None) -> Table | None:
    return replace(table, notes=[*table.notes, note]) if table and note else table


# --- writing ----------------------------------------------------------------------------------------------------


def write_table(table: Table, folder: Path, name: str) -> None:
    """`name`.csv (exact numbers), `name`.md and `name`.tex (rounded, as read)."""
    rows, columns = csv_rows(table)
    write_csv(folder / f"{name}.csv", rows, columns)
    write_text(folder / f"{name}.md", to_markdown(table))
    write_text(folder / f"{name}.tex", to_latex(table, name))


def csv_rows(table: Table) -> tuple[list[dict[str, Any]], list[str]]:
    """Per column its mean, std, n and whether it is marked as best."""
    rows = []
    for row in table.rows:
        line = {heading.lower(): label for heading, label in zip(table.headings, row.labels, strict=True)}
        for column, cell in zip(table.columns, row.cells, strict=True):
            line |= {f"{column.key}.mean": cell.mean, f"{column.key}.std": cell.std, f"{column.key}.n": cell.n}
            if column.direction in ARROWS:
                line[f"{column.key}.best"] = int(cell.best)
        rows.append(line)
    return rows, list(rows[0]) if rows else [heading.lower() for heading in table.headings]


def to_markdown(table: Table) -> str:
    heads = [*table.headings, *(column.heading for column in table.columns)]
    names = [*("" for _ in table.headings), *(column.name for column in table.columns)]
    width = len(table.headings)
    lines = [f"**{escape_markdown(table.title)}**", "", escape_markdown(table.caption), ""]
    lines.append(_markdown_row(
        f"{escape_markdown(head)}<br>{escape_markdown(name)}" if name else escape_markdown(head)
        for head, name in zip(heads, names, strict=True)
    ))  # fmt: skip
    lines.append(_markdown_row([":--"] * width + ["--:"] * len(table.columns)))
    for row in table.rows:
        cells = [_markdown_cell(cell) for cell in row.cells]
        lines.append(_markdown_row([*(escape_markdown(label) for label in row.labels), *cells]))
    for note in table.notes:
        lines += ["", escape_markdown(note)]
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.mean_text}**" if cell.best else cell.mean_text
    text += f" ± {cell.std_text}" if cell.std_text else ""
    return text + (f" ({cell.shortfall})" if cell.shortfall else "")


def escape_markdown(text: str) -> str:
    """Text as it stands, whatever it holds; `<` and `&` as entities, because Markdown lets HTML through."""
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~$!])", r"\\\1", text)


def to_latex(table: Table, label: str) -> str:
    """A `table` environment for booktabs."""
    width = len(table.headings)
    heads = [*table.headings, *(column.heading for column in table.columns)]
    names = [*("" for _ in table.headings), *(column.name for column in table.columns)]
    lines = [
        "% needs \\usepackage{booktabs}, \\usepackage{graphicx} and UTF-8 input",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{escape_latex(table.title)}. {escape_latex(table.caption)}}}",
        f"  \\label{{tab:{re.sub('[^A-Za-z0-9]+', '-', label)}}}",
        "  \\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"  \\begin{{tabular}}{{{'l' * width}{'r' * len(table.columns)}}}",
        "    \\toprule",
        "    " + " & ".join(escape_latex(head) for head in heads) + " \\\\",
    ]
    if any(names):
        lines.append("    " + " & ".join(_latex_name(name) for name in names) + " \\\\")
    lines.append("    \\midrule")
    for row in table.rows:
        cells = [*(escape_latex(label) for label in row.labels), *(_latex_cell(cell) for cell in row.cells)]
        lines.append("    " + " & ".join(cells) + " \\\\")
    lines += ["    \\bottomrule", "  \\end{tabular}}"]
    lines += [f"  \\par\\smallskip\\footnotesize {escape_latex(note)}" for note in table.notes]
    return "\n".join([*lines, "\\end{table}"]) + "\n"


def _latex_name(name: str) -> str:
    return f"{{\\scriptsize\\texttt{{{escape_latex(name)}}}}}" if name else ""


def _latex_cell(cell: Cell) -> str:
    if cell.mean is None:
        return "--" if cell.mean_text else ""
    mean = escape_latex(cell.mean_text).replace(" ", "\\,")
    text = f"\\textbf{{{mean}}}" if cell.best else mean
    if cell.std_text:
        text += " $\\pm$ " + escape_latex(cell.std_text).replace(" ", "\\,")
    return text + (f" {{\\scriptsize({escape_latex(cell.shortfall)})}}" if cell.shortfall else "")


_LATEX = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}",
    "|": "\\textbar{}", '"': "\\textquotedbl{}", "–": "--", "−": "$-$", "±": "$\\pm$", "↓": "$\\downarrow$",
    "↑": "$\\uparrow$", "×": "$\\times$", "÷": "$\\div$", "⁻": "$^{-}$", "³": "$^{3}$", "“": "``", "”": "''", "\n": " ",
}  # fmt: skip


def escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in str(text))
