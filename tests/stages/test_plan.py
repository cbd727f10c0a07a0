"""`python -m kind plan`: counts are exact, hours follow from a throughput, and nothing of an experiment is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kind.__main__ import main
from kind.params.file import load_experiment
from kind.planning.table import quantity

ROOT = Path(__file__).resolve().parents[2]
WIDTH, DEPTH, TOKENS = 32, 2, 16
BLOCK = TOKENS * 12 * WIDTH**2 + 6 * WIDTH**2 + 2 * TOKENS**2 * WIDTH
ENDS = TOKENS * WIDTH * 2 * 4 + 256 * WIDTH + 3 * WIDTH**2  # patches of 2 x 2 of one channel, in and out
DENSE = DEPTH * BLOCK + ENDS


def kind_macs(active):
    return DENSE - DEPTH * TOKENS * (12 * WIDTH**2 - active * (4 * (2 * WIDTH + 1) + 2 * (5 * WIDTH + 1)))


@pytest.fixture
def plan(tmp_path, capsys, valid_params):
    """plan(arguments, changes of the file's text) -> (JSON, text)."""

    def made(*arguments, **changes):
        text = valid_params
        for old, new in changes.get("edit", {}).items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "small.yaml").write_text(text)
        code = main(["plan", str(tmp_path / "small.yaml"), "--json", str(tmp_path / "plan.json"), *arguments])
        assert code == 0
        return json.loads((tmp_path / "plan.json").read_text()), capsys.readouterr().out

    return made


@pytest.fixture
def experiment(tmp_path, valid_params):
    (tmp_path / "small.yaml").write_text(valid_params)
    return load_experiment(tmp_path / "small.yaml")


def test_work_is_what_formulas_say(plan, experiment):
    found, text = plan("--tflops", "2")
    models = {(one["name"], one["classes"]): one for one in found["models"] if not one["tasks"]}
    backbone = experiment.backbones["kind"]
    active = backbone.num_learngenes + backbone.num_tailors
    assert models["dense", len(experiment.pretrain.classes)]["macs"] == DENSE
    assert models["kind", len(experiment.pretrain.classes)]["macs"] == kind_macs(active)
    pretrain = experiment.pretrain
    trained = 3 * pretrain.steps * pretrain.batch_size * (DENSE + kind_macs(active))
    assert found["stages"]["pretrain"]["macs"] == trained
    assert found["stages"]["pretrain"]["hours"] == pytest.approx(trained / 1e12 / 3600)
    by_name = {(one["name"], task): one["macs"] for one in found["models"] for task in one["tasks"]}
    runs, sampling = list(experiment.runs()), experiment.sampling
    steps = experiment.finetune.steps * experiment.finetune.batch_size
    assert found["stages"]["finetune"]["macs"] == sum(3 * steps * by_name[label, task] for task, label, _ in runs)
    curve = (len(experiment.curve_steps()) - 1) * (sampling.curve_num_samples or sampling.num_samples)
    images = curve + sampling.num_samples
    passes = images * sampling.num_inference_steps * (1 if sampling.guidance_scale == 1 else 2)
    assert found["stages"]["sample"]["macs"] == sum(passes * by_name[label, task] for task, label, _ in runs)
    assert "2 TFLOP/s, as given" in text and "in all" in text


def test_without_a_throughput_there_are_no_hours(plan):
    found, text = plan()
    assert found["throughput"] is None and "hours" not in found["stages"]["pretrain"]
    assert "no hours without a throughput" in text


@pytest.mark.slow  # it starts processes that load torch
def test_a_measured_throughput_is_of_both_forms(plan):
    found, text = plan("--measure")
    rates = found["throughput"]["tflops"]
    assert {f"{work} {form}" for work in ("train", "draw") for form in ("dense", "factorized", "adapted")} <= set(rates)
    assert all(0 < rate < 1e5 for rate in rates.values()) and found["throughput"]["startup_seconds"] > 0
    stage = found["stages"]["choose"] if "choose" in found["stages"] else found["stages"]["report"]
    assert stage["hours"] == pytest.approx(stage["jobs"] * found["throughput"]["startup_seconds"] / 3600)
    assert "a guided sampling step" in text


def test_parts_of_runs_are_jobs_that_do_the_work_of_the_whole(plan):
    one, _ = plan()
    compute = {"seeds: [0, 1]": "seeds: [0, 1]\ncompute: {sampling_jobs: 3, feature_jobs: 2}"}
    found, _ = plan(edit={**compute, "num_samples: 20, batch_size: 10": "num_samples: 200, batch_size: 100"})
    runs = 2 * 4 * 2
    assert found["stages"]["sample_part"]["jobs"] == 3 * runs, "pieces of 100 images, twice 200 of a run"
    assert found["stages"]["evaluate_part"]["jobs"] == 2 * runs
    assert found["stages"]["sample"]["jobs"] == found["stages"]["evaluate"]["jobs"] == runs
    assert found["stages"]["sample_part"]["macs"] == 10 * one["stages"]["sample"]["macs"]
    assert found["stages"]["sample"]["macs"] == 0
    assert "sample_part" not in one["stages"] and "reference_part" not in found["stages"]


def test_guidance_is_drawn_from_a_trial_of_each_method_at_each_scale(tmp_path):
    path = ROOT / "params" / "glyphs_ablations.yaml"
    assert main(["plan", str(path), "--json", str(tmp_path / "plan.json")]) == 0
    found, experiment = json.loads((tmp_path / "plan.json").read_text()), load_experiment(path)
    macs = {one["name"]: one["macs"] for one in found["models"] if one["tasks"]}  # 20 classes, as the tuning task has
    passes = 1 + 2 + 2 + 2  # a step, at the scales 1, 1.25, 1.5 and 2
    images = experiment.sampling.num_samples * experiment.sampling.num_inference_steps
    wanted = sum(passes * images * macs[label] for label in experiment.tuned())
    assert found["stages"]["analyse_guidance"] == {"jobs": 1, "macs": wanted}


def test_what_only_the_data_can_tell_is_said(capsys):
    assert main(["plan", str(ROOT / "params" / "imagenet_b.yaml")]) == 0
    out = capsys.readouterr().out
    assert "only the data can tell how many images there are: celebahq, hubble, mri, pokemon" in out


def test_a_collection_is_summed_up(capsys):
    assert main(["plan", str(ROOT / "params" / "paper.yaml"), "--tflops", "100"]) == 0
    tail = capsys.readouterr().out.split("experiment")[-1].splitlines()
    assert [line.split()[0] for line in tail[1:5]] == ["imagenet_b", "imagenet_l", "imagenet_ablations", "in"]


@pytest.mark.parametrize("given", ["0", "-1", "nan", "much"])
def test_a_throughput_is_a_number_above_nothing(capsys, given):
    with pytest.raises(SystemExit) as caught:
        main(["plan", "smoke", "--tflops", given])
    assert caught.value.code == 2 and f"expected a number greater than 0, found '{given}'" in capsys.readouterr().err


def test_json_in_no_folder_is_one_message(capsys):
    assert main(["plan", str(ROOT / "params" / "smoke.yaml"), "--json", "/none/plan.json"]) == 2
    assert "error: --json: /none is no folder" in capsys.readouterr().err


def test_a_plan_without_measuring_needs_no_torch():
    code = "import sys; from kind.__main__ import main; main(['plan', 'rivals']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("value", "text"), [(999, "999"), (1234, "1.23 k"), (45.4e6, "45.4 M"), (999.9e6, "1000 M"), (None, "?")]
)
def test_quantities_are_short(value, text):
    assert quantity(value) == text
