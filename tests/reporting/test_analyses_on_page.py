"""The analyses on the report page, from files as the analyse stage writes them."""

from __future__ import annotations

import csv
import re

import pytest
import synthetic_experiment as synthetic

from kind.artifacts import write_csv
from kind.errors import UserError
from kind.layout import Layout
from kind.reporting.report import write_report

ASKED = {
    "weights": {"num_vectors": 10, "max_cosine": 0.6},
    "interference": {"tasks": ["novel", "shift"], "methods": {"kind": {}, "lora": {}}},
}
DRIFT = {"kind": 0.1, "full": 0.4, "lora": 0.2}  # `scratch` as a method whose layers are no matrices


def write_analyses(folder):
    layout = Layout(folder)
    for task in synthetic.TASKS:
        write_csv(layout.weights_table(task), [
            {"task": task, "method": method, "seed": seed, "block": block, "matrix": kind, "intruders": 2 * block,
             "drift": "" if kind == "k" else value + seed, "effective_rank": 3.0}
            for method, value in DRIFT.items() for seed in synthetic.SEEDS for block in (0, 1) for kind in ("q", "k")
        ])  # fmt: skip
    ways = {("kind", "class gate"): 0.0, ("kind", "tailors summed"): 0.3, ("lora", "differences added"): 0.1}
    write_csv(layout.interference_table, [
        {"method": method, "how": how, "seed": seed, "task": task, "entry": method, "num_images": 40,
         "loss_alone": 0.2, "loss_together": 0.2 + worse, "difference": worse, "standard_error": 0.01}
        for (method, how), worse in ways.items() for seed in synthetic.SEEDS for task in ("novel", "shift")
    ])  # fmt: skip


def report(folder, asked):
    write_report(
        "smoke", synthetic.params() | {"analyses": asked}, folder, folder / "report", seeds=synthetic.SEEDS,
        tasks=synthetic.TASKS, methods=synthetic.METHODS, command=synthetic.COMMAND,
    )  # fmt: skip
    return folder / "report"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = synthetic.write_experiment(tmp_path_factory.mktemp("results") / "smoke")
    write_analyses(folder)
    return folder


@pytest.fixture(scope="module")
def finished(experiment):
    return report(experiment, ASKED)


def rows(path):
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_a_method_has_a_row_of_means_over_matrices_and_seeds(finished):
    found = {row["method"]: row for row in rows(finished / "summary" / "weights_novel.csv")}
    assert list(found) == list(synthetic.METHODS)
    for method, value in DRIFT.items():
        assert float(found[method]["drift.mean"]) == pytest.approx(value + 0.5), "an empty cell counts for nothing"
        assert float(found[method]["intruders.mean"]) == 1 and float(found[method]["effective_rank.std"]) == 0
    assert found["scratch"]["drift.mean"] == ""


def test_interference_has_a_row_a_task_and_way(finished):
    table = rows(finished / "summary" / "interference.csv")
    ways = [("kind", "class gate"), ("kind", "tailors summed"), ("lora", "differences added")]
    found = [(row["task"], (row["method"], row["put together by"])) for row in table]
    assert found == [(task, way) for task in ("novel", "shift") for way in ways]
    assert float(table[1]["difference.mean"]) == pytest.approx(0.3) and table[1]["difference.best"] == "0"


def test_the_page_has_a_section_and_the_plots_are_files(finished):
    page = (finished / "index.html").read_text()
    assert '<section id="analyses">' in page and 'href="#analyses"' in page
    for words in ("Weights on novel", "Weights on shift", "Interference", "Loss together", "tailors summed"):
        assert words in page
    for name in ("drift", "intruders", "effective_rank", "interference"):
        assert (finished / "plots" / f"shift_{name}.svg").is_file()
    assert "together" in (finished / "plots" / "novel_interference.svg").read_text()


def test_every_row_of_every_table_has_as_many_cells_as_the_head(finished):
    """Tables with several names a row (task, method, way) too."""
    page = (finished / "index.html").read_text()
    tables = re.findall(r"<table>(.*?)</table>", page, re.S)
    widths = [[len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr.*?</tr>", one, re.S)] for one in tables]
    assert len(widths) > 5 and all(len(set(counts)) == 1 for counts in widths), widths


def test_a_page_of_an_experiment_without_analyses_has_none(experiment, tmp_path):
    with_none = report(experiment, None)
    assert "analyses" not in (with_none / "index.html").read_text()


def test_a_missing_file_is_one_message_and_nothing_is_written(tmp_path):
    folder = synthetic.write_experiment(tmp_path / "smoke")
    with pytest.raises(UserError, match=r"weights_novel.csv: no such file\n  -> run the analyse stage"):
        report(folder, ASKED)
    assert not (folder / "report").exists()
