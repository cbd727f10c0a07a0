"""The README and the pages of docs/: links lead somewhere, the map is true and complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kind.__main__ import ON_FILES, STAGES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
FILE_NAME = re.compile(r"[\w./-]+\.(?:py|md|smk|yaml|yml|toml|svg)\b")


def lines_outside_code(page: Path) -> list[str]:
    """The lines of a page that are text: no fenced code."""
    lines, code = [], False
    for line in page.read_text().splitlines():
        if line.lstrip().startswith("```"):
            code = not code
        elif not code:
            lines.append(line)
    return lines


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = [line.lstrip("#").strip() for line in lines_outside_code(page) if re.match(r"#{1,6} ", line)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """Where the links and pictures of a page lead, without those to the web."""
    text = re.sub(r"`[^`]*`", "", "\n".join(lines_outside_code(page)))
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_files_and_headings(page):
    dead = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


def test_every_page_is_linked_from_the_readme():
    named = {link.partition("#")[0] for link in links(ROOT / "README.md")}
    assert {name for name in NAMES if name.startswith("docs/")} <= named


def entries_of_the_map() -> list[tuple[list[Path], str]]:
    """Each entry of the README's map: its paths, and what is said of them."""
    block = (ROOT / "README.md").read_text().split("\n## Map\n")[1].split("```")[1]
    entries, folder = [], ROOT
    for line in block.strip("\n").splitlines():
        indent = len(line) - len(line.lstrip())
        if indent > 2:  # goes on with the entry above
            entries[-1] = (entries[-1][0], f"{entries[-1][1]} {line.strip()}")
            continue
        names, _, words = line.strip().partition("  ")
        paths = [(folder if indent else ROOT) / name for name in names.split(", ")]
        folder = folder if indent else paths[0]
        entries.append((paths, words.strip()))
    return entries


def test_what_the_map_names_exists():
    for paths, words in entries_of_the_map():
        for path in paths:
            assert path.exists(), path
        near = [folder for path in paths for folder in (path, path.parent)]
        for name in FILE_NAME.findall(words):
            assert any((folder / name).exists() for folder in near), f"{paths[0]}: {name}"


def test_the_map_names_every_module_folder_stage_and_page():
    entries = entries_of_the_map()
    said = " ".join(f"{' '.join(path.name for path in paths)} {words}" for paths, words in entries)
    named = set(re.findall(r"[\w-]+(?:\.\w+)?", said))
    modules = {path.name for path in (ROOT / "kind").glob("*.py") if path.name != "__init__.py"} - {"__main__.py"}
    folders = {path.name for path in (ROOT / "kind").iterdir() if (path / "__init__.py").exists()}
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    stages = {stage.replace("-", "_") for stage in STAGES | ON_FILES}
    assert sorted((modules | folders | pages | stages) - named) == []


def test_files_that_the_table_of_faults_names_exist():
    table = (ROOT / "README.md").read_text().split("\n## Reliability\n")[1].split("\n## ")[0]
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)`", table)
    assert len(named) > 5 and not [name for name in named if not (ROOT / "tests" / name).exists()]
