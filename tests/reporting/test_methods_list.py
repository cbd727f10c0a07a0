"""The lists of methods in README.md and docs/methods.md are the registry's."""

from __future__ import annotations

import re
from pathlib import Path

from kind.methods import METHODS
from kind.reporting.methods_list import between_marks, methods_table, renewed

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_lists_the_methods_as_they_are():
    text = (ROOT / "docs" / "methods.md").read_text()
    assert between_marks(text) == methods_table(), "make methods"
    assert renewed(text) == text


def test_the_readme_names_methods_that_are_there():
    section = (ROOT / "README.md").read_text().split("\n## Methods\n")[1].split("\n## ")[0]
    groups = re.search(r"^- .*?(?=^- Diff-Tuning)", section, flags=re.DOTALL | re.MULTILINE)[0]
    named = re.findall(r"`([^`]+)`", groups)
    assert "kind" in named and len(named) == len(set(named)) and set(named) <= set(METHODS)


def test_every_method_has_a_row_and_every_file_is_there():
    rows = methods_table().splitlines()[2:]
    assert len(rows) == len(METHODS)
    for row in rows:
        name, *_, file = (cell.strip().strip("`") for cell in row.strip("|").split("|"))
        assert name in METHODS
        assert (ROOT / "kind" / "methods" / file).is_file()
