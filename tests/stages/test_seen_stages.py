"""Models of classes of pre-training at a size, through all stages, beside a run that adapts to new classes."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import yaml
from tiny_experiment import TINY, within

import kind
from kind.__main__ import main
from kind.artifacts import load_arrays, read_header, read_json
from kind.layout import Layout
from kind.params.file import load_experiment
from kind.random_streams import derive_seed

pytestmark = pytest.mark.slow

SEEN = {"data": "digits", "classes": [2, 0], "seen": True}
METHODS = {
    "full": {},
    "recombined": {"share": 1.0},
    "recombined-50": {"method": "recombined", "share": 0.5},
    "pruned-50": {"method": "svd-pruned", "share": 0.5},
}


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """The tiny experiment with such a task and entries, their stages run in this process."""
    folder = tmp_path_factory.mktemp("seen")
    for part in ("data", "backbones"):
        shutil.copytree(tiny.results / part, folder / "results" / "seen" / part)
    content = yaml.safe_load(TINY)
    content["tasks"]["seen"] = SEEN
    content["methods"] = METHODS
    (folder / "seen.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    with within(folder):
        runs = load_experiment("seen.yaml").runs()
        places = [("--task", task, "--method", label, "--seed", str(seed)) for task, label, seed in runs]
        made = [("reference", "--task", "novel"), ("reference", "--task", "seen")]
        made += [(stage, *place) for place in places for stage in ("finetune", "sample", "evaluate")]
        for stage, *chosen in (("extractor",), *made, ("report",)):
            assert main([stage, "--experiment", "seen.yaml", *chosen]) == 0, (stage, chosen)
    return folder


@pytest.fixture
def layout(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return Layout(folder / "results" / "seen")


def metrics(layout, label, task="seen"):
    return read_json(layout.metrics(layout.run(task, label, 0)))


def test_the_grid_has_holes(layout):
    runs = {path.parts[-4:-2] for path in layout.root.glob("runs/*/*/seed_0/metrics.json")}
    assert runs == {("novel", "full"), *(("seen", label) for label in METHODS if label != "full")}


def test_samples_are_those_of_the_model_made_by_hand(layout):
    """Labels 0 and 1 are the classes 2 and 0 of the backbone."""
    drawn = load_arrays(layout.sample_folder(layout.run("seen", "recombined-50", 0)) / "step_000000" / "shard_000.npz")
    whole = kind.load(layout.backbone("kind")).keep(["2", "0"])
    held = (20 + 2 * 4) * 2 * (4 * 65 + 2 * 161)  # 28 components in 2 blocks of width 32
    size = whole.cost["deployed"] - held // 2
    protocol = {"guidance_scale": 1.0, "num_steps": 2, "sampler": "ddim", "timestep_spacing": "leading"}
    images = whole.budget(parameters=size).sample(10, seed=derive_seed(0, 0), batch_size=10, **protocol)
    assert np.array_equal(drawn["arr_0"], images)
    assert drawn["arr_1"].tolist() == [0, 1] * 5


def test_what_it_costs_is_in_the_metrics(layout):
    labels = ("recombined-50", "pruned-50", "recombined")
    half, pruned, full = (metrics(layout, label)["parameters"] for label in labels)
    held = (20 + 2 * 4) * 2 * (4 * 65 + 2 * 161)
    assert (full["trainable"], full["trainable_label_table"]) == (0, 0)
    assert 0 <= full["deployed"] - held // 2 - half["deployed"] < 161
    assert abs(pruned["deployed"] - half["deployed"]) < 161 + 161
    assert half["macs"] < full["macs"]
    header = read_header(layout.adapted(layout.run("seen", "recombined-50", 0), 0))
    assert header["classes"] == ["2", "0"] and header["null_gate"] == "learngenes"


def test_the_protocol_says_that_nothing_was_trained(layout):
    seen, novel = metrics(layout, "recombined"), metrics(layout, "full", "novel")
    assert (seen["final_step"], list(seen["steps"]), seen["protocol"]["training_steps"]) == (0, ["0"], 0)
    assert novel["final_step"] == 3
    assert seen["judge"]["accuracy_on_real_test"] > 0.9


def test_tables_have_a_row_where_there_is_a_run(layout):
    with open(layout.report_tables / "seen.csv") as handle:
        rows = {row["method"]: row for row in csv.DictReader(handle)}
    assert list(rows) == ["recombined", "recombined-50", "pruned-50"]
    deployed = metrics(layout, "recombined-50")["parameters"]["deployed"]
    assert float(rows["recombined-50"]["deployed.mean"]) == deployed, (
        "nothing is trained: the size that tells them apart"
    )
    with open(layout.report_tables / "novel.csv") as handle:
        assert [row["method"] for row in csv.DictReader(handle)] == ["full"]
    with open(layout.report_summary / "overview.csv") as handle:
        overview = {row["method"]: row for row in csv.DictReader(handle)}
    filled = {label: [task for task in ("novel", "seen") if row[f"{task}.mean"]] for label, row in overview.items()}
    assert filled == {"full": ["novel"], **{label: ["seen"] for label in METHODS if label != "full"}}
    assert "no seed has a value" not in (layout.report_summary / "overview.md").read_text()
    for name in ("cost", "memorisation"):
        with open(layout.report_summary / f"{name}.csv") as handle:
            found = [tuple(row.values())[:2] for row in csv.DictReader(handle)]
        of_runs = [pair for pair in found if pair[1] != "real test images"]
        assert of_runs == [("novel", "full"), *(("seen", label) for label in METHODS if label != "full")], name
    assert (layout.report_plots / "seen_trade_off.svg").is_file()
    assert not (layout.report_plots / "seen_trade_off_time.svg").exists()


@pytest.mark.parametrize("stage", ["finetune", "sample", "evaluate"])
def test_a_method_that_trains_is_refused_there(layout, stage, capsys):
    assert main([stage, "--experiment", "seen.yaml", "--task", "seen", "--method", "full", "--seed", "0"]) == 2
    assert capsys.readouterr().err.endswith(
        "error: seen.yaml: full does not run on the task seen, which has classes of pre-training\n"
        "  -> entries that do: recombined, recombined-50, pruned-50\n"
    )


def test_nothing_that_was_not_trained_is_analysed(layout, capsys):
    content = yaml.safe_load(layout.root.parents[1].joinpath("seen.yaml").read_text())
    content["analyses"] = {"weights": {}}
    layout.root.parents[1].joinpath("asked.yaml").write_text(yaml.safe_dump(content))
    assert main(["analyse", "--experiment", "asked.yaml", "--analysis", "weights", "--task", "seen"]) == 2
    assert "on tasks.seen nothing is trained that could be analysed" in capsys.readouterr().err
    asked = load_experiment("asked.yaml")
    assert layout.analysis_files(asked) == [layout.weights_table("novel")]


def test_a_plan_counts_such_runs_and_their_sizes(layout, capsys):
    assert main(["plan", "seen.yaml", "--json", "plan.json"]) == 0
    capsys.readouterr()
    plan = json.loads(layout.root.parents[1].joinpath("plan.json").read_text())
    assert plan["stages"]["sample"]["jobs"] == 4 and plan["stages"]["reference"]["jobs"] == 2
    models = {one["name"]: one for one in plan["models"] if one["tasks"] == ["seen"]}
    assert set(models) == set(METHODS) - {"full"}
    for label, one in models.items():
        found = metrics(layout, label)["parameters"]
        assert one["trained"] == 0 and -16 < one["deployed"] - found["deployed"] <= 161, label
    assert models["recombined"]["macs"] == metrics(layout, "recombined")["parameters"]["macs"]
