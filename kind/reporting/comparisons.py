"""Which tables a report has: quality, cost and memorisation of a task, and one primary metric over all tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kind.errors import UserError
from kind.reporting.labels import matches, metric_label, plain
from kind.reporting.runs import RunRecord, flatten, number
from kind.reporting.tables import Column, Table, build_table, with_note

INDICATIVE = (
    "† indicative only: not more images than feature dimensions plus one, so the covariance is not of full rank; the "
    "kernel distance is not moved by counts."
)
INDICATIVE_ONLY = "; indicative only"  # behind a metric's exact name, where there is no room for more
HEADLINE = ("fid", "fd", "sfid", "sfd", "precision", "recall", "accuracy_svc")


def select(runs: Iterable[RunRecord], **wanted: Any) -> list[RunRecord]:
    """The runs of a `task`, `method` or `seed`."""
    return [run for run in runs if all(getattr(run, key) == value for key, value in wanted.items())]


def metric_names(runs: Iterable[RunRecord]) -> dict[str, str | None]:
    """Metric name -> direction, in order of first appearance."""
    names: dict[str, str | None] = {}
    for run in runs:
        directions = run.part("directions")
        for name in run.values:
            names[name] = names.get(name) or directions.get(name)
    return names


def indicative(runs: Iterable[RunRecord]) -> set[str]:
    """Names of the metrics whose values say more about counts than about images, at any step."""
    return {name for run in runs for name in run.indicative}


def exact_name(metric: str, runs: Sequence[RunRecord]) -> str:
    """As it stands under a plot's title."""
    return metric + (INDICATIVE_ONLY if metric in indicative(runs) else "")


def marked(name: str, runs: Iterable[RunRecord]) -> str:
    """A metric's words, with a dagger where it is indicative only."""
    return metric_label(name).words + (" †" if name in indicative(runs) else "")


def with_mark_explained(table: Table, runs: Iterable[RunRecord]) -> Table:
    """With a note where one of its columns is marked."""
    names = indicative(runs)
    return with_note(table, INDICATIVE if any(column.name in names for column in table.columns) else None)


def curve_metric(runs: Iterable[RunRecord], base: str) -> str | None:
    """The name that most curve points have this metric under: they may use fewer samples than the final table."""
    names = [name for run in runs for values in run.curve.values() for name in values]
    counts = Counter(name for name in names if metric_label(name).base == base)
    return max(counts, key=counts.__getitem__) if counts else None


def headline_metrics(runs: Iterable[RunRecord], headline: Sequence[str]) -> list[str]:
    """The runs' metrics that `headline` asks for, in its order; the first is the primary one."""
    names = metric_names(runs)
    found = list(dict.fromkeys(name for prefix in headline for name in names if matches(name, prefix)))
    if not found:
        raise UserError(f"no metric is a headline metric ({', '.join(headline)}); the runs have {', '.join(names)}")
    return found


def seeds_phrase(seeds: Sequence[int]) -> str:
    listed = ", ".join(map(str, seeds))
    if len(seeds) == 1:
        return f"One seed ({listed}), hence no spread."
    return f"Mean ± sample standard deviation over {len(seeds)} seeds ({listed})."


def protocol_phrase(protocol: Mapping[str, Any]) -> str:
    """The protocol in a line, from the fields that are there."""
    flat = flatten(protocol)
    leaf = {key.rpartition(".")[2]: value for key, value in reversed(flat.items())}
    sampler = [str(leaf["sampler"]).upper()] if "sampler" in leaf else []
    if "num_inference_steps" in leaf:
        sampler.append(f"{leaf['num_inference_steps']} steps")
    if "guidance_scale" in leaf:
        guided = str(leaf.get("guided_channels", "")).replace("_", " ")
        sampler.append(f"guidance {plain(leaf['guidance_scale'])}" + (f" on {guided} channels" if guided else ""))
    phrase = f"{leaf['num_samples']} samples a run" if "num_samples" in leaf else "Samples"
    phrase += f" ({', '.join(sampler)})" if sampler else ""
    if "num_reference" in leaf or "reference" in leaf:
        words = (plain(leaf.get("num_reference") or "all"), "real", plain(leaf.get("reference") or ""), "images")
        phrase += f" against {' '.join(filter(None, words))}"
    extractor = flat.get("extractor.name", flat.get("evaluation.extractor.name", leaf.get("extractor")))
    return phrase + (f"; features from “{extractor}”." if extractor else ".")


