"""A small valid params file, and how to spoil it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from kind.errors import UserError
from kind.params import Experiment
from kind.params.file import load_experiment


def change(content: Any, key: str, value: Any) -> None:
    """Set `a.b.c` (list positions are numbers); `...` deletes it."""
    *path, last = (int(part) if part.isdigit() else part for part in key.split("."))
    for part in path:
        content = content[part]
    if value is ...:
        del content[last]
    else:
        content[last] = deepcopy(value)  # further changes are of this file alone


@pytest.fixture
def content(valid_params) -> dict[str, Any]:
    """The valid file, to be changed."""
    return yaml.safe_load(valid_params)


@pytest.fixture
def write(tmp_path) -> Callable[[str | dict], Path]:
    """Write a params file."""

    def to_file(text: str | dict, name: str = "small.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return path

    return to_file


@pytest.fixture
def load(content, write) -> Callable[..., Experiment]:
    """The experiment of the valid file with these changes."""

    def changed(**changes: Any) -> Experiment:
        for key, value in changes.items():
            change(content, key, value)
        return load_experiment(write(content))

    return changed


@pytest.fixture
def complain(load) -> Callable[..., str]:
    """The message for the valid file with these changes."""

    def message(**changes: Any) -> str:
        with pytest.raises(UserError) as caught:
            load(**changes)
        return str(caught.value)

    return message
