"""A report of more tasks than can be read one after another: they are folded, and what compares them is not."""

from __future__ import annotations

import html.parser

import pytest
import synthetic_experiment as synthetic
from reports import report, rows

from kind.reporting.page import MANY_TASKS

pytestmark = pytest.mark.slow

TASKS = {f"task{number}": {"data": "digits", "classes": ["7", "8"]} for number in range(MANY_TASKS + 1)}
METHODS = {name: synthetic.METHODS[name] for name in ("kind", "full", "lora")}
SEEDS = [0, 1, 2, 3, 4]


class Folds(html.parser.HTMLParser):
    """Which ids, headings and tables of a page are shown, and which only when something is unfolded."""

    def __init__(self, page: str):
        super().__init__()
        self.shown, self.folded, self.links = set(), set(), []
        self.depth, self.in_summary, self.in_heading = 0, False, False
        self.feed(page)
        self.close()
        assert self.depth == 0, "each is closed"

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.depth += tag == "details"
        self.in_summary |= tag == "summary"
        self.in_heading |= tag == "h2"
        assert tag != "details" or "open" not in given
        for key in ("id", "aria-label"):
            if key in given:
                self.note(given[key])
        if tag == "a":
            self.links.append(given["href"])

    def handle_endtag(self, tag):
        self.depth -= tag == "details"
        self.in_summary &= tag != "summary"
        self.in_heading &= tag != "h2"

    def handle_data(self, text):
        if self.in_heading:
            self.note(text)

    def note(self, what: str) -> None:
        (self.folded if self.depth and not self.in_summary else self.shown).add(what)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthetic.write_experiment(tmp_path_factory.mktemp("many") / "smoke", TASKS, METHODS, SEEDS)


def test_one_task_too_many_folds_all_of_them(folder, tmp_path):
    output = report(folder, tmp_path, TASKS, METHODS, SEEDS)
    found = Folds((output / "index.html").read_text())
    places = {f"task-{number}" for number in range(1, len(TASKS) + 1)}
    assert places <= found.folded and not places & found.shown
    assert {f"#{place}" for place in places} <= set(found.links)
    assert {f"Task: {name}" for name in TASKS} | {"Result", "result", "methods"} <= found.shown
    assert any("every task" in name.lower() or "all tasks" in name.lower() for name in found.shown), found.shown
    assert len(rows(output / "metrics.csv")) == len(TASKS) * len(METHODS) * len(SEEDS) == 105


def test_as_many_as_can_be_read_are_shown(folder, tmp_path):
    few = dict(list(TASKS.items())[:MANY_TASKS])
    found = Folds((report(folder, tmp_path, few, METHODS, SEEDS) / "index.html").read_text())
    assert {f"task-{number}" for number in range(1, MANY_TASKS + 1)} <= found.shown
    assert not found.folded