def measured_how(runs: Sequence[RunRecord]) -> str:
    """The protocol of a task's runs in a line, and which methods are sampled at a guidance scale of their own."""
    own = {run.method: scale for run in runs if (scale := number(run.metrics.get("guidance_scale"))) is not None}
    listed = ", ".join(f"{method} {scale:g}" for method, scale in own.items())
    return protocol_phrase(runs[0].protocol) + (f" Guidance of their own: {listed}." if own else "")


def quality_table(task: str, runs: Sequence[RunRecord], methods: Iterable[str], seeds: Sequence[int]) -> Table:
    """Methods by metrics; `runs` are one task's, hence of one protocol."""
    sizes = {key: [run.part("parameters").get(key) for run in runs] for key in ("trainable", "deployed")}
    size = "trainable" if any(sizes["trainable"]) or not any(sizes["deployed"]) else "deployed"
    columns = [Column(size, f"{size.capitalize()} parameters", exact=True)]
    for name, direction in metric_names(runs).items():
        unit, divide_by = _small_unit([run.values.get(name) for run in runs]) if direction == "lower" else ("", 1.0)
        columns.append(Column(name, marked(name, runs), name, direction, unit=unit, divide_by=divide_by))
    rows = []
    for method in methods:
        chosen = select(runs, method=method)
        values = {name: [run.values.get(name) for run in chosen] for name in metric_names(runs)}
        values[size] = [run.part("parameters").get(size) for run in chosen]
        rows.append(((method,), method, values))
    caption = f"{seeds_phrase(seeds)} {measured_how(runs)} Bold: best mean of a column."
    table = build_table(f"Quality on {task}", ("Method",), columns, rows, caption)
    return with_mark_explained(table, runs)


def overview_table(
    runs: Sequence[RunRecord],
    tasks: Iterable[str],
    methods: Iterable[str],
    seeds: Sequence[int],
    headline: Sequence[str],
) -> Table:
    """Methods by tasks, the primary metric of each."""
    columns, primary = [], {}
    for task in tasks:
        chosen = select(runs, task=task)
        primary[task] = headline_metrics(chosen, headline)[0]
        words = task + (" †" if primary[task] in indicative(chosen) else "")
        columns.append(Column(task, words, primary[task], metric_names(chosen)[primary[task]]))
    rows = [
        ((method,), method, {
            task: [run.values.get(name) for run in select(runs, task=task, method=method)] or None
            for task, name in primary.items()
        })
        for method in methods
    ]  # fmt: skip
    words = " / ".join(dict.fromkeys(metric_label(name).words for name in primary.values()))
    caption = f"{seeds_phrase(seeds)} Bold: best mean of a column. Compare within a column, not across tasks."
    table = build_table(f"{words} on every task", ("Method",), columns, rows, caption)
    return with_mark_explained(table, runs)


# key -> words, whether it is an exact count, where it stands
COSTS: dict[str, tuple[str, bool, Callable[[RunRecord], Mapping[str, Any]]]] = {
    "trainable": ("Trainable parameters", True, lambda run: run.part("parameters")),
    "trainable_label_table": ("of which label table", True, lambda run: run.part("parameters")),
    "deployed": ("Deployed parameters", True, lambda run: run.part("parameters")),
    "macs": ("MACs", True, lambda run: run.part("parameters")),
    "train_seconds": ("Training time", False, lambda run: run.cost),
    "train_cpu_seconds": ("CPU time", False, lambda run: run.cost),
    "peak_memory_bytes": ("Peak memory", False, lambda run: run.cost),
}


def cost_columns(runs: Sequence[RunRecord], keys: Iterable[str] = COSTS) -> list[Column]:
    """Those of `COSTS`, without what these runs never measured."""
    columns = []
    for key in keys:
        words, exact, place = COSTS[key]
        sizes = [value for run in runs if (value := number(place(run).get(key))) is not None]
        if not sizes and key == "train_cpu_seconds":
            continue
        unit, divide_by = _unit(key, max(sizes, default=0.0))
        columns.append(Column(key, words, exact=exact, unit=unit, divide_by=divide_by))
    return columns


def cost_values(runs: Sequence[RunRecord], keys: Iterable[str] = COSTS) -> dict[str, list[Any]]:
    """A value a run."""
    return {key: [COSTS[key][2](run).get(key) for run in runs] for key in keys}


def is_known(runs: Sequence[RunRecord], key: str) -> bool:
    """Whether any of the runs measured this one of `COSTS`."""
    return any(number(value) is not None for value in cost_values(runs, [key])[key])


