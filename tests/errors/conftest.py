from __future__ import annotations

import pytest
from finishing import copy_to_break, finish
from place import Place


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Place:
    """The tiny experiment without its report.  Tests must not change it."""
    return finish(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def place(finished, tmp_path, monkeypatch) -> Place:
    """A copy to break, which is the working folder."""
    return copy_to_break(finished, tmp_path / "work", monkeypatch)
