"""Images per second of preparing files against plain loaders, and samples per second of the training reader against
what a training step eats.

    python benchmarks/data.py [--images 600] [--workers 2] [--repeats 3] [--quick]

Files are JPEGs of 500 x 375, about ImageNet's, cropped to 256 x 256; all ways crop alike and leave all pixels in an
array, `prepare` on disk and with checksums.  The forms take turns and the best of each counts; on a busy machine CPU
time says more than the clock.  Files are in the page cache: disks are not measured.  Workers import this file again, so
that what they do not need is imported where it is used.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from kind.data.prepared import StoredImages
from kind.images import centre_crop
from kind.spaces import PIXELS, Latents, Pixels

SIZE = 256
# What each model is trained on: side and channels of its images, batch, steps to time.  S/2 has as many tokens as with
# latents of 256 x 256 pixels, so that reading those is measured against it, too.
MODELS = {"tiny/2, 8 x 8 x 1": ("tiny/2", 8, 1, 64, 40), "S/2, 32 x 32 x 3": ("S/2", 32, 3, 8, 2)}
SPLIT = SimpleNamespace(train=0.8, validation=0.1, test=0.1, seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="40 images, once")
    options = parser.parse_args()
    if options.quick:
        options.images, options.repeats = 40, 1
    with tempfile.TemporaryDirectory() as folder:
        prepare_table(Path(folder), options)
        reader_table(Path(folder), options)


def prepare_table(folder: Path, options: argparse.Namespace) -> None:
    tree = make_files(folder / "files", options.images)
    forms: dict[str, Callable[[], None]] = {
        "plain PIL loop": lambda: plain_loop(tree, options.images),
        "prepare, 1 worker": lambda: prepare_once(tree, folder / "out", 1),
        f"torchvision ImageFolder, DataLoader, {options.workers} workers": lambda: loader(tree, options),
        f"prepare, {options.workers} workers": lambda: prepare_once(tree, folder / "out", options.workers),
    }
    best = dict.fromkeys(forms, (math.inf, math.inf))
    for _ in range(options.repeats):
        for name, form in forms.items():
            best[name] = tuple(map(min, best[name], seconds_of(form)))
    print(f"{options.images} JPEGs of 500 x 375 to {SIZE} x {SIZE}")
    print(f"{'':<56}{'images/s':>10}{'x PIL loop':>12}{'CPU ms/image':>14}")
    loop = best["plain PIL loop"][0]
    for name, (wall, cpu) in best.items():
        print(
            f"{name:<56}{options.images / wall:>10.1f}{loop / wall:>12.2f}{1e3 * cpu / options.images:>14.2f}",
            flush=True,
        )


def seconds_of(form: Callable[[], None]) -> tuple[float, float]:
    """By the clock, and of all CPUs, those of ended workers included."""
    before, started = os.times(), time.perf_counter()
    form()
    wall, after = time.perf_counter() - started, os.times()
    return wall, sum(after[:4]) - sum(before[:4])


def make_files(folder: Path, count: int) -> Path:
    """Smooth shapes under noise, so that the files are of about 100 kB as ImageNet's are."""
    draws = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(draws.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((500, 375))
        noise = draws.normal(0, 12, (375, 500, 3))
        path = folder / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return folder


def plain_loop(tree: Path, count: int) -> None:
    pixels = np.empty((count, SIZE, SIZE, 3), dtype=np.uint8)
    for row, path in enumerate(sorted(tree.rglob("*.jpg"))):
        with Image.open(path) as image:
            pixels[row] = centre_crop(image.convert("RGB"), SIZE)


def as_array(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(centre_crop(image, SIZE))


def loader(tree: Path, options: argparse.Namespace) -> None:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    pixels, row = np.empty((options.images, SIZE, SIZE, 3), dtype=np.uint8), 0
    for images, _ in DataLoader(ImageFolder(tree, transform=as_array), batch_size=32, num_workers=options.workers):
        pixels[row : row + len(images)] = images.numpy()
        row += len(images)


def prepare_once(tree: Path, out: Path, workers: int) -> None:
    from kind.data.preparing import prepare

    shutil.rmtree(out, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        prepare("folder", {"path": str(tree), "size": SIZE}, SPLIT, out, workers=workers)


# --- reading --------------------------------------------------------------------------------------------------


def reader_table(folder: Path, options: argparse.Namespace) -> None:
    print(f"\n{'':<34}{'read, samples/s':>18}{'trained, samples/s':>20}{'ratio':>8}")
    for name, (preset, side, channels, batch, steps) in MODELS.items():
        eaten = appetite(preset, side, channels, batch, steps, folder / "state.pt", options.repeats)
        sets = {name: (stored(folder, side, channels, options.images), PIXELS, False)}
        if channels > 1:
            sets[f"{preset}, reading {SIZE} x {SIZE} x 3"] = stored(folder, SIZE, 3, options.images), PIXELS, False
            latents, space = stored_latents(folder, options.images), Latents("", 0.18215)
            sets[f"{preset}, reading latents of them"] = latents, space, False
            sets[f"{preset}, the same and drawing"] = latents, space, True
        for shown, (images, space, drawn) in sets.items():
            read = reading(images, space, batch, 40, options.repeats, drawn)
            print(f"{shown:<34}{read:>18.0f}{eaten:>20.1f}{read / eaten:>8.0f}", flush=True)


def stored(folder: Path, side: int, channels: int, count: int) -> StoredImages:
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return on_disk(folder / f"{side}.npy", pixels)


def stored_latents(folder: Path, count: int) -> StoredImages:
    """Posteriors of both flips, as `encode` writes them."""
    return on_disk(folder / "latents.npy", np.random.default_rng(0).random((count, 2, 2, 4, 32, 32)).astype(np.float16))


def on_disk(path: Path, rows: np.ndarray) -> StoredImages:
    np.save(path, rows)
    return StoredImages(np.load(path, mmap_mode="r"), np.arange(len(rows)))


def reading(
    images: StoredImages, space: Pixels | Latents, batch: int, steps: int, repeats: int, drawn: bool = False
) -> float:
    """Samples per second of the reader alone, with nothing computed while it reads.

    drawn: with what a step makes of the rows before the model sees them: of latents a flip and a sample of the
    posterior.  In training that is part of the step and is not read ahead.
    """
    import torch

    from kind.random_streams import batch_indices
    from kind.read_ahead import ReadAhead

    ahead, best = ReadAhead(images, torch.device("cpu"), space), 0.0
    for repeat in range(repeats):
        chosen = [batch_indices(len(images), batch, repeat * steps + step, 0) for step in range(steps + 1)]
        started = time.perf_counter()
        for step, (now, then) in enumerate(zip(chosen, chosen[1:], strict=False)):
            rows = ahead.read(now, then)
            if drawn:
                space.seen(rows, repeat, step)
        best = max(best, batch * steps / (time.perf_counter() - started))
    return best


def appetite(preset: str, side: int, channels: int, batch: int, steps: int, state: Path, repeats: int) -> float:
    """Samples per second of the training loop of a dense model whose images are in memory."""
    import torch

    from kind.diffusion import Diffusion
    from kind.models.dit import DiT, DiTConfig
    from kind.models.presets import PRESETS
    from kind.params import Training
    from kind.training import Plan, train

    images = torch.randint(256, (64, channels, side, side), dtype=torch.uint8)
    labels, best = torch.zeros(64, dtype=torch.int64), 0.0
    for _ in range(repeats):
        model = DiT(DiTConfig(*PRESETS[preset], image_size=side, channels=channels, num_classes=2))
        settings = Training(steps=steps, batch_size=batch, learning_rate=1e-4)
        plan = Plan(settings, Diffusion("linear", "epsilon"), 1e-4, 0, "benchmark")
        with contextlib.redirect_stderr(io.StringIO()):
            cost = train(model, images, labels, plan, state, "benchmark").cost
        best = max(best, batch * steps / cost["train_seconds"])
    return best


if __name__ == "__main__":
    main()
