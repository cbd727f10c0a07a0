"""Metrics beside scipy's sqrtm, torch-fidelity and plain in-memory forms: seconds, peak memory and difference.

    python benchmarks/evaluation.py [--dimensions 2048] [--count 50000] [--plain-count 5000] [--quick]

Every form runs in a process of its own, which makes its features, float32, before the clock starts.  peak: the most
that the process ever held, interpreter and features included.  Forms of one table take turns; the least time counts.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kind.evaluation.frechet import StreamingStatistics, frechet_distance, gaussian_statistics
from kind.evaluation.inception_score import inception_score
from kind.evaluation.kernel_distance import kernel_distance, kernel_distance_interval
from kind.evaluation.precision_recall import NEIGHBOURS, precision_recall

SAMPLES, REFERENCE = 0, 1
BATCH = 500  # images whose features come at once
SPATIAL = 2023  # numbers of sFID
CLASSES = 1008
OF_CLASS, OF_CLASS_REFERENCE = 50, 1300  # images
LATENT = 32
MIB = 2**20
TABLES = ("frechet", "class", "statistics", "score", "shares", "kernel", "many-shares", "many-kernel")


class Measured(NamedTuple):
    seconds: float
    cpu: float
    peak: int
    value: Any


class Clock:
    seconds = cpu = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        seconds, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - seconds
        self.cpu += time.process_time() - cpu


Form = Callable[[Clock, int, int], Any]  # of count and dimensions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, default=2048, help="of a feature (default: %(default)s)")
    parser.add_argument("--count", type=int, default=50_000, help="images in each set (default: %(default)s)")
    parser.add_argument("--plain-count", type=int, default=5000, help="for plain forms (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=2, help="turns of small sizes (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="128 dimensions, 2,000 and 500 images, one turn")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES, metavar="TABLE", help="of %(choices)s")
    given = parser.parse_args()
    if given.quick:
        given.dimensions, given.count, given.plain_count, given.repeats = 128, 2000, 500, 1
    for name, table in tables(given.dimensions, given.count, given.plain_count, given.repeats).items():
        if name in given.only:
            show(*table)


def tables(dim: int, many: int, few: int, turns: int) -> dict[str, tuple]:
    """What `show` is given, by the table's name."""
    kernels = {"ours": kernel_ours, "ours, interval": interval_ours, "torch-fidelity": kernel_torch_fidelity}
    shares = {"ours": shares_ours, "plain numpy": shares_plain, "torch-fidelity": shares_torch_fidelity}
    return {
        "frechet": (
            f"Fréchet distance, {dim} dimensions",
            {"ours": frechet_ours, "scipy sqrtm": frechet_sqrtm, "torch-fidelity": frechet_torch_fidelity},
            5 * dim, dim, turns,
        ),
        "class": (
            f"one class: {OF_CLASS} against {OF_CLASS_REFERENCE} images",
            {"of features": class_features, "of statistics": class_statistics},
            OF_CLASS, dim, turns,
        ),
        "statistics": (
            f"statistics of {many:,} x ({dim} + {SPATIAL})",
            {"ours, streamed": statistics_ours, "np.cov": statistics_plain},
            many, dim, 1,
        ),
        "score": (
            f"Inception Score of one part, {few:,}",
            {"ours": score_ours, "torch-fidelity": score_torch_fidelity},
            few, CLASSES, turns,
        ),
        "shares": (f"precision and recall, {few:,} against {few:,}", shares, few, dim, turns),
        "kernel": (f"kernel distance, {few:,} against {few:,}", kernels, few, dim, turns),
        "many-shares": (f"precision and recall, {many:,} against {many:,}", {"ours": shares_ours}, many, dim, 1),
        "many-kernel": (f"kernel distance, {many:,} against {many:,}", {"interval": interval_ours}, many, dim, 1),
    }  # fmt: skip


# --- measuring ------------------------------------------------------------------------------------------------------


def show(title: str, forms: dict[str, Form], count: int, dim: int, repeats: int) -> None:
    """Prints a table; ratio and difference, relative to the largest number, are to the first form."""
    turns = [[measure(form, count, dim) for form in forms.values()] for _ in range(repeats)]
    print(f"\n| {title} | s | x first | CPU s | peak, MiB | value | difference |\n|---|--:|--:|--:|--:|--:|--:|")
    least = [min(column, key=lambda one: one.seconds) for column in zip(*turns, strict=True)]
    first = least[0]
    for name, one in zip(forms, least, strict=True):
        difference = np.abs(np.subtract(one.value, first.value)).max() / np.abs(first.value).max()
        print(
            f"| {name} | {one.seconds:.3f} | {one.seconds / first.seconds:.2f} | {one.cpu:.3f} | "
            f"{one.peak / MIB:.0f} | {np.ravel(one.value)[0]:.6g} | {difference:.1e} |",
            flush=True,
        )


def measure(form: Form, count: int, dim: int) -> Measured:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(form, count, dim, theirs))
    process.start()
    theirs.close()
    measured = ours.recv()
    process.join()
    return measured


def work(form: Form, count: int, dim: int, answer: Connection) -> None:
    """The process of one form."""
    clock = Clock()
    value = form(clock, count, dim)
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    answer.send(Measured(clock.seconds, clock.cpu, peak, value))


# --- features -------------------------------------------------------------------------------------------------------


@functools.cache
def mixing(dim: int) -> np.ndarray:
    return np.random.default_rng(dim).normal(size=(LATENT, dim)).astype(np.float32) / np.float32(LATENT**0.5)


