"""Methods against one over all tasks: the bootstrap against all draws, Holm's rule against closed testing."""

import csv
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import synthetic_experiment as synthetic

from kind.params.ablations import Settings
from kind.reporting.overall import as_json, finding, overall_section
from kind.reporting.paired import after_equal_time, at_the_end, compare, value_at
from kind.reporting.report import write_report
from kind.reporting.resampling import hierarchical_bootstrap, holm
from kind.reporting.runs import RunRecord


def every_draw(cells):
    """The means of all orders of tasks and seeds within them, each as likely as any other."""
    of_task = [[np.mean(drawn) for drawn in itertools.product(values, repeat=len(values))] for values in cells]
    means = []
    for tasks in itertools.product(range(len(cells)), repeat=len(cells)):
        means += [np.mean(each) for each in itertools.product(*(of_task[task] for task in tasks))]
    return np.array(means)


def test_the_bootstrap_is_that_of_all_draws():
    cells = [[0.3, 0.9], [-0.4, 0.5], [1.1, 1.6]]
    found, every = hierarchical_bootstrap(cells, draws=200_000), every_draw(cells)
    assert found.mean == pytest.approx(np.mean(cells), rel=1e-12)
    assert np.allclose((found.low, found.high), np.quantile(every, (0.025, 0.975)), atol=0.02)
    assert found.p == pytest.approx(2 * min(np.mean(every <= 0), np.mean(every >= 0)), abs=0.003)


def test_tasks_weigh_alike_whatever_their_seeds():
    found = hierarchical_bootstrap([[1.0] * 8, [3.0]], draws=20_000)
    assert found.mean == 2.0
    assert (found.low, found.high) == (1.0, 3.0)  # one of the tasks twice: a quarter of draws each
    assert hierarchical_bootstrap([[1.0] * 8, [3.0]], draws=20_000) == found


def test_tasks_are_drawn_not_only_seeds():
    """Seeds agree, tasks do not: what varies is the choice of tasks."""
    found = hierarchical_bootstrap([[-1.0, -1.0, -1.0], [2.0, 2.0, 2.0]])
    assert (found.low, found.high) == (-1.0, 2.0)
    assert not found.apart
    # Student's over the two means: 0.5 +- 12.706 * 2.1213 / sqrt(2)
    assert (found.task_low, found.task_high) == pytest.approx((0.5 - 19.059, 0.5 + 19.059), abs=1e-3)
    assert found.signs == 1


def test_a_difference_without_exception_has_the_smallest_p_there_is():
    found = hierarchical_bootstrap([[0.5, 0.5], [0.5, 0.5]], draws=999)
    assert (found.mean, found.low, found.high, found.p) == (0.5, 0.5, 0.5, pytest.approx(2 / 1000))
    assert found.apart
    with pytest.raises(ValueError, match="at least one task"):
        hierarchical_bootstrap([])
    with pytest.raises(ValueError, match="a value in each"):
        hierarchical_bootstrap([[1.0], []])


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.005], [0.5, 0.6], [0.02], [0.03, 0.03, 0.001], []])
def test_holm_is_closed_testing_with_bonferroni(p_values):
    """Adjusted: the largest of min(1, |S| min p) over all sets S of hypotheses that hold this one."""
    places = range(len(p_values))
    sets = [each for size in places for each in itertools.combinations(places, size + 1)]
    wanted = [
        max(min(1.0, len(each) * min(p_values[one] for one in each)) for each in sets if place in each)
        for place in places
    ]
    assert holm(p_values) == pytest.approx(wanted)


def run(task, method, seed, value, seconds=10.0, curve=None):
    steps = {str(step): {"values": {"fd_x_50_vs_9": one}} for step, one in (curve or {100: value}).items()}
    metrics = {
        "format": 1, "protocol": {}, "protocol_hash": "0", "final_step": 100, "values": {"fd_x_90_vs_9": value},
        "directions": {"fd_x_90_vs_9": "lower"}, "steps": steps, "parameters": {"trainable": 5, "macs": 7},
    }  # fmt: skip
    cost = {"device": "cpu", "train_seconds": 3 * seconds, "train_cpu_seconds": seconds}
    return RunRecord(task, method, seed, Path(), Path(), metrics, cost)


