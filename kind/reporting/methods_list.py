"""The table of methods in docs/methods.md.  Run as a program (`make methods`), this puts the present one there."""

from __future__ import annotations

from pathlib import Path

from kind.artifacts import write_text
from kind.methods import METHODS

BEGIN, END = "<!-- methods: begin -->", "<!-- methods: end -->"


def methods_table() -> str:
    """A Markdown table of all methods, KIND first, the others by name."""
    order = sorted(METHODS.values(), key=lambda method: (method.name != "kind", method.name))
    rows = [
        (f"`{m.name}`", f"{m.title} ({m.source})", m.trains, m.formula, f"`{m.name.replace('-', '_')}.py`")
        for m in order
    ]
    head = ("name", "method", "what is trained", "how many numbers", "file in `kind/methods/`")
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def between_marks(text: str) -> str:
    """What stands between the marks of a page."""
    return text.split(BEGIN, 1)[1].split(END, 1)[0].strip()


def renewed(text: str) -> str:
    """The page with the table of this version between its marks."""
    return text.split(BEGIN, 1)[0] + f"{BEGIN}\n{methods_table()}\n{END}" + text.split(END, 1)[1]


if __name__ == "__main__":
    page = Path(__file__).resolve().parents[2] / "docs" / "methods.md"
    write_text(page, renewed(page.read_text()))
