"""What a job pays before its work: CPU seconds of the imports of each kind of job, as a ratio to `import torch`.

    python benchmarks/startup.py [--repeats 3]

The pipeline runs many short jobs, so imports are a large part of the small experiment.  The last row is what they pay
on one machine, as forks of a process that has imported everything (kind/warm_start.py).
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from kind.warm_start import SOCKET

FLOOR = "import torch"
# `python -m kind` hides packages that diffusers imports but the project does not use; see kind/diffusers_parts.py.
CASES = {
    "import torch (floor)": FLOOR,
    "check, dry run: params": "import kind.params.file",
    "prepare": "import kind.data.prepared, numpy",
    "evaluate": "import torch, kind.evaluation.metrics, kind.evaluation.features",
    "peer: diffusers as it comes": "from diffusers import DiTTransformer2DModel, DPMSolverMultistepScheduler",
    "pretrain, finetune, sample": "LEAN; import kind.checkpoints, kind.sampling, kind.training",
    "the same with lora": "LEAN; import kind.checkpoints, kind.sampling, kind.training, peft",
}


def cpu_seconds(code: str, repeats: int) -> float:
    """Least user + system seconds of a fresh interpreter that runs the code."""
    code = code.replace(
        "LEAN;", "import sys; sys.modules['__main__'].__spec__ = type('Spec', (), {'name': 'kind.__main__'});"
    )
    return min(_spent([sys.executable, "-c", code]) for _ in range(repeats))


def warm_cpu_seconds(repeats: int) -> float:
    """Least of a command whose work a fork does; what the fork itself imports is nothing."""
    command = [sys.executable, "-m", "kind", "finetune", "--help"]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        with subprocess.Popen([sys.executable, "-m", "kind.warm_start", path], stdin=subprocess.PIPE):
            while not Path(path).exists():
                os.sched_yield()
            return min(_spent(command, {SOCKET: path}) for _ in range(repeats))


def _spent(command: list[str], variables: dict[str, str] | None = None) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=os.environ | (variables or {}), stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each case; the least counts (default: 3)")
    repeats = parser.parse_args().repeats
    floor = cpu_seconds(FLOOR, repeats)
    print(f"{'imports of':<30}{'CPU s':>8}{'x torch':>9}")
    for name, code in CASES.items():
        _row(name, floor if code == FLOOR else cpu_seconds(code, repeats), floor)
    _row("any of these, warm", warm_cpu_seconds(repeats), floor)


def _row(name: str, seconds: float, floor: float) -> None:
    print(f"{name:<30}{seconds:>8.2f}{seconds / floor:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