def test_distances_are_compared_by_their_ratio_seed_by_seed():
    runs = [
        run("a", "kind", 0, 10.0), run("a", "kind", 1, 20.0), run("b", "kind", 0, 1.0), run("b", "kind", 1, 2.0),
        run("a", "full", 0, 20.0), run("a", "full", 1, 40.0), run("b", "full", 0, 3.0), run("b", "full", 1, 6.0),
        run("a", "lora", 0, 9.0), run("a", "lora", 1, 21.0), run("b", "lora", 0, 1.1), run("b", "lora", 1, 1.9),
    ]  # fmt: skip
    found = compare(runs, dict.fromkeys("ab", "fd_x_90_vs_9"), "kind", at_the_end)
    lora, full = found.standings
    assert (lora.method, full.method) == ("lora", "full")
    assert math.exp(full.interval.mean) == pytest.approx(math.sqrt(6))
    assert [math.exp(end) for end in (full.interval.low, full.interval.high)] == pytest.approx([2, 3])
    assert (full.wins, full.cells) == (4, 4)
    assert (lora.wins, lora.cells) == (2, 4)
    smallest = 2 / 10_001
    assert full.adjusted == pytest.approx(2 * smallest)
    said = finding(found)
    assert "not apart from kind: lora; worse than kind: full." in said
    numbers = as_json(found)["standings"]
    assert [(one["method"], one["side"]) for one in numbers] == [("lora", "not apart"), ("full", "worse")]
    assert numbers[1]["mean"] == pytest.approx(math.sqrt(6))
    assert "2 tasks and 2 seeds" in said


def test_higher_is_better_turns_the_sides():
    name = "precision_x_90_vs_9"

    def of(task, method, seed, value):
        record = run(task, method, seed, 1.0)
        return RunRecord(
            task, method, seed, Path(), Path(),
            {**record.metrics, "values": {name: value}, "directions": {name: "higher"}}, record.cost,
        )  # fmt: skip

    runs = [of(task, "kind", seed, 0.9) for task in "ab" for seed in (0, 1)]
    runs += [of(task, "full", seed, 0.6) for task in "ab" for seed in (0, 1)]
    found = compare(runs, dict.fromkeys("ab", name), "kind", at_the_end)
    (full,) = found.standings
    assert not full.ratio
    assert full.interval.mean == pytest.approx(-0.3)
    assert full.wins == 4
    assert "worse than kind: full" in finding(found)


def test_a_pair_without_a_value_takes_no_part():
    runs = [run("a", "kind", 0, 1.0), run("a", "kind", 1, 1.0), run("a", "full", 0, None), run("a", "full", 1, 4.0)]
    (full,) = compare(runs, {"a": "fd_x_90_vs_9"}, "kind", at_the_end).standings
    assert full.cells == 1
    assert math.exp(full.interval.mean) == pytest.approx(4)


