"""The analyse stage through the command line, on the tiny experiment with a second task and analyses."""

from __future__ import annotations

import csv
import shutil

import pytest
from tiny_experiment import within

from kind import recipes
from kind.__main__ import main
from kind.artifacts import read_json, sha256
from kind.layout import Layout
from kind.params.file import load_experiment

OTHER = "  other: {data: digits, classes: [5, 6, 9], images_per_class: 20}\n"
ANALYSES = """
analyses:
  weights: {num_vectors: 6}
  interference: {tasks: [novel, other], methods: {full: {}, kind: {}}, num_draws: 2}
"""
WEIGHTS = ["analyse", "--experiment", "two.yaml", "--analysis", "weights", "--task"]
INTERFERENCE = ["analyse", "--experiment", "two.yaml", "--analysis", "interference"]


@pytest.fixture(scope="module")
def two(tiny, tmp_path_factory):
    """The folder of work, with both methods' runs on both tasks, analysed."""
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(tiny.results, folder / "results" / "two")
    text = (tiny.folder / "tiny.yaml").read_text().replace("finetune:", f"{OTHER}finetune:") + ANALYSES
    (folder / "two.yaml").write_text(text)
    with within(folder):
        for method in ("full", "kind"):
            run = ["--task", "other", "--method", method, "--seed", "0"]
            assert main(["finetune", "--experiment", "two.yaml", *run]) == 0
        for command in ([*WEIGHTS, "novel"], [*WEIGHTS, "other"], INTERFERENCE):
            assert main(command) == 0
    return folder


@pytest.fixture
def work(two):
    with within(two):
        yield Layout(two / "results" / "two")


def rows(path):
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def test_weights_have_a_row_a_method_and_matrix(work):
    found = rows(work.weights_table("other"))
    assert len(found) == 2 * 2 * 6 and {row["task"] for row in found} == {"other"}
    assert [row["matrix"] for row in found[:6]] == ["q", "k", "v", "o", "in", "out"]
    for row in found:
        assert 0 <= float(row["intruders"]) <= 6 and float(row["drift"]) > 0 and 1 <= float(row["effective_rank"]) <= 32
    one_tailor = [float(row["effective_rank"]) for row in found if row["method"] == "kind"]
    assert one_tailor == pytest.approx([1.0] * 12, abs=1e-3)  # 100 / 1024 of width 32, among three classes


def test_interference_has_a_row_a_way_and_task_and_none_behind_the_gate(work):
    found = {(row["method"], row["how"], row["task"]): row for row in rows(work.interference_table)}
    ways = [("full", "differences added"), ("kind", "class gate"), ("kind", "tailors summed")]
    assert list(found) == [(*way, task) for way in ways for task in ("novel", "other")]
    for (_, how, task), row in found.items():
        assert int(row["num_images"]) == {"novel": 35, "other": 54}[task]
        alone, together, difference = (float(row[key]) for key in ("loss_alone", "loss_together", "difference"))
        assert difference == pytest.approx(together - alone, abs=1e-9)
        assert (abs(difference) < 1e-6) == (how == "class gate")
    alone = {key: row["loss_alone"] for key, row in found.items()}
    assert alone["kind", "class gate", "novel"] == alone["kind", "tailors summed", "novel"]


def test_the_jobs_leave_records_and_nothing_of_their_running(work, two):
    experiment = load_experiment(two / "two.yaml")
    for recipe, name, table in (
        (recipes.weights(experiment, "novel"), "weights_novel", work.weights_table("novel")),
        (recipes.interference(experiment), "interference", work.interference_table),
    ):
        record = read_json(work.record(work.analyses, name))
        assert record["recipe_digest"] == recipes.recipe_digest(recipe)
        assert record["outputs"] == {table.name: sha256(table)}
    assert not list((work.root / "state" / "analyse").rglob("*.json"))


def test_a_finished_analysis_ends_at_once_and_one_that_was_killed_goes_on(work, capsys, monkeypatch):
    assert main(INTERFERENCE) == 0 and "already done: " in capsys.readouterr().err
    wanted, record = work.interference_table.read_bytes(), work.record(work.analyses, "interference")
    record.unlink()
    begun = []

    def killed(label, runs):
        begun.append(label)
        if label == "kind" and begun.count("kind") == 1:
            raise KeyboardInterrupt
        return together(label, runs)

    from kind.stages import analyse

    together = analyse.put_together
    monkeypatch.setattr(analyse, "put_together", killed)
    assert main(INTERFERENCE) == 130 and not record.exists()
    assert main(INTERFERENCE) == 0
    assert begun == ["full", "kind", "kind"]
    assert work.interference_table.read_bytes() == wanted


def test_raw_weights_are_analysed_where_samples_are_drawn_from_them(two, work, tmp_path, monkeypatch):
    shutil.copytree(work.root, tmp_path / "results" / "two")
    text = (two / "two.yaml").read_text()
    changed = text.replace("sampler: ddim", "weights: raw, sampler: ddim").replace("curve: [0.4]", "curve: []")
    (tmp_path / "two.yaml").write_text(changed)
    monkeypatch.chdir(tmp_path)
    assert main([*WEIGHTS, "novel"]) == 0
    ours = rows(Layout(tmp_path / "results" / "two").weights_table("novel"))
    assert [row["drift"] for row in ours] != [row["drift"] for row in rows(work.weights_table("novel"))]
