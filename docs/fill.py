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

from kind.artifacts import read_json  # noqa: E402
from kind.reporting.labels import decimals_for, fixed, metric_label, short_count  # noqa: E402

PAGES = ("README.md", "docs/evidence.md")
MARK = re.compile(r"(<!-- fill: ([\w-]+) ([^\n]*?) ?-->\n)(.*?)(<!-- end -->)", re.DOTALL)
Rows = Sequence[Mapping[str, str]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; say which pages differ")
    check = parser.parse_args().check
    pages = {name: filled((ROOT / name).read_text()) for name in PAGES}
    changed = {name: page for name, page in pages.items() if page != (ROOT / name).read_text()}
    for name, page in changed.items():
        if not check:
            (ROOT / name).write_text(page)
        print(f"{name}: {'is not what the results say; run: make docs' if check else 'written'}")
    return int(check and bool(changed))


def filled(text: str) -> str:
    """The page with every marked part as the results have it; as it was where an experiment has none."""

    def fresh(found: re.Match[str]) -> str:
        start, name, arguments, before, end = found.groups()
        if name not in PARTS:
            raise SystemExit(f"error: no part is called {name}; there are {', '.join(PARTS)}")
        given = arguments.split()
        there = (report_of(given[0]) / "metrics.csv").is_file()
        return f"{start}{PARTS[name](*given) if there else before}{end}"

    return MARK.sub(fresh, text)


def report_of(experiment: str) -> Path:
    return ROOT / "results" / experiment / "report"


def rows_of(path: Path) -> Rows:
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


# --- parts ------------------------------------------------------------------------------------------------------


def headline(experiment: str) -> str:
    """A row a method: sizes, the primary metric on each task, and its ratio to the base's over all tasks."""
    report = report_of(experiment)
    runs, against = rows_of(report / "metrics.csv"), read_json(report / "summary" / "overall.json")
    tasks, base = against["metrics"], against["base"]
    ranked = [base, *(one["method"] for one in against["standings"])]
    ratios = {one["method"]: interval(one) for one in against["standings"]} | {base: "1"}
    means = {(method, task): values(runs, method, task, name) for method in ranked for task, name in tasks.items()}
    decimals = {task: decimals_for(statistics.fmean(means[method, task]) for method in ranked) for task in tasks}
    heads = [*(f"{task} ↓" for task in tasks), f"{'÷' if against['ratio'] else '−'} {base} (95 %)"]
    lines = [f"| method | trained | MACs | {' | '.join(heads)} |", f"|:--|--:|--:|{'--:|' * len(heads)}"]
    floors = {task: real_value(report, task, name) for task, name in tasks.items()}
    if None not in floors.values():
        cells = [fixed(floors[task], decimals[task]) for task in tasks]
        lines.append(f"| *real images* | | | {' | '.join(cells)} | |")
    for method in ranked:
        sizes = [short_count(mean_of(runs, method, key)) for key in (TRAINED, MACS)]
        cells = [spread(means[method, task], decimals[task]) for task in tasks]
        lines.append(f"| {method} | {' | '.join([*sizes, *cells, ratios[method]])} |")
    name = next(iter(tasks.values()))
    return "\n".join(lines) + (
        f"\n\n*{metric_label(name).words}, {name}, mean ± sample deviation over {against['seeds']} seeds. Last column: "
        f"over all tasks, against {base}, paired by task and seed, with the interval of a bootstrap over tasks and "
        "seeds. Trained: with the label table, which every method trains. MACs: of one image's forward "
        "pass of the adapted model.*\n"
    )


def finding(experiment: str, comparison: str) -> str:
    """Which methods are apart from the base over all tasks."""
    against = read_json(report_of(experiment) / "summary" / f"{comparison}.json")
    said = {"better": f"Better than `{against['base']}`", "not apart": "Not apart from it", "worse": "Worse"}
    lines = []
    for side, words in said.items():
        names = [f"{one['method']} {interval(one)}" for one in against["standings"] if one["side"] == side]
        lines.append(f"- {words}: {'; '.join(names) or 'none'}.\n")
    return "".join(lines)


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


def curves(experiment: str) -> str:
    """The primary metric on the way: geometric means over tasks and seeds of the points that curves have alike."""
    report = report_of(experiment)
    against, points = read_json(report / "summary" / "overall.json"), rows_of(report / "curves.csv")
    alike = {}
    for task, metric in against["metrics"].items():
        names = [name for name in points[0] if name.startswith(f"{metric_label(metric).base}_")]
        alike[task] = max(names, key=lambda one: sum(bool(point[one]) for point in points if point["task"] == task))
    steps = sorted({int(point["step"]) for point in points})
    lines = [f"| method | {' | '.join(f'{step} steps' for step in steps)} |", f"|:--|{'--:|' * len(steps)}"]
    for method in [against["base"], *(one["method"] for one in against["standings"])]:
        cells = []
        for step in steps:
            own = [point for point in points if (point["method"], point["step"]) == (method, str(step))]
            each = [float(point[alike[point["task"]]]) for point in own if point["task"] in alike]
            cells.append(fixed(statistics.geometric_mean(each), 2))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    shown = ", ".join(dict.fromkeys(alike.values()))
    return "\n".join(lines) + f"\n\n*{shown}, geometric mean over tasks and seeds.*\n"


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


def table(experiment: str, name: str) -> str:
    """A table of the report as it stands in its Markdown, with its caption under it."""
    text = (report_of(experiment) / f"{name}.md").read_text().strip("\n")
    _, caption, body = text.split("\n\n", 2)
    return f"{body}\n\n{caption}\n"


def ablation(experiment: str, task: str, name: str) -> str:
    """An ablation's settings: the primary metric, its difference to the base, precision, recall and sizes."""
    path = report_of(experiment) / "tables" / f"{task}.ablation-{name}.csv"
    rows, (base,) = rows_of(path), re.findall(r" − ([^<|]+)<br>", path.with_suffix(".md").read_text())
    labels = [key for key in rows[0] if "." not in key]
    metric = next(key for key in rows[0] if key.endswith(".mean")).removesuffix(".mean")
    decimals = decimals_for(float(row[f"{metric}.mean"]) for row in rows if row[f"{metric}.mean"])
    others = [key for key in rows[0] if re.match(r"(precision|recall)\w*\.mean$", key)]
    heads = [metric_label(metric).words + " ↓", f"− {base} (95 %)"]
    heads += [metric_label(key.removesuffix(".mean")).words + " ↑" for key in others]
    heads += ["deployed", "MACs"]
    lines = [f"| {' | '.join([*labels, *heads])} |", f"|{':--|' * len(labels)}{'--:|' * len(heads)}"]
    for row in rows:

        def shown(key: str, places: int = decimals, row: Mapping[str, str] = row) -> str:
            return fixed(float(row[key]), places) if row[key] else "–"

        mean, deviation = (shown(f"{metric}.{of}") for of in ("mean", "std"))
        difference, low, high = (shown(f"{metric}.difference{end}.mean") for end in ("", "_low", "_high"))
        cells = [f"{mean} ± {deviation}", "" if row["entry"] == base else f"{difference} ({low} to {high})"]
        cells += [shown(key, 3) for key in others]
        cells += [short_count(float(row[f"{key}.mean"])) for key in ("deployed", "macs")]
        lines.append(f"| {' | '.join([*(row[key] for key in labels), *cells])} |")
    seeds = max(int(row[f"{metric}.n"]) for row in rows)
    return "\n".join(lines) + (
        f"\n\n*{metric}, mean ± sample deviation over {seeds} seeds; differences seed by seed, with Student's 95 % "
        "interval of their mean.*\n"
    )


def facts(experiment: str) -> str:
    """How many runs, of what code, and what they took."""
    runs = rows_of(report_of(experiment) / "metrics.csv")
    hours = sum(float(run["cost_train_cpu_seconds"] or run["cost_train_seconds"]) for run in runs) / 3600
    code, python = (", ".join(sorted({run[key] for run in runs})) for key in ("git", "python"))
    methods, tasks, seeds = (len({run[key] for run in runs}) for key in ("method", "task", "seed"))
    return (
        f"{len(runs)} runs: {methods} methods, {tasks} tasks, {seeds} seeds. Their training took {hours:.1f} hours of "
        f"one core, without backbones, trials, samples and measures. Code {code}, Python {python}.\n"
    )


def backbones(experiment: str) -> str:
    """What each pre-trained network holds and costs, by the formulas."""
    from kind.params.file import load_experiment
    from kind.planning.models import Models

    models = Models(load_experiment(ROOT / "params" / f"{experiment}.yaml"))
    lines = ["| backbone | pre-trained numbers | MACs of one image |", "|:--|--:|--:|"]
    for name, model in models.backbones.items():
        lines.append(f"| {name} | {short_count(model.trained)} | {short_count(model.cost.macs)} |")
    return "\n".join(lines) + "\n"


PARTS: Mapping[str, Callable[..., str]] = {
    "headline": headline,
    "finding": finding,
    "table": table,
    "ablation": ablation,
    "facts": facts,
    "quality": quality,
    "copies": copies,
    "curves": curves,
    "backbones": backbones,
}

# --- numbers ----------------------------------------------------------------------------------------------------

TRAINED, MACS = "parameters_trainable", "parameters_macs"


def primary(runs: Rows, task: str) -> str:
    """The Fréchet distance that the task's runs have."""
    names = [name for name in runs[0] if re.match(r"(fid|fd)_", name)]
    return next(name for name in names if any(run[name] for run in runs if run["task"] == task))


def real_value(report: Path, task: str, name: str) -> float | None:
    """What real images get in the table of bounds, where there is one."""
    path = report / "summary" / f"bounds_{task}.csv"
    rows = rows_of(path) if path.is_file() else []
    return next((float(row[f"{name}.mean"]) for row in rows if row["images of"].startswith("real ")), None)


def values(runs: Rows, method: str, task: str, name: str) -> list[float]:
    return [float(run[name]) for run in runs if (run["method"], run["task"]) == (method, task) and run[name]]


def mean_of(runs: Rows, method: str, name: str) -> float:
    return statistics.fmean(float(run[name]) for run in runs if run["method"] == method and run[name])


def spread(each: Sequence[float], decimals: int) -> str:
    if not each:
        return "–"
    deviation = f" ± {fixed(statistics.stdev(each), decimals)}" if len(each) > 1 else ""
    return f"{fixed(statistics.fmean(each), decimals)}{deviation}"


def interval(standing: Mapping[str, float]) -> str:
    return f"{standing['mean']:.2f} ({standing['low']:.2f} to {standing['high']:.2f})"


if __name__ == "__main__":
    sys.exit(main())
