"""What paired differences say of other tasks and seeds: a bootstrap on two levels, and Holm's rule."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

DRAWS = 10_000


@dataclass(frozen=True)
class Interval:
    """The mean over tasks of means over seeds, its 95 % percentile interval, and the two-sided p-value of a mean of 0.

    apart: whether the interval excludes 0.  task_low, task_high: Student's 95 % interval of the mean over the means of
    tasks, None for one task.  signs: on how many tasks the mean has the sign of the mean over all.
    """

    mean: float
    low: float
    high: float
    p: float
    task_low: float | None
    task_high: float | None
    signs: int

    @property
    def apart(self) -> bool:
        return self.low > 0 or self.high < 0


def hierarchical_bootstrap(cells: Sequence[Sequence[float]], draws: int = DRAWS, seed: int = 0) -> Interval:
    """Of differences, a sequence a task and in it one a seed: tasks are drawn with replacement, then seeds within each.

    p = 2 min(share of draws with a mean <= 0, share >= 0), each share with one added above and below, so that it is
    never 0 (Davison & Hinkley 1997, section 4.2).  Few tasks make the interval too short, and p too small: of T tasks
    all draws are the same one once in T^(T-1), 1 in 9 for three, so that where tasks differ more than seeds do it
    excludes 0 in a fifth of experiments in which nothing is different.  Student's interval over the means of tasks
    keeps its word there, and is wide.
    Raises ValueError for no task, and for a task without seeds.
    """
    if not cells or not all(len(values) for values in cells):
        raise ValueError("a bootstrap needs at least one task, and a value in each")
    import numpy as np  # the report's command line waits for nothing that it may not need

    random, count = np.random.default_rng(seed), len(cells)
    tasks = [np.asarray(values, dtype=np.float64) for values in cells]
    means = np.zeros(draws)
    for _ in range(count):
        drawn = random.integers(count, size=draws)
        each = np.stack([values[random.integers(len(values), size=(draws, len(values)))].mean(1) for values in tasks])
        means += each[drawn, np.arange(draws)] / count
    low, high = np.quantile(means, (0.025, 0.975))
    shares = [(1 + int(side.sum())) / (1 + draws) for side in (means <= 0, means >= 0)]
    of_tasks = [float(values.mean()) for values in tasks]
    mean = float(np.mean(of_tasks))
    ends = mean_interval(of_tasks) or (None, None)
    signs = sum(value * mean > 0 for value in of_tasks)
    return Interval(mean, float(low), float(high), min(1.0, 2 * min(shares)), *ends, signs)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number m (Holm 1979): (m - rank + 1) p, smallest first, never falling, at most 1."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def mean_interval(values: Sequence[float | None], share: float = 0.95) -> tuple[float, float] | None:
    """mean ± t sd / sqrt(n), Student's interval of the mean; None where one lacks, and for fewer than two."""
    from scipy.special import stdtrit

    if None in values or len(values) < 2:
        return None
    half = float(stdtrit(len(values) - 1, (1 + share) / 2)) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values) - half, statistics.fmean(values) + half
