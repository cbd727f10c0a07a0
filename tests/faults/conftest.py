from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS / "errors"))  # the finished experiment that is broken there is broken here too

from finishing import copy_to_break, finish  # noqa: E402
from place import Place  # noqa: E402


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Place:
    """The tiny experiment with its report.  Tests must not change it."""
    return finish(tmp_path_factory.mktemp("finished"), ("report",))


@pytest.fixture
def place(finished, tmp_path, monkeypatch) -> Place:
    """A copy to break, which is the working folder."""
    return copy_to_break(finished, tmp_path / "work", monkeypatch)