def batches(which: int, count: int, dim: int) -> Iterator[np.ndarray]:
    """Features as a network makes them: not negative, of a few causes and some noise; the two sets differ a little."""
    for start in range(0, count, BATCH):
        generator = np.random.default_rng([which, start])
        rows = min(BATCH, count - start)
        latent = generator.standard_normal((rows, LATENT), np.float32) * (0.9 + 0.1 * which) + 0.1 * which
        noise = generator.standard_normal((rows, dim), np.float32)
        yield np.maximum(latent.astype(np.float32) @ mixing(dim) + 0.3 * noise, 0.0, dtype=np.float32)


def features(which: int, count: int, dim: int) -> np.ndarray:
    whole, filled = np.empty((count, dim), np.float32), 0
    for batch in batches(which, count, dim):
        whole[filled : filled + len(batch)] = batch
        filled += len(batch)
    return whole


def both(count: int, dim: int) -> list[np.ndarray]:
    return [features(which, count, dim) for which in (SAMPLES, REFERENCE)]


# --- forms ----------------------------------------------------------------------------------------------------------


def frechet_ours(clock: Clock, count: int, dim: int) -> float:
    a, b = (gaussian_statistics(one) for one in both(count, dim))
    with clock.running():
        return frechet_distance(a, b)


def frechet_sqrtm(clock: Clock, count: int, dim: int) -> float:
    from scipy.linalg import sqrtm

    a, b = (gaussian_statistics(one) for one in both(count, dim))
    with clock.running():
        traces = np.trace(a.sigma) + np.trace(b.sigma) - 2 * np.trace(sqrtm(a.sigma @ b.sigma).real)
        return float(np.sum((a.mu - b.mu) ** 2) + traces)


def frechet_torch_fidelity(clock: Clock, count: int, dim: int) -> float:
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    a, b = (gaussian_statistics(one) for one in both(count, dim))
    with clock.running():
        return fid_statistics_to_metric(a._asdict(), b._asdict(), verbose=False)[KEY_METRIC_FID]


def of_class(count: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    return features(SAMPLES, count, dim), features(REFERENCE, OF_CLASS_REFERENCE, dim)


def class_features(clock: Clock, count: int, dim: int) -> float:
    samples, reference = of_class(count, dim)
    with clock.running():
        return frechet_distance(samples, reference)


def class_statistics(clock: Clock, count: int, dim: int) -> float:
    a, b = (gaussian_statistics(one) for one in of_class(count, dim))
    with clock.running():
        return frechet_distance(a, b)


def statistics_ours(clock: Clock, count: int, dim: int) -> np.ndarray:
    pooled, spatial = StreamingStatistics(), StreamingStatistics()
    for batch in zip(batches(SAMPLES, count, dim), batches(SAMPLES, count, SPATIAL), strict=True):
        with clock.running():
            pooled.update(batch[0])
            spatial.update(batch[1])
    with clock.running():
        results = pooled.result(), spatial.result()
    return results[0].sigma


def statistics_plain(clock: Clock, count: int, dim: int) -> np.ndarray:
    pooled, spatial = features(SAMPLES, count, dim), features(SAMPLES, count, SPATIAL)
    with clock.running():
        results = [(one.mean(axis=0), np.cov(one, rowvar=False)) for one in (pooled, spatial)]
    return results[0][1]


def shares_ours(clock: Clock, count: int, dim: int) -> tuple[float, float]:
    samples, reference = both(count, dim)
    with clock.running():
        return tuple(precision_recall(samples, reference))


def shares_plain(clock: Clock, count: int, dim: int) -> tuple[float, float]:
    sets = [one.astype(np.float64) for one in both(count, dim)]
    with clock.running():
        cross = plain_squares(*sets)
        radii = [np.partition(plain_squares(one, one), NEIGHBOURS, axis=1)[:, NEIGHBOURS] for one in sets]
        return (cross <= radii[1]).any(axis=1).mean(), (cross <= radii[0][:, None]).any(axis=0).mean()


def plain_squares(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.maximum((first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T, 0)


def shares_torch_fidelity(clock: Clock, count: int, dim: int) -> tuple[float, float]:
    import torch
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    samples, reference = (torch.from_numpy(one) for one in both(count, dim))
    with clock.running():
        return calculate_precision_recall_full(samples, reference)


def kernel_ours(clock: Clock, count: int, dim: int) -> float:
    samples, reference = both(count, dim)
    with clock.running():
        return kernel_distance(samples, reference)


def interval_ours(clock: Clock, count: int, dim: int) -> float:
    samples, reference = both(count, dim)
    with clock.running():
        return kernel_distance_interval(samples, reference).value


def kernel_torch_fidelity(clock: Clock, count: int, dim: int) -> float:
    from torch_fidelity.metric_kid import kernel_mmd

    settings = {"kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1}
    samples, reference = (one.astype(np.float64) for one in both(count, dim))
    with clock.running():
        return kernel_mmd(samples, reference, kid_kernel="poly", **settings)


def score_ours(clock: Clock, count: int, dim: int) -> float:
    logits = features(SAMPLES, count, dim)
    with clock.running():
        return inception_score(logits, count)


def score_torch_fidelity(clock: Clock, count: int, dim: int) -> float:
    import torch
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

    logits = torch.from_numpy(features(SAMPLES, count, dim))
    with clock.running():
        return isc_features_to_metric(logits, splits=1)[KEY_METRIC_ISC_MEAN]


if __name__ == "__main__":
    main()