def test_after_equal_time_the_slower_stands_between_its_points():
    quick = run("a", "full", 0, 4.0, seconds=10.0, curve={50: 16.0, 100: 4.0})
    slow = run("a", "kind", 0, 1.0, seconds=16.0, curve={25: 64.0, 50: 16.0, 75: 4.0, 100: 1.0})
    one, other = after_equal_time([quick, slow])(quick, slow, "fd_x_50_vs_9")
    assert one == 4.0  # its end
    assert other == pytest.approx(8.0)  # at 10 of 16 s: step 62.5, half of the way from 16 to 4 by logarithm
    assert value_at(slow, "fd_x_50_vs_9", 0.24) is None  # before its first point
    assert value_at(slow, "fd_x_50_vs_9", 1.0) == 1.0
    # a method's time is the median of its runs', whatever load this one had
    loaded = [run("a", "kind", seed, 1.0, seconds=seconds) for seed, seconds in ((1, 16.0), (2, 90.0))]
    assert after_equal_time([quick, slow, *loaded])(quick, slow, "fd_x_50_vs_9") == (one, other)
    below = run("a", "kind", 0, 1.0, seconds=16.0, curve={50: 1.0, 100: -1.0})
    assert value_at(below, "fd_x_50_vs_9", 0.75) == pytest.approx(0.0)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    folder = synthetic.write_experiment(tmp_path_factory.mktemp("overall") / "smoke")
    output = folder / "report"
    write_report(
        "smoke", synthetic.params(), folder, output, synthetic.SEEDS, synthetic.TASKS, synthetic.METHODS,
        synthetic.COMMAND, ablations=[Settings("adapters", None, "lora", {"lora": "low rank", "full": "all weights"})],
    )  # fmt: skip
    return output


def test_the_report_has_both_tables_and_a_plot_of_each_metric(reported):
    with open(reported / "summary" / "overall.csv", newline="") as handle:
        rows = {row["method"]: row for row in csv.DictReader(handle)}
    with open(reported / "metrics.csv", newline="") as handle:
        runs = list(csv.DictReader(handle))

    def fd(task, method, seed):
        (row,) = [r for r in runs if (r["task"], r["method"], r["seed"]) == (task, method, str(seed))]
        return float(row[f"fd_digits_500_vs_{synthetic.REFERENCE[task]}"])

    assert set(rows) == {"full", "lora", "scratch"}
    ratios = [
        math.log(fd(task, "full", seed) / fd(task, "kind", seed))
        for task in synthetic.TASKS
        for seed in synthetic.SEEDS
    ]
    assert float(rows["full"]["mean.mean"]) == pytest.approx(math.exp(np.mean(ratios)))
    assert (reported / "summary" / "overall_time.md").is_file()
    with open(reported / "summary" / "overall_kernel.csv", newline="") as handle:
        kernel = {row["method"]: float(row["mean.mean"]) for row in csv.DictReader(handle)}
    assert 0 < kernel["full"] < kernel["scratch"] < 1  # differences
    numbers = json.loads((reported / "summary" / "overall.json").read_text())
    assert {one["method"]: one["mean"] for one in numbers["standings"]}["full"] == pytest.approx(
        math.exp(np.mean(ratios))
    )
    for metric in ("fd_digits", "sfd_digits", "precision_digits", "recall_digits", "accuracy_svc"):
        assert (reported / "plots" / f"overall_{metric}.png").stat().st_size > 5000
    page = (reported / "index.html").read_text()
    assert "Every method against kind over all tasks" in page
    assert "Over 2 tasks and 2 seeds" in page


def test_an_ablation_of_several_tasks_is_compared_over_all_of_them(reported):
    with open(reported / "summary" / "ablation-adapters.csv", newline="") as handle:
        (row,) = csv.DictReader(handle)
    with open(reported / "summary" / "overall.csv", newline="") as handle:
        against_kind = {each["method"]: float(each["mean.mean"]) for each in csv.DictReader(handle)}
    assert row["method"] == "full"
    assert float(row["mean.mean"]) == pytest.approx(against_kind["full"] / against_kind["lora"])
    assert (reported / "plots" / "overall.ablation-adapters.svg").is_file()
    assert "Ablation adapters over all tasks" in (reported / "index.html").read_text()


def test_one_task_or_one_method_has_nothing_over_all(tmp_path):
    runs = [run("a", "kind", 0, 1.0), run("a", "full", 0, 2.0)]
    assert overall_section(runs, ["kind", "full"], tmp_path, {}, ["fd"]) is None
    runs = [run("a", "kind", 0, 1.0), run("b", "kind", 0, 2.0)]
    assert overall_section(runs, ["kind"], tmp_path, {}, ["fd"]) is None
    assert not list(tmp_path.iterdir())
