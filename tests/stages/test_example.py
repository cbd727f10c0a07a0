"""The example script on a finished tiny experiment."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "decompose_smoke.py"


def test_the_example_takes_a_backbone_apart(tiny, monkeypatch, capsys):
    chosen = ["--results", str(tiny.results), "--classes", "2", "0", "--parameters", "0.8", "--num-samples", "8"]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *chosen])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.endswith(("0, 1, 2", "2, 0"))]
    parameters = [int(row[34:46].replace(",", "")) for row in rows]
    assert len(rows) == 5 and parameters[0] > parameters[1] > parameters[2]
    assert all(count <= 0.8 * parameters[1] for count in parameters[2:])
