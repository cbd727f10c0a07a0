"""Take the small experiment's KIND backbone apart, and see what each piece costs and draws.

    python examples/decompose_smoke.py [--classes 3 5] [--parameters 0.5] [--num-samples 200]

Needs a backbone: `make`, or only
    python -m kind prepare --experiment smoke --data digits
    python -m kind pretrain --experiment smoke --backbone kind
`accuracy` is the share of samples in which the judge sees the digit that was asked for.  The judge is a support vector
machine, fitted here to the real training images of all digits that the backbone knows; its accuracy on real test images
stands in the last line.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import kind
from kind.budget import summarise
from kind.data.prepared import load_split
from kind.errors import UserError
from kind.evaluation.judge import Judge, fit_judge


def line(name: str, model: kind.KindModel, judge: Judge, known: tuple[str, ...], num_samples: int) -> str:
    """Sizes of a model, and what the judge says of its samples."""
    started = time.perf_counter()
    images = model.sample(num_samples, guidance_scale=1.25, num_steps=12)
    seconds = time.perf_counter() - started
    asked = np.array([known.index(model.classes[label]) for label in model.labels(num_samples)])
    cost, accuracy = model.cost, judge.accuracy(images, asked)
    classes = ", ".join(model.classes)
    return (
        f"{name:<34}{cost['deployed']:>12,}{cost['active']:>12,}{cost['macs']:>12,}{accuracy:>10.3f}"
        f"{num_samples / seconds:>9.0f}  {classes}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results/smoke"), help="(default: %(default)s)")
    parser.add_argument("--classes", nargs="+", default=["3", "5"], help="digits to keep, of 0 to 6 (default: 3 5)")
    parser.add_argument("--parameters", type=float, default=0.5, help="share kept of them (default: %(default)s)")
    parser.add_argument("--num-samples", type=int, default=200, help="drawn of each model (default: %(default)s)")
    arguments = parser.parse_args()

    whole = kind.load(arguments.results / "backbones" / "kind")
    train, test = (
        load_split(arguments.results / "data" / "digits", split, whole.classes) for split in ("train", "test")
    )
    judge = fit_judge(train.images, train.labels, train.class_names)

    kept = whole.keep(arguments.classes)
    share = arguments.parameters
    small = kept.budget(parameters=share)
    raw = kept.budget(parameters=share, relative=False)
    print(f"{'model':<34}{'parameters':>12}{'active':>12}{'MACs':>12}{'accuracy':>10}{'im/s':>9}  classes")
    for name, model in (
        ("the whole backbone", whole),
        ("these classes", kept),
        (f"{share:.0%} of that, relative energies", small),
        (f"{share:.0%} of that, raw energies", raw),
    ):
        print(line(name, model, judge, whole.classes, arguments.num_samples), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        raw.export(Path(folder) / "small")
        again = kind.load(Path(folder) / "small")
        print(line("exported to diffusers and back", again, judge, whole.classes, arguments.num_samples))
    print(f"\n{'energy (means over matrices)':<34}{'kept':>12}{'lost':>12}{'most lost':>12}")
    for energies, model in (("relative", small), ("raw", raw)):
        for row in summarise(model.kept):
            name = "learngenes alone" if row.label is None else f"class {model.classes[row.label]}"
            print(f"{energies + ', ' + name:<34}{row.kept:>12.3f}{row.lost:>12.3f}{row.worst:>12.3f}")
    print(f"\nthe judge on real test images: {judge.accuracy(test.images, test.labels):.3f}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}")
