"""What is imported when: parsing params, planning and help stay light.  What stages import: tests/stages."""

# ruff: noqa: E501  a list of packages

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kind.__main__ import ON_FILES, STAGES

ROOT = Path(__file__).parents[1]
HEAVY = {"accelerate", "diffusers", "matplotlib", "numpy", "pandas", "peft", "PIL", "scipy", "sklearn", "torch", "transformers"}  # fmt: skip


def imported_by(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after this code."""
    code += "\nimport json, sys\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_planning_imports_nothing_heavy():
    """What the Snakefile imports, which every cluster job parses again."""
    code = (
        "from kind import recipes\nfrom kind.layout import Layout\nfrom kind.methods import METHODS\n"
        "from kind.params.file import load_experiments\nfrom kind.stages.check import missing\n"
        f"(found,) = load_experiments({str(ROOT / 'params' / 'smoke.yaml')!r}).values()\n"
        "missing(found)\n"
        "for run in found.runs(): recipes.recipe_digest(recipes.finetune(found, *run))\n"
    )
    assert imported_by(code).isdisjoint(HEAVY)


def test_the_package_by_itself_imports_nothing_heavy():
    assert imported_by(
        "import kind\nassert kind.__all__ == ['KindModel', 'UserError', 'combine', 'load']\nkind.UserError"
    ).isdisjoint(HEAVY)
    assert {"torch", "diffusers"} <= imported_by("import kind\nkind.load")


def test_the_help_of_every_stage_imports_nothing_heavy():
    """In one process: after the last help nothing heavy is there, so no stage imports it."""
    code = "from contextlib import redirect_stdout, suppress\nimport io\nfrom kind.__main__ import main\n"
    code += "".join(
        f"with suppress(SystemExit), redirect_stdout(io.StringIO()): main({arguments!r})\n"
        for arguments in ([], *([stage, "--help"] for stage in STAGES | ON_FILES))
    )
    imported = imported_by(code)
    assert imported.isdisjoint(HEAVY) and "kind" in imported


def test_the_overview_imports_not_even_pydantic():
    code = "from contextlib import redirect_stdout\nimport io\nfrom kind.__main__ import main\n"
    code += "with redirect_stdout(io.StringIO()): main(['--help'])"
    assert imported_by(code).isdisjoint(HEAVY | {"pydantic", "yaml"})


@pytest.mark.parametrize(
    "module, unwanted",
    [
        ("kind.artifacts", HEAVY | {"safetensors"}),
        ("kind.data.prepared", HEAVY),
        ("kind.data.decoding", HEAVY | {"pydantic"}),  # which every worker imports
        ("kind.params.file", HEAVY),
        ("kind.evaluation.features", HEAVY - {"numpy"}),
    ],
)
def test_a_module_defers_what_only_some_of_its_functions_need(module, unwanted):
    assert imported_by(f"import {module}").isdisjoint(unwanted)


def test_packages_are_hidden_only_while_diffusers_is_imported(monkeypatch):
    """A user of the library keeps a whole diffusers, and what was imported before stays."""
    from kind.diffusers_parts import _hidden, _is_command_line

    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with _hidden(("wave", "json")):
        with pytest.raises(ImportError):
            importlib.import_module("wave")
        assert importlib.import_module("json") is json
    assert "wave" not in sys.modules and importlib.import_module("wave").__name__ == "wave"
    assert sys.modules["json"] is json and not _is_command_line()
