"""Writes numbers of finished experiments into the README and docs/evidence.md, between marks that name them:

    python docs/fill.py            # or: make docs
    python docs/fill.py --check    # exit code 1 where a page and the results part

A mark is a comment of its own line, `<!-- fill: NAME ARGUMENTS -->`, and all up to `<!-- end -->` is written anew.  A
page whose experiment has no report yet keeps what it says.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from kind.reporting.labels import decimals_for, fixed, metric_label, short_count  # noqa: E402

PAGES = ("README.md", "docs/evidence.md")
MARK = re.compile(r"(<!-- fill: ([\w-]+) ([^\n]*?) ?-->\n)(.*?)(<!-- end -->)", re.DOTALL)
Rows = Sequence[Mapping[str, str]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; say which pages differ")
    check = parser.parse_args().check
    changed = [name for name in PAGES if (ROOT / name).read_text() != filled((ROOT / name).read_text())]
    for name in changed:
        if not check:
            (ROOT / name).write_text(filled((ROOT / name).read_text()))
        print(f"{name}: {'is not what the results say; run: make docs' if check else 'written'}")
    return int(check and bool(changed))


def filled(text: str) -> str:
    """The page with every marked part as the results have it."""

    def fresh(found: re.Match[str]) -> str:
        start, name, arguments, _, end = found.groups()
        if name not in PARTS:
            raise SystemExit(f"error: no part is called {name}; there are {', '.join(PARTS)}")
        return f"{start}{PARTS[name](*arguments.split())}{end}"

    return MARK.sub(fresh, text)


def report_of(experiment: str) -> Path:
    return ROOT / "results" / experiment / "report"


def rows_of(path: Path) -> Rows:
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


# --- parts ------------------------------------------------------------------------------------------------------


def headline(experiment: str) -> str:
    """A row a method: sizes, the primary metric on each task, and its ratio to KIND's over all tasks."""
    report = report_of(experiment)
    runs, against = rows_of(report / "metrics.csv"), rows_of(report / "summary" / "overall.csv")
    tasks = list(dict.fromkeys(run["task"] for run in runs))
    metric = {task: primary(runs, task) for task in tasks}
    base = next(run["method"] for run in runs if run["method"] not in {row["method"] for row in against})
    words = metric_label(metric[tasks[0]]).words
    ranked = [{"method": base}, *against]
    means = {(row["method"], task): values(runs, row["method"], task, metric[task]) for row in ranked for task in tasks}
    decimals = {
        task: decimals_for(statistics.fmean(means[row["method"], task]) for row in ranked if means[row["method"], task])
        for task in tasks
    }
    lines = [
        f"| method | trained | MACs | {' | '.join(f'{task} ↓' for task in tasks)} | ÷ {base} (95 %) |",
        f"|:--|--:|--:|{'--:|' * (len(tasks) + 1)}",
    ]
    for row in ranked:
        sizes = [short_count(mean_of(runs, row["method"], key)) for key in (TRAINED, MACS)]
        cells = [spread(means[row["method"], task], decimals[task]) for task in tasks]
        ratio = "1" if row["method"] == base else interval(row)
        lines.append(f"| {row['method']} | {' | '.join([*sizes, *cells, ratio])} |")
    seeds = len({run["seed"] for run in runs})
    return "\n".join(lines) + (
        f"\n\n*{words} (lower is better), mean ± sample deviation over {seeds} seeds; {metric[tasks[0]]} and the like. "
        f"Last column: ratio to {base}'s, paired by task and seed, with the interval of a bootstrap over tasks and "
        "seeds.*\n"
    )


def finding(experiment: str, table: str, base: str = "kind") -> str:
    """Which methods are apart from the base over all tasks."""
    against = rows_of(report_of(experiment) / "summary" / f"{table}.csv")
    sides: dict[str, list[str]] = {"better": [], "not apart": [], "worse": []}
    for row in against:
        low, high = (float(row[f"{end}.mean"]) for end in ("low", "high"))
        sides["better" if high < 1 else "worse" if low > 1 else "not apart"].append(f"{row['method']} {interval(row)}")
    said = {"better": f"Better than `{base}`", "not apart": "Not apart from it", "worse": "Worse"}
    return "".join(f"- {said[side]}: {'; '.join(names) or 'none'}.\n" for side, names in sides.items())


