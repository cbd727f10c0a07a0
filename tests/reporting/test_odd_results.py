"""Reports of results that lack something, do not belong together, or are unlike most."""

import math

import pytest
import synthetic_experiment as synthetic
from reports import FD, report, rows, value

from kind.artifacts import digest, read_json, write_json
from kind.errors import UserError
from kind.reporting.report import load_runs, write_report


def test_missing_files_are_named_together(small):
    folder, tasks, methods = small
    gone = [folder / "runs/novel/full/seed_1/metrics.json", folder / "runs/novel/kind/seed_0/cost.json"]
    for path in gone:
        path.unlink()
    with pytest.raises(UserError) as error:
        report(folder, tasks=tasks, methods=methods)
    assert all(str(path) in str(error.value) for path in gone)
    assert "2 of the 12 files of 4 runs are missing" in str(error.value)


def test_missing_samples_are_named(small):
    folder, tasks, methods = small
    for path in (folder / "samples/novel/full/seed_0/step_000300").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="samples/novel/full/seed_0/step_000300: no sample shards"):
        report(folder, tasks=tasks, methods=methods)


def test_different_protocols_have_no_common_table(small):
    folder, tasks, methods = small
    other = synthetic.protocol("novel") | {"num_samples": 400, "extractor": {"name": "digits", "identity": "another"}}
    synthetic.change(folder / "runs/novel/full/seed_1/metrics.json", protocol=other, protocol_hash=digest(other))
    with pytest.raises(UserError) as error:
        load_runs(folder, tasks, methods, [0, 1])
    for said in ("novel/kind/seed_0", "novel/full/seed_1", "num_samples: 500", "400", "extractor.identity"):
        assert said in str(error.value)
    assert "guidance" not in str(error.value)


def test_a_file_of_another_run_is_refused(small):
    folder, tasks, methods = small
    synthetic.change(folder / "runs/novel/full/seed_1/metrics.json", seed=0)
    with pytest.raises(UserError, match="written for task novel, method full, seed 0"):
        load_runs(folder, tasks, methods, [0, 1])


def test_an_unknown_headline_lists_what_there_is(small):
    folder, tasks, methods = small
    with pytest.raises(UserError, match="no metric is a headline metric .fvd.*fd_digits_500_vs_180"):
        report(folder, tasks=tasks, methods=methods, headline=["fvd"])


def test_null_and_nan_are_shown_counted_and_never_best(small):
    folder, tasks, methods = small
    path = folder / "runs/novel/kind/seed_0/metrics.json"
    values = read_json(path)["values"]
    synthetic.change(path, values=values | {FD: None, "recall_digits_500_vs_180": math.nan, "is_digits_500": None})
    path = folder / "runs/novel/kind/seed_1/metrics.json"
    synthetic.change(path, values=read_json(path)["values"] | {"is_digits_500": None})
    output = report(folder, tasks=tasks, methods=methods)
    row = rows(output / "tables/novel.csv")[0]
    assert (row[f"{FD}.n"], row[f"{FD}.std"], row[f"{FD}.best"]) == ("1", "", "0")
    assert float(row[f"{FD}.mean"]) == value(folder, "novel", "kind", 1, FD)
    assert (row["recall_digits_500_vs_180.n"], row["is_digits_500.mean"], row["is_digits_500.n"]) == ("1", "", "0")
    markdown = (output / "tables/novel.md").read_text()
    assert "± – (n = 1 of 2)" in markdown
    assert "| – |" in markdown
    page = (output / "index.html").read_text()
    assert "n = 1 of 2" in page
    assert "nan" not in (output / "metrics.csv").read_text()


def test_one_seed_has_no_spread(tmp_path):
    tasks, methods = {"novel": synthetic.TASKS["novel"]}, {"kind": {}, "full": {}}
    folder = synthetic.write_experiment(tmp_path, tasks, methods, [3])
    output = report(folder, tasks=tasks, methods=methods, seeds=[3])
    markdown = (output / "tables/novel.md").read_text()
    assert "One seed (3), hence no spread." in markdown
    assert "± –" in markdown
    assert rows(output / "tables/novel.csv")[0][f"{FD}.std"] == ""


def test_large_colour_images_and_parts_that_are_missing(tmp_path):
    tasks, methods = {"photos": {"classes": [f"class {index}" for index in range(6)]}}, {"full": {}}
    folder = synthetic.write_experiment(tmp_path, tasks, methods, [0], size=64)
    place = folder / "runs/photos/full/seed_0"
    content = read_json(place / "metrics.json")
    for part in ("memorisation", "judge", "parameters", "provenance", "warnings", "steps"):
        del content[part]
    write_json(place / "metrics.json", content)
    write_json(place / "cost.json", {})
    for name in ("dense", "kind"):
        (folder / f"backbones/{name}/preview.npz").unlink()
        (folder / f"backbones/{name}/pretrain.json").unlink()
    output = report(folder, tasks=tasks, methods=methods, seeds=[0])
    page = (output / "index.html").read_text()
    assert "data:image/webp;base64," in page
    assert "4 of 6 classes" in page
    assert not (output / "summary/memorisation.csv").exists()


def test_long_lists_of_classes_are_told_in_short_with_their_set(small):
    folder, tasks, methods = small
    plain = (report(folder, tasks=tasks, methods=methods) / "index.html").read_text()
    assert "10 classes: " not in plain and "classes 0, 1, 2, 3, 4, 5, 6," in plain, "of all: its settings"
    many = [f"c{index}" for index in range(150)]
    changed = synthetic.params(tasks, methods, synthetic.SEEDS)
    changed["pretrain"]["classes"] = many
    sets = {"pretrain": "all 150 classes of the set seen", "tasks.novel": "3 of the 461 classes of the set novel"}
    write_report(
        "smoke", changed, folder, folder / "named", synthetic.SEEDS, tasks, methods, synthetic.COMMAND, class_sets=sets
    )
    page = (folder / "named" / "index.html").read_text()
    assert "all 150 classes of the set seen: c0, c1, " in page and "c11 and 138 more" in page and "c11, c12" not in page
    assert "3 of the 461 classes of the set novel: 7, 8, 9" in page


def test_a_method_stands_in_the_tables_of_the_tasks_that_it_runs_on(tmp_path):
    """`scratch` runs on one task, `full` on the other, `kind` on both."""
    from kind.reporting.comparisons import HEADLINE, cost_table, memorisation_table, overview_table
    from kind.reporting.tables import csv_rows

    entries_on, methods, seeds = (
        {"novel": ["kind", "full"], "shift": ["kind", "scratch"]},
        ["kind", "full", "scratch"],
        [0],
    )
    for task, labels in entries_on.items():
        for label in labels:
            synthetic.write_run(tmp_path, task, label, 0, len(synthetic.TASKS[task]["classes"]), 8)
    runs = load_runs(tmp_path, synthetic.TASKS, methods, seeds, entries_on)
    table = overview_table(runs, entries_on, methods, seeds, HEADLINE)
    overview = {row["method"]: row for row in csv_rows(table)[0]}
    filled = {
        label: [task for task in entries_on if row[f"{task}.mean"] is not None] for label, row in overview.items()
    }
    assert filled == {"kind": ["novel", "shift"], "full": ["novel"], "scratch": ["shift"]}
    assert not any("no seed has a value" in note for note in table.notes)
    pairs = [(task, label) for task, labels in entries_on.items() for label in labels]
    for made in (cost_table, memorisation_table):
        rows = made("T", runs, methods, seeds, by_task=True).rows
        assert [row.labels for row in rows if row.method] == pairs
