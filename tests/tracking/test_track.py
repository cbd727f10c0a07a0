"""Files brought into MLflow: all of them, once, and again after they changed."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_results import ROOT, client_of

from kind.artifacts import read_json, sha256, write_json

CURRENT = "tags.superseded = 'false'"
LOG = [(step, 1.0 / step) for step in range(10, 81, 10)]


def rows_of_store(place: Path) -> dict[str, list]:
    tables = ("runs", "metrics", "params", "tags", "experiment_tags", "experiments")
    with sqlite3.connect(place / "mlflow.db") as database:
        return {name: sorted(database.execute(f"select * from {name}"), key=repr) for name in tables}  # noqa: S608


def test_everything_on_disk_is_brought_in(make, track, search, history):
    results = make()
    results.write_all()
    code, said = track()
    assert code == 0 and "7 entries" in said
    names = [run.info.run_name for run in search()]
    assert names == [
        "novel / kind / seed 0", "novel / kind / seed 1", "novel / lora / seed 0", "novel / lora / seed 1",
        "pretrain / dense", "pretrain / kind", "report",
    ]  # fmt: skip
    assert {run.info.status for run in search()} == {"FINISHED"}
    (run,) = search("tags.task = 'novel' and tags.method = 'lora' and tags.seed = '0'")
    tags = run.data.tags
    assert {key: tags[key] for key in ("experiment", "stage", "git", "code", "superseded", "device")} == {
        "experiment": "smoke", "stage": "evaluate", "git": "0123456789ab", "code": "a1b2c3d4e5f6",
        "superseded": "false", "device": "cpu",
    }  # fmt: skip
    metrics = json.loads((results.layout.run("novel", "lora", 0) / "metrics.json").read_text())
    assert tags["protocol_hash"] == metrics["protocol_hash"]
    assert run.data.params["rank"] == "16" and run.data.params["learning_rate"] == "0.003"
    assert run.data.params["task.classes"] == "7, 8, 9" and run.data.params["sampling.guidance_scale"] == "1.5"
    assert run.data.metrics["fd_digits_500_vs_200"] == metrics["values"]["fd_digits_500_vs_200"]
    assert run.data.metrics["parameters/trainable"] == 5000 and run.data.metrics["cost/train_seconds"] == 2.5
    assert history(run, "train/loss") == LOG
    curve = {int(step): found["values"]["fd_digits_200_vs_200"] for step, found in metrics["steps"].items()}
    assert dict(history(run, "fd_digits_200_vs_200")) == curve and len(curve) == 3
    (backbone,) = search("tags.backbone = 'kind'")
    assert backbone.data.params["num_learngenes"] == "36" and len(history(backbone, "train/loss")) == 8


def test_bringing_in_twice_changes_nothing(make, track, place):
    make(**ABLATION).write_all()
    track()
    before = rows_of_store(place)
    code, said = track()
    assert code == 0 and " 0 entries" in said
    assert rows_of_store(place) == before


def test_a_run_that_mlflow_lost_is_brought_in_again(make, track, search, place):
    make().write_all()
    track()
    client_of(place).delete_run(search("tags.backbone = 'kind'")[0].info.run_id)
    assert " 1 entries" in track()[1]
    assert len(search()) == 7


def test_pictures_tables_and_the_page_are_artifacts(make, track, search, place):
    from PIL import Image

    results = make()
    results.write_all()
    track()
    client = client_of(place)
    (run,) = search("tags.task = 'novel' and tags.method = 'kind' and tags.seed = '0'")
    with Image.open(client.download_artifacts(run.info.run_id, "samples.png")) as picture:
        assert picture.format == "PNG" and picture.width > 200
    (report,) = search("tags.stage = 'report'")
    assert Path(client.download_artifacts(report.info.run_id, "index.html")).read_text() == "<p>a report</p>"
    assert Path(client.download_artifacts(report.info.run_id, "grids/novel.png")).read_text() == "picture"
    logged = {entry["path"] for entry in json.loads(report.data.tags["mlflow.loggedArtifacts"])}
    assert logged == {f"tables/{name}.json" for name in ("metrics", "curves", "summary/overview", "novel")}
    table = client.load_table(report.info.experiment_id, "tables/metrics.json", [report.info.run_id])
    rows = list(csv.DictReader((results.layout.report / "metrics.csv").open()))
    wanted = [float(row["fd_digits_500_vs_200"]) for row in rows]
    assert table["fd_digits_500_vs_200"].tolist() == pytest.approx(wanted, abs=1e-9), "log_table keeps ten digits"


def test_a_run_whose_samples_are_gone_comes_in_without_their_picture(make, track, search, place):
    """Snakemake takes the samples of a job that it stops away, and leaves their record."""
    results = make()
    results.write_all()
    for shard in (results.layout.root / "samples" / "novel" / "kind" / "seed_0").rglob("*.npz"):
        shard.unlink()
    code, said = track()
    assert code == 0 and "7 entries" in said
    runs = search("tags.task = 'novel' and tags.method = 'kind'")
    pictures = [[file.path for file in client_of(place).list_artifacts(run.info.run_id)] for run in runs]
    assert ["samples.png" in there for there in pictures] == [False, True]


def test_a_report_made_again_is_the_same_run_with_new_tables(make, track, search, place):
    results = make()
    results.write_all()
    track()
    table = results.layout.report / "summary" / "overview.csv"
    table.write_text("method,fd.mean\nkind,0.5\n")
    os.utime(results.layout.report / "report.json", (1, 1))
    track()
    (report,) = search("tags.stage = 'report'")
    client = client_of(place)
    found = client.load_table(report.info.experiment_id, "tables/summary/overview.json", [report.info.run_id])
    assert found["fd.mean"].tolist() == [0.5], "not appended to the rows before"


def test_the_link_shows_the_reports_rows_with_its_headline_metrics(make, track, search, place):
    results = make()
    assert "MLflow has nothing of it yet: python -m kind track --experiment smoke" in track("--link")[1]
    results.write_backbone("kind")
    track()
    number = search()[0].info.experiment_id
    page = f"http://127.0.0.1:5000/#/experiments/{number}/runs?"
    assert f"smoke: {page}workflowType=machine_learning" in track("--link")[1]
    results.write_all()
    track()
    assert f"smoke: {page}viewStateShareKey=report&workflowType=machine_learning" in track("--link")[1]
    view = json.loads(client_of(place).get_experiment(number).tags["mlflow.sharedViewState.report"])
    assert len(search(view["searchFilter"])) == 4
    shown = {column.removeprefix("metrics.").strip("`") for column in view["selectedColumns"]}
    assert {"fd_digits_500_vs_200", "recall_digits_500_vs_200", "parameters/trainable"} <= shown
    assert shown <= set(search(view["searchFilter"])[0].data.metrics)


# --- recipes ------------------------------------------------------------------------------------------------------


def test_a_changed_recipe_is_a_new_run_and_the_old_one_superseded(make, track, search):
    make().write_all()
    track()
    changed = make(methods__lora={"rank": 8})
    for seed in (0, 1):
        changed.write_run("novel", "lora", seed)
    changed.write_report()
    track()
    assert [run.info.run_name for run in search(CURRENT)] == sorted({run.info.run_name for run in search()})
    old, new = search("tags.method = 'lora' and tags.task = 'novel' and tags.seed = '0'")
    old, new = (old, new) if old.data.params["rank"] == "16" else (new, old)
    assert (old.data.tags["superseded"], new.data.tags["superseded"]) == ("true", "false")
    assert old.data.tags["superseded_by"] == new.info.run_id
    assert len(search("tags.superseded = 'true'")) == 3, "two runs and the report"
    first = make()
    for seed in (0, 1):
        first.write_run("novel", "lora", seed)
    track()
    (back,) = search(f"tags.method = 'lora' and tags.task = 'novel' and tags.seed = '0' and {CURRENT}")
    assert back.info.run_id == old.info.run_id, "going back to a recipe goes back to its run"
    assert len(search()) == 10


def test_other_sampling_is_a_new_run_with_the_same_training(make, track, search, history):
    make().write_all()
    track()
    changed = make(sampling__guidance_scale=2.0)
    changed.start("sample", "novel", "kind", 0)
    track()
    (run,) = search(f"tags.task = 'novel' and tags.method = 'kind' and tags.seed = '0' and {CURRENT}")
    assert run.info.status == "RUNNING" and run.data.tags["stage"] == "sample"
    assert run.data.params["sampling.guidance_scale"] == "2" and "fd_digits_500_vs_200" not in run.data.metrics
    assert history(run, "train/loss") == LOG


def test_what_the_params_name_no_more_is_superseded(make, track, search):
    make().write_all()
    track()
    make(methods={"kind": {}}).write_report()
    track()
    assert {run.data.tags.get("method") for run in search(CURRENT)} == {"kind", None}


def test_other_values_of_the_same_recipe_take_the_place_of_the_old(make, track, search, history):
    """MLflow keeps every value it was given: the run is made anew, and there is one of it."""
    results = make()
    results.write_all()
    track()
    path = results.layout.metrics(results.layout.run("novel", "kind", 0))
    metrics = json.loads(path.read_text())
    metrics["values"]["fd_digits_500_vs_200"] = 77.0
    path.write_text(json.dumps(metrics))
    record = path.with_name("evaluate.json")
    about = read_json(record)
    write_json(record, {**about, "outputs": {**about["outputs"], path.name: sha256(path)}})
    track()
    (run,) = search("tags.task = 'novel' and tags.method = 'kind' and tags.seed = '0'")
    assert history(run, "fd_digits_500_vs_200") == [(0, 77.0)]


# --- running jobs -------------------------------------------------------------------------------------------------


def test_a_running_job_is_followed_and_resuming_repeats_no_step(make, track, search, history):
    results = make()
    state = results.start("finetune", "novel", "kind", 0, rows=3)
    with open(state / "live.csv", "a") as log:
        log.write("40,0.0")  # a line that is being written
    track()
    (run,) = search()
    assert run.info.status == "RUNNING" and history(run, "train/loss") == LOG[:3]
    assert run.data.tags["stage"] == "finetune" and run.data.params["tailor_start"] == "random"
    results.start("finetune", "novel", "kind", 0, rows=2)  # killed and resumed from step 20
    track()
    results.start("finetune", "novel", "kind", 0, rows=6)
    track()
    assert history(search()[0], "train/loss") == LOG[:6]
    for path in state.iterdir():
        path.unlink()
    results.finetune("novel", "kind", 0)
    track()
    assert search()[0].info.status == "SCHEDULED"
    results.sample("novel", "kind", 0)
    results.evaluate("novel", "kind", 0)
    track()
    (finished,) = search()
    assert finished.info.run_id == run.info.run_id and finished.info.status == "FINISHED"
    assert history(finished, "train/loss") == LOG


def test_a_killed_job_is_failed_until_it_runs_again(make, track, search):
    results = make()
    state = results.start("finetune", "novel", "kind", 0, rows=2)
    about = json.loads((state / "job.json").read_text())
    gone = subprocess.Popen(["true"])
    gone.wait()
    (state / "job.json").write_text(json.dumps(about | {"pid": gone.pid}))
    track()
    assert [run.info.status for run in search()] == ["FAILED"]
    results.start("finetune", "novel", "kind", 0, rows=4)
    track()
    assert [run.info.status for run in search()] == ["RUNNING"]


def test_records_of_an_earlier_recipe_are_not_mixed_in(make, track, search):
    """The samples on disk are of the finetune before."""
    results = make()
    results.write_run("novel", "lora", 0)
    make(methods__lora={"rank": 8}).finetune("novel", "lora", 0)
    track()
    (run,) = search()
    assert run.data.tags["stage"] == "finetune" and "fd_digits_500_vs_200" not in run.data.metrics


def test_the_follower_brings_in_what_comes_and_ends_with_a_last_look(make, search, place):
    results = make()
    command = [sys.executable, "-m", "kind", "track", "--experiment", "smoke", "--follow"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    follower = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        lock = results.layout.state("track") / "lock"
        while not lock.exists():
            assert follower.poll() is None, follower.stderr.read()
            os.sched_yield()
        results.write_all()
        follower.send_signal(signal.SIGTERM)
        _, said = follower.communicate(timeout=300)
    finally:
        follower.kill()
    assert follower.returncode == 0, said
    assert len(search()) == 7


# --- ablations ----------------------------------------------------------------------------------------------------

FRACTIONS = {"slow": 0.001, "fast": 1.0}
ABLATION = {
    "methods": {"kind": {}, "lora": {"rank": 16}, "lora-r4": {"method": "lora", "rank": 4}},
    "ablations": {"lora-rank": {"axis": "rank", "entries": ["lora-r4", "lora"]}},
}


def test_an_ablation_is_a_parent_with_a_child_for_each_setting(make, track, search, history):
    results = make(**ABLATION)
    results.write_all()
    track()
    (parent,) = search("tags.stage = 'ablation'")
    assert parent.info.run_name == "novel / lora-rank"
    children = search(f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert [(run.data.tags["method"], run.data.params["rank"]) for run in children] == [
        ("lora", "16"), ("lora", "16"), ("lora-r4", "4"), ("lora-r4", "4"),
    ]  # fmt: skip
    assert {run.data.tags["ablation"] for run in children} == {"rank"}
    assert [run.data.metrics["ablation/rank"] for run in children] == [16, 16, 4, 4]
    found = dict(history(parent, "by_rank/fd_digits_500_vs_200"))
    means = {
        rank: sum(run.data.metrics["fd_digits_500_vs_200"] for run in children if run.data.params["rank"] == str(rank))
        / 2
        for rank in (4, 16)
    }
    assert found == pytest.approx(means)


def test_an_axis_of_fractions_has_a_table_and_no_curve(make, track, search, place):
    methods = {name: {"method": "lora", "rank": 4, "learning_rate": rate} for name, rate in FRACTIONS.items()}
    make(methods=methods, ablations={"rate": {"axis": "learning_rate", "entries": [*methods]}}).write_all()
    track()
    (parent,) = search("tags.stage = 'ablation'")
    assert parent.data.metrics == {} and "by_learning_rate" not in parent.data.tags["mlflow.note.content"]
    table = client_of(place).load_table(parent.info.experiment_id, "tables/settings.json", [parent.info.run_id])
    assert table["learning_rate"].tolist() == [*FRACTIONS.values()]


def test_choices_words_and_sizes_have_a_table_and_no_curve(make, track, search, place):
    methods = {"kind": {}, "zero": {"method": "kind", "tailor_start": "zero"}}
    begin = {"axis": "tailor_start", "entries": [*methods], "base": "zero"}
    words = {"entries": {"kind": "a fresh draw", "zero": "nothing at first"}}
    size = {"axis": "trainable_parameters", "entries": [*methods]}
    make(seeds=[0], methods=methods, ablations={"begin": begin, "words": words, "size": size}).write_all()
    track()
    parents = {run.info.run_name: run for run in search("tags.stage = 'ablation'")}
    assert [*parents] == ["novel / begin", "novel / size", "novel / words"]
    assert not any(run.data.metrics for run in parents.values())
    assert {key: parents["novel / begin"].data.params[key] for key in ("axis", "entries", "values", "base")} == {
        "axis": "tailor_start", "entries": "kind, zero", "values": "random, zero", "base": "zero",
    }  # fmt: skip
    client = client_of(place)
    for name, column, values in (
        ("begin", "tailor_start", ["random", "zero"]),
        ("words", "setting", ["a fresh draw", "nothing at first"]),
        ("size", "trainable_parameters", [5000, 5000]),
    ):
        run = parents[f"novel / {name}"].info
        table = client.load_table(run.experiment_id, "tables/settings.json", [run.run_id])
        assert table["entry"].tolist() == ["kind", "zero"] and table[column].tolist() == values
    (zero,) = search("tags.method = 'zero' and tags.stage = 'evaluate'")
    assert zero.data.tags["mlflow.parentRunId"] == parents["novel / begin"].info.run_id  # the first that names it
    tags = {key: value for key, value in zero.data.tags.items() if key.startswith("ablation")}
    assert tags == {
        "ablation": "tailor_start", "ablation.begin": "tailor_start", "ablation.words": "words",
        "ablation.size": "trainable_parameters",
    }  # fmt: skip
    assert zero.data.params["tailor_start"] == "zero" and zero.data.params["setting.words"] == "nothing at first"
    assert not [name for name in zero.data.metrics if name.startswith("ablation/")]


def test_a_parent_says_which_runs_are_its_children_and_how_the_others_are_found(make, track, search):
    methods = ABLATION["methods"] | {"lora-r2": {"method": "lora", "rank": 2}}
    more = {"entries": {"lora-r2": "narrow", "lora": "wide"}}
    size = {"axis": "trainable_parameters", "entries": ["lora-r4", "lora"]}
    make(methods=methods, ablations=ABLATION["ablations"] | {"more": more, "size": size}).write_all()
    track()
    parents = {run.info.run_name: run for run in search("tags.stage = 'ablation'")}
    notes = {name: run.data.tags["mlflow.note.content"] for name, run in parents.items()}
    count = {name: len(search(f"tags.mlflow.parentRunId = '{run.info.run_id}'")) for name, run in parents.items()}
    assert count == {"novel / lora-rank": 4, "novel / more": 2, "novel / size": 0}
    assert "Its children are the runs." in notes["novel / lora-rank"]
    assert "2 of its 4 runs are its children; the others lie under lora-rank. `" in notes["novel / more"]
    assert "None of its 4 runs are its children; the others lie under lora-rank. `" in notes["novel / size"]
    for name in ("more", "size"):
        found = search(notes[f"novel / {name}"].split("`")[3])
        assert {run.data.tags["method"] for run in found} == {*(more if name == "more" else size)["entries"]}


def test_a_changed_ablation_takes_its_children_along(make, track, search):
    make(**ABLATION).write_all()
    track()
    more = ABLATION["methods"] | {"lora-r2": {"method": "lora", "rank": 2}}
    entries = {"axis": "rank", "entries": ["lora-r2", "lora-r4", "lora"]}
    make(methods=more, ablations={"lora-rank": entries}).write_all()
    track()
    (parent,) = search(f"tags.stage = 'ablation' and tags.task = 'novel' and {CURRENT}")
    children = search(f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert [run.data.tags["method"] for run in children] == ["lora"] * 2 + ["lora-r2"] * 2 + ["lora-r4"] * 2
