"""The stages of a tiny experiment: what they import, what they leave, and that what they leave is finished."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from tiny_experiment import within

from kind import recipes
from kind.__main__ import main
from kind.artifacts import load_arrays, read_header, read_json, sha256
from kind.layout import Layout
from kind.params.file import load_experiment

RUN = ["--task", "novel", "--method", "full", "--seed", "0"]


@pytest.fixture(scope="module")
def params(tiny):
    return load_experiment(tiny.folder / "tiny.yaml")


@pytest.fixture(scope="module")
def layout(tiny):
    return Layout(tiny.results)


# --- imports --------------------------------------------------------------------------------------------------

NEEDLESS = {
    "check": {"numpy", "torch"},
    "prepare --data digits": {"torch", "matplotlib", "pandas", "scipy"},
    "extractor": {"diffusers", "sklearn", "scipy", "peft"},
    "reference --task novel": {"diffusers", "peft", "transformers"},
    "pretrain --backbone kind": {"peft", "transformers", "accelerate", "scipy", "sklearn", "torchvision"},
    f"finetune {' '.join(RUN)}": {
        "peft",
        "transformers",
        "accelerate",
        "scipy",
        "sklearn",
        "matplotlib",
        "torchvision",
    },
    f"sample {' '.join(RUN)}": {"peft", "transformers", "accelerate", "scipy", "sklearn", "matplotlib", "torchvision"},
    f"evaluate {' '.join(RUN)}": {"diffusers", "peft", "transformers", "sklearn", "scipy", "matplotlib", "torchvision"},
    "report": {"torch", "diffusers", "sklearn", "scipy"},
}


@pytest.mark.parametrize("command", NEEDLESS)
def test_a_stage_imports_only_what_it_needs(tiny, command):
    assert NEEDLESS[command].isdisjoint(tiny.ended[command].imported)


# --- what they leave --------------------------------------------------------------------------------------------


def records(params, layout):
    """Every job of the experiment: (recipe, record, outputs)."""
    run = {method: layout.run("novel", method, 0) for method in params.methods}
    steps = params.curve_steps()
    yield (
        recipes.prepare(params, "digits"),
        layout.record(layout.data("digits"), "prepare"),
        layout.data_files("digits"),
    )
    yield recipes.extractor(params), layout.record(layout.extractor.parent, "extractor"), [layout.extractor]
    reference = [layout.reference("novel"), layout.judge("novel")]
    yield recipes.reference(params, "novel"), layout.record(reference[0].parent, "novel"), reference
    for name in params.backbones:
        yield (
            recipes.pretrain(params, name),
            layout.record(layout.backbone(name), "pretrain"),
            layout.backbone_files(name),
        )
    parts = [layout.learngenes("kind"), *layout.tailors("kind", 3)]
    yield recipes.extract(params, "kind"), layout.record(parts[0].parent, "extract"), parts
    for method, folder in run.items():
        name = ("novel", method, 0)
        yield recipes.finetune(params, *name), layout.record(folder, "finetune"), layout.adapted_files(folder, steps)
        shards = [path for step in steps for path in layout.samples(folder, step, 20, 10)]
        yield recipes.sample(params, *name), layout.record(folder, "sample"), shards
        yield recipes.evaluate(params, *name), layout.record(folder, "evaluate"), [layout.metrics(folder)]
    yield recipes.report(params), layout.record(layout.report, "report"), layout.report_files()


def test_every_job_leaves_a_record_of_what_it_was_told_read_and_wrote(params, layout):
    for recipe, path, outputs in records(params, layout):
        record, folder = read_json(path), path.parent
        assert record["recipe"] == json.loads(json.dumps(recipe)), path
        assert record["recipe_digest"] == recipes.recipe_digest(recipe)
        listed = {(folder / name).resolve() for name in record["outputs"]}
        assert listed == {path.resolve() for path in outputs if path.name != "cost.json"}
        for name, digest in {**record["inputs"], **record["outputs"]}.items():
            assert sha256(folder / name) == digest
        assert {"code", "python", "versions"} <= record["provenance"].keys()
        assert all(path.is_file() for path in outputs)


def test_nothing_is_left_of_the_running(tiny):
    left = [path for path in tiny.results.rglob("*") if path.name == "lock" or path.suffix == ".tmp"]
    assert left == [] and not list((tiny.results / "state").rglob("*.pt"))


def test_samples_are_shards_of_the_classes_in_turn(params, layout):
    shards = [
        load_arrays(path, ("arr_0", "arr_1")) for path in layout.samples(layout.run("novel", "kind", 0), 3, 20, 10)
    ]
    assert [shard["arr_0"].shape for shard in shards] == [(10, 8, 8, 1)] * 2
    assert all(shard["arr_0"].dtype == np.uint8 for shard in shards)
    assert np.concatenate([shard["arr_1"] for shard in shards]).tolist() == [0, 1] * 10


def test_metrics_say_what_was_measured_and_how(params, layout):
    metrics = [read_json(layout.metrics(layout.run("novel", method, 0))) for method in ("full", "kind")]
    assert [one["method"] for one in metrics] == ["full", "kind"]
    assert metrics[0]["protocol_hash"] == metrics[1]["protocol_hash"]
    protocol = metrics[0]["protocol"]
    assert protocol["reference"]["extractor_sha256"] == sha256(layout.extractor)
    assert protocol["reference"]["num_images"] == 30 and protocol["sampling"]["num_inference_steps"] == 2
    assert set(metrics[0]["steps"]) == {"1", "3"} and metrics[0]["final_step"] == 3


def test_an_adapted_file_names_its_method_classes_and_start(params, layout):
    folder = layout.run("novel", "kind", 0)
    header = read_header(layout.adapted(folder, 3))
    assert (header["method"], header["classes"], header["step"], header["averaged"]) == ("kind", ["7", "8"], 3, True)
    assert header["start"] == sha256(layout.learngenes("kind"))
    assert read_header(layout.raw_adapted(folder))["averaged"] is False


def test_both_backbones_begin_alike_and_keep_their_classes(layout):
    headers = [read_header(layout.backbone_model(name)) for name in ("dense", "kind")]
    assert [header["classes"] for header in headers] == [["0", "1", "2"]] * 2
    assert headers[0]["config"] == headers[1]["config"]
    previews = [load_arrays(layout.backbone(name) / "preview.npz") for name in ("dense", "kind")]
    assert [preview["arr_0"].shape for preview in previews] == [(24, 8, 8, 1)] * 2


# --- running again --------------------------------------------------------------------------------------------


def test_a_finished_stage_run_again_ends_at_once_and_touches_nothing(tiny, cli):
    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tiny.results.rglob("*")}

    before = state()
    for arguments in (["finetune", *RUN], ["evaluate", *RUN], ["report"]):
        done = cli(*tiny.command(*arguments))
        assert done.returncode == 0 and "already done: " in done.stderr, done.stderr
    assert {path: found for path, found in state().items() if not path.is_dir()} == {
        path: found for path, found in before.items() if not path.is_dir()
    }
    assert not list((tiny.results / "state").rglob("lock"))


def test_finished_results_are_finished_wherever_they_lie(tiny, cli, tmp_path):
    """Another folder, named by an absolute path, from another working directory: nothing runs again."""
    shutil.copytree(tiny.results, tmp_path / "moved" / "tiny")
    shutil.copy(tiny.folder / "tiny.yaml", tmp_path)
    (tmp_path / "elsewhere").mkdir()
    arguments = ["evaluate", "--experiment", "../tiny.yaml", "--results", str(tmp_path / "moved"), *RUN]
    done = cli(*arguments, folder=tmp_path / "elsewhere")
    assert done.returncode == 0 and "already done: " in done.stderr, done.stderr


def test_a_stage_names_the_inputs_that_are_missing(tiny, cli, tmp_path):
    done = cli("evaluate", "--experiment", "tiny.yaml", "--results", str(tmp_path), *RUN)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"error: missing input: {tmp_path / 'tiny' / 'samples' / 'novel' / 'full' / 'seed_0'}" in done.stderr
    assert "run the stages that write it first, or snakemake" in done.stderr


def test_a_planned_recipe_that_is_no_longer_true_is_refused(tiny, cli, params):
    digest = recipes.recipe_digest(recipes.finetune(params, "novel", "full", 0))
    assert cli(*tiny.command("finetune", *RUN, "--recipe", digest)).returncode == 0
    done = cli(*tiny.command("finetune", *RUN, "--recipe", "0123456789ab"))
    assert done.returncode == 2
    assert f"its recipe is {digest} now, 0123456789ab then\n  -> run snakemake again" in done.stderr


def test_an_image_size_that_the_backbone_does_not_take_is_one_message(tiny, tmp_path, capsys):
    """Letters of 12 x 12 pixels for a backbone of 8 x 8.  In this process, where diffusers may be imported already."""
    shutil.copytree(tiny.results, tmp_path / "results" / "big")
    text = (tiny.folder / "tiny.yaml").read_text()
    text = text.replace("tasks:\n", "tasks:\n  shift: {data: letters, classes: [A, C]}\n").replace(
        "data:\n", "data:\n  letters: {source: letters, options: {size: 12, images_per_class: 80}}\n", 1
    )
    (tmp_path / "big.yaml").write_text(text)
    with within(tmp_path):
        assert main(["prepare", "--experiment", "big.yaml", "--data", "letters"]) == 0
        assert main(["finetune", "--experiment", "big.yaml", "--task", "shift", *RUN[2:]]) == 2
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "error: task shift: images of (height, width, channels) (12, 12, 1), but the backbone takes (8, 8, 1)",
        "  -> give the task's data set images of the size that the backbone was pre-trained with",
    ]
