"""Runs several `python -m kind ...` commands in one process, as the command line does, and prints what each left.

python run_commands.py '[["prepare", "--experiment", ...], ...]': one JSON line a command: exit code, and which of the
heavy packages were imported by then.
"""

from __future__ import annotations

import json
import runpy
import sys

HEAVY = (
    "accelerate", "diffusers", "matplotlib", "numpy", "pandas", "peft", "scipy", "sklearn", "torch", "torch_fidelity",
    "torchvision", "transformers",
)  # fmt: skip


def main() -> None:
    for arguments in json.loads(sys.argv[1]):
        sys.argv = ["kind", *arguments]
        try:
            runpy.run_module("kind", run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            code = stop.code
        print("\n" + json.dumps({"code": code, "imported": [n for n in HEAVY if sys.modules.get(n)]}), flush=True)


main()