def cost_table(
    title: str, runs: Sequence[RunRecord], methods: Iterable[str], seeds: Sequence[int], by_task: bool
) -> Table:
    """What each method costs; `by_task` for all tasks in one table."""
    columns = cost_columns(runs)
    rows = []
    for task in dict.fromkeys(run.task for run in runs):
        for method in methods:
            chosen = select(runs, task=task, method=method)
            if chosen:
                rows.append(((task, method) if by_task else (method,), method, cost_values(chosen)))
    devices = ", ".join(dict.fromkeys(str(run.cost.get("device", "unknown")) for run in runs))
    steps = ", ".join(dict.fromkeys(f"{run.final_step:,}" for run in runs if run.final_step))
    trained = {run.task for run in runs if run.final_step}
    idle = [task for task in dict.fromkeys(run.task for run in runs) if task not in trained]
    what = f"Training of {steps} steps" if steps else "Nothing is trained: times and memory are of making the model,"
    rest = (
        f" On {', '.join(idle)} nothing is trained: times and memory are of making the model." if steps and idle else ""
    )
    caption = (
        f"{seeds_phrase(seeds)} {what} on: {devices}.{rest} Deployed parameters and MACs are of the adapted "
        "model, with what is merged merged: MACs, multiply-accumulates of one forward pass for one image, of a gated "
        "model with its active components. Memory is the GPU's, or on a CPU the whole "
        "process's, libraries included. Times add up over resumes and depend on the machine and its load. Nothing here "
        "is ranked."
    )
    return build_table(title, ("Task", "Method") if by_task else ("Method",), columns, rows, caption)


def _unit(key: str, largest: float) -> tuple[str, float]:
    if key.endswith("_seconds"):
        return ("s", 1.0) if largest < 600 else ("min", 60.0) if largest < 3 * 3600 else ("h", 3600.0)
    if key.endswith("_bytes"):
        return ("MB", 1e6) if largest < 1e9 else ("GB", 1e9)
    return "", 1.0


def _small_unit(values: Iterable[Any]) -> tuple[str, float]:
    """Kernel distances are read in thousandths."""
    sizes = sorted(abs(value) for value in map(number, values) if value)
    return ("10⁻³", 1e-3) if sizes and sizes[len(sizes) // 2] < 0.1 else ("", 1.0)


# `memorisation_report` of the evaluation says what they are.
_SHARES = {"share_below_test_p5": "Nearer than 95 % of real images", "share_copies": "Exact copies"}


def memorisation_table(
    title: str, runs: Sequence[RunRecord], methods: Iterable[str], seeds: Sequence[int], by_task: bool
) -> Table | None:
    """Distance to the nearest training image: of samples, a row a method, and of real test images on top."""
    keys = dict.fromkeys(key for run in runs for key in flatten(run.part("memorisation")))
    shared = [key[7:] for key in keys if key.startswith("sample_") and f"test_{key[7:]}" in keys]
    if not shared:
        return None
    columns = [Column(key, _statistic(key)) for key in shared]
    columns += [Column(f"{key}_ratio", f"{_statistic(key)}, samples ÷ real") for key in shared]
    shares = {key: words for key, words in _SHARES.items() if key in keys}
    columns += [Column(key, words) for key, words in shares.items()]
    rows = []
    for task in dict.fromkeys(run.task for run in runs):
        of_task, lead = select(runs, task=task), (task,) if by_task else ()
        real = {key: _agreed([run.part("memorisation").get(f"test_{key}") for run in of_task]) for key in shared}
        rows.append(((*lead, "real test images"), None, real | {f"{key}_ratio": 1.0 for key in shared}))
        for method in dict.fromkeys(run.method for run in of_task):
            values: dict[str, list[float | None]] = {}
            for run in select(of_task, method=method):
                found = run.part("memorisation")
                for key in shared:
                    sample, test = number(found.get(f"sample_{key}")), number(found.get(f"test_{key}"))
                    values.setdefault(key, []).append(sample)
                    values.setdefault(f"{key}_ratio", []).append(sample / test if sample is not None and test else None)
                for key in shares:
                    values.setdefault(key, []).append(number(found.get(key)))
            rows.append(((*lead, method), method, values))
    caption = (
        f"{seeds_phrase(seeds)} Distance to the nearest training image of the task. Samples that lie far closer to "
        "the training images than unseen real images do (a ratio well below 1, or far more than 5 % of samples nearer "
        "than 95 % of real images) are copies. Shares are of all samples."
    )
    return build_table(title, ("Task", "Images of") if by_task else ("Images of",), columns, rows, caption)


def _agreed(values: list[Any]) -> list[Any] | float:
    """The one number that all runs measured on the same real images; the list itself if they differ."""
    return float(values[0]) if number(values[0]) is not None and len(set(values)) == 1 else values


def _statistic(key: str) -> str:
    if key[:1] == "p" and key[1:].isdigit():
        return f"{int(key[1:])}th percentile"
    return key.replace("_", " ").capitalize()