def table(experiment: str, name: str) -> str:
    """A table of the report as it stands in its Markdown, with its caption under it."""
    text = (report_of(experiment) / f"{name}.md").read_text().strip("\n")
    _, caption, body = text.split("\n\n", 2)
    return f"{body}\n\n{caption}\n"


def quality(experiment: str, task: str) -> str:
    """Means of the headline metrics, a row a method."""
    runs = [run for run in rows_of(report_of(experiment) / "metrics.csv") if run["task"] == task]
    names = [primary(runs, task)]
    for prefix in ("sfd", "sfid", "kd", "kid", "precision", "recall", "accuracy_svc"):
        names += [name for name in runs[0] if re.fullmatch(rf"{prefix}(_[a-z]\w*?)?(_\d\w*)", name)][:1]
    methods = list(dict.fromkeys(run["method"] for run in runs))
    found = {(method, name): values(runs, method, task, name) for method in methods for name in names}
    decimals = {name: decimals_for(statistics.fmean(found[method, name]) for method in methods) for name in names}
    lines = [
        f"| method | {' | '.join(metric_label(name).words for name in names)} |",
        f"|:--|{'--:|' * len(names)}",
        *(
            f"| {method} | {' | '.join(spread(found[method, name], decimals[name]) for name in names)} |"
            for method in methods
        ),
    ]
    return "\n".join(lines) + f"\n\n*{', '.join(names)}.*\n"


def copies(experiment: str) -> str:
    """The least and the most of the methods' means, task by task."""
    runs, lines = rows_of(report_of(experiment) / "metrics.csv"), []
    for task in dict.fromkeys(run["task"] for run in runs):
        of_task = [run for run in runs if run["task"] == task]
        key, methods = "memorisation_share_below_test_p5", dict.fromkeys(run["method"] for run in of_task)
        means = sorted((mean_of(of_task, method, key), method) for method in methods)
        (low, first), (high, last) = means[0], means[-1]
        own = next(mean for mean, method in means if method == "kind")
        lines.append(f"- {task}: from {low:.1%} ({first}) to {high:.1%} ({last}); kind {own:.1%}; real images 5 %.\n")
    return "".join(lines)


def facts(experiment: str) -> str:
    """How many runs, of what code, and what they took."""
    runs = rows_of(report_of(experiment) / "metrics.csv")
    code = ", ".join(sorted({run["git"] for run in runs}))
    hours = sum(float(run["cost_train_cpu_seconds"] or run["cost_train_seconds"]) for run in runs) / 3600
    python = ", ".join(sorted({run["python"] for run in runs}))
    methods, tasks, seeds = (len({run[key] for run in runs}) for key in ("method", "task", "seed"))
    return (
        f"{len(runs)} runs ({methods} methods, {tasks} tasks, {seeds} seeds), whose training took {hours:.1f} hours of "
        f"one core, without backbones, trials and samples; code {code}, Python {python}.\n"
    )


PARTS: Mapping[str, Callable[..., str]] = {
    "headline": headline,
    "finding": finding,
    "table": table,
    "facts": facts,
    "quality": quality,
    "copies": copies,
}

# --- numbers ----------------------------------------------------------------------------------------------------

TRAINED, MACS = "parameters_trainable", "parameters_deployed_macs"


def primary(runs: Rows, task: str) -> str:
    """The Fréchet distance that the task's runs have."""
    names = [name for name in runs[0] if re.match(r"(fid|fd)_", name)]
    return next(name for name in names if any(run[name] for run in runs if run["task"] == task))


def values(runs: Rows, method: str, task: str, name: str) -> list[float]:
    return [float(run[name]) for run in runs if (run["method"], run["task"]) == (method, task) and run[name]]


def mean_of(runs: Rows, method: str, name: str) -> float:
    return statistics.fmean(float(run[name]) for run in runs if run["method"] == method and run[name])


def spread(each: Sequence[float], decimals: int) -> str:
    if not each:
        return "–"
    deviation = f" ± {fixed(statistics.stdev(each), decimals)}" if len(each) > 1 else ""
    return f"{fixed(statistics.fmean(each), decimals)}{deviation}"


def interval(row: Mapping[str, str]) -> str:
    mean, low, high = (float(row[f"{key}.mean"]) for key in ("mean", "low", "high"))
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    sys.exit(main())
