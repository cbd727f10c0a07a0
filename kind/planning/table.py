"""A plan as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kind.params.messages import some

NO_HOURS = "no hours without a throughput: --tflops X, or --measure for this machine's"
ASSUMED = (
    "a training step is worth three forward passes for each image of its batch; guidance is two forward passes a step",
    "trained parameters are without the label table, which every method trains; MACs are of one image's forward pass",
    "jobs of a run with nothing done; of data sets that only a limit is known of, the limit counts",
)


def lines(plan: Mapping[str, Any]) -> Iterator[str]:
    network, trials = plan["network"], plan["trials"]
    shape = network["shape"]
    yield (
        f"{plan['experiment']}: {plan['runs']} runs{f' and {trials} trials' if trials else ''}; DiT of depth "
        f"{shape['depth']}, width {shape['width']}, {network['tokens']} tokens of {network['channels']} x "
        f"{network['side']} x {network['side']}"
    )
    yield ""
    yield from _columns(["model", "classes", "trained", "deployed", "MACs", "tasks"], map(_model_row, plan["models"]))
    yield ""
    rated = plan["throughput"] is not None
    rows = [[rule, *_stage_cells(stage, rated)] for rule, stage in plan["stages"].items()]
    rows.append(["in all", *_stage_cells(total(plan), rated)])
    yield from _columns(["rule", "jobs", "MACs", *(["hours"] if rated else [])], rows)
    yield ""
    disk = {**plan["disk"], "in all": sum(plan["disk"].values())}
    yield from _columns(["disk", "bytes"], ([name, quantity(size)] for name, size in disk.items()))
    yield ""
    if rated:
        yield f"hours of: {plan['throughput']['device']}"
        yield from (f"- {note}" for note in plan["throughput"]["notes"])
    else:
        yield f"- {NO_HOURS}"
    yield from (f"- {note}" for note in ASSUMED)
    if plan["unknown_data"]:
        yield f"- not counted, as only the data can tell how many images there are: {some(plan['unknown_data'], '')}"


def totals(plans: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of several experiments."""
    rated = plans[0]["throughput"] is not None
    sums = [total(plan) for plan in plans]
    disk = [sum(plan["disk"].values()) for plan in plans]
    rows = [
        [plan["experiment"], *_stage_cells(one, rated), quantity(size)]
        for plan, one, size in zip(plans, sums, disk, strict=True)
    ]
    whole = {key: sum(one[key] for one in sums) for key in sums[0]}
    headings = ["experiment", "jobs", "MACs", *(["hours"] if rated else []), "disk"]
    yield from _columns(headings, [*rows, ["in all", *_stage_cells(whole, rated), quantity(sum(disk))]])


def total(plan: Mapping[str, Any]) -> dict[str, float]:
    """Over stages."""
    stages = list(plan["stages"].values())
    return {key: sum(stage[key] for stage in stages) for key in stages[0]}


def quantity(value: float | None) -> str:
    """1234567 as `1.23 M`."""
    if value is None:
        return "?"
    for size, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}" if value < 999.5 * size else f"{value / size:.0f} {letter}"
    return f"{value:.0f}"


def _model_row(model: Mapping[str, Any]) -> list[str]:
    numbers = [quantity(model[key]) for key in ("trained", "deployed", "macs")]
    return [model["name"], str(model["classes"]), *numbers, ", ".join(model["tasks"]) or "backbone"]


def _stage_cells(stage: Mapping[str, float], rated: bool) -> list[str]:
    hours = [f"{stage['hours']:.2f}" if stage["hours"] < 100 else f"{stage['hours']:,.0f}"] if rated else []
    return [str(stage["jobs"]), quantity(stage["macs"]), *hours]


def _columns(headings: Sequence[str], rows: Any) -> Iterator[str]:
    """The first column and a last one of names to the left, numbers to the right."""
    table = [list(headings), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
    for row in table:
        cells = [
            cell.ljust(width) if column == 0 or headings[column] == "tasks" else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
