"""The analysis guidance through the command line, on trials of the tiny experiment."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
import torch
import yaml
from tiny_experiment import within

from kind import recipes
from kind.__main__ import main
from kind.artifacts import read_json, sha256, write_json
from kind.checkpoints import load_adapted
from kind.images import to_uint8
from kind.layout import Layout
from kind.params.file import load_experiment
from kind.random_streams import derive_seed, stream
from kind.sampling import sample_batch
from kind.stages import guidance

SCALES, OWN, RATES = [2.0, 1.0, 1.5], 1.5, [1.0e-3, 1.0e-2]
CHOSEN = {"full": 2, "kind": 1}  # the number of the trial
GUIDANCE = ["analyse", "--experiment", "asked.yaml", "--analysis", "guidance"]


@pytest.fixture(scope="module")
def asked(tiny, tmp_path_factory):
    """The folder of work: the chosen trials run through all stages, then analysed."""
    folder = tmp_path_factory.mktemp("asked")
    shutil.copytree(tiny.results, folder / "results" / "asked", ignore=shutil.ignore_patterns("runs", "samples"))
    content = yaml.safe_load((tiny.folder / "tiny.yaml").read_text())
    del content["finetune"]["learning_rate"]
    content["sampling"]["guidance_scale"] = OWN
    tasks = {"near": {"data": "digits", "classes": [5, 6], "images_per_class": 20}}
    content["tune"] = {"tasks": tasks, "learning_rate": RATES, "seed": 5}
    content["analyses"] = {"guidance": {"scales": SCALES}}
    (folder / "asked.yaml").write_text(yaml.safe_dump(content))
    layout = Layout(folder / "results" / "asked")
    with within(folder):
        assert main(["reference", "--experiment", "asked.yaml", "--task", "near"]) == 0
        for label, number in CHOSEN.items():
            run = ["--task", "near", "--method", f"{label}@{number}", "--seed", "5"]
            for stage in ("finetune", "sample", "evaluate"):
                assert main([stage, "--experiment", "asked.yaml", *run]) == 0
            write_json(layout.tuned_rate(label), {"learning_rate": RATES[number - 1]})  # as the stage choose does
        assert main(GUIDANCE) == 0
    return folder


@pytest.fixture
def work(asked):
    with within(asked):
        yield Layout(asked / "results" / "asked")


def rows(layout):
    with open(layout.guidance_table, newline="") as handle:
        return list(csv.DictReader(handle))


def trial(layout, label):
    return layout.run("near", f"{label}@{CHOSEN[label]}", 5)


def test_there_is_a_row_for_each_method_and_scale(work):
    keys = ("task", "method", "learning_rate", "guidance_scale", "num_samples")
    wanted = [("near", label, RATES[number - 1], scale, 20) for label, number in CHOSEN.items() for scale in SCALES]
    assert [tuple(row[key] for key in keys) for row in rows(work)] == [tuple(map(str, one)) for one in wanted]


@pytest.mark.parametrize("label", CHOSEN)
def test_at_the_protocol_s_scale_a_row_has_the_values_of_the_trial_to_the_last_bit(work, label):
    metrics = read_json(work.metrics(trial(work, label)))
    own = {float(row["guidance_scale"]): row for row in rows(work) if row["method"] == label}
    numbers = {name: float(value) if value else None for name, value in own[OWN].items() if name in metrics["values"]}
    assert numbers == metrics["values"] and len(numbers) > 8
    assert any(name.startswith("nearest_train") for name in numbers)
    for name, interval in metrics["intervals"].items():
        assert [float(own[OWN][f"{name}_{end}"]) for end in ("low", "high")] == [interval["low"], interval["high"]]
    assert own[OWN]["indicative"].split() == metrics["indicative"]


def test_without_guidance_the_labels_alone_are_drawn_and_scales_differ(work):
    protocol, run = load_experiment("asked.yaml").sampling, trial(work, "full")
    loaded = load_adapted(work.adapted(run, 3), work.backbone_model("dense"))
    labels = torch.arange(20) % 2
    batches = []
    for start in (0, 10):
        generators = [stream(derive_seed(0, 5), "sample", start + place) for place in range(10)]
        chosen = labels[start : start + 10]
        batches.append(to_uint8(sample_batch(loaded.model.eval(), loaded.diffusion, protocol, chosen, generators, 1.0)))
    given, output = work.root / "given.npz", work.root / "given.json"
    np.savez(given, arr_0=np.concatenate(batches), arr_1=labels.numpy())
    command = ["evaluate", str(given), str(work.reference("near")), "--output", str(output), "--cache", "none"]
    assert main([*command, "--extractor", str(work.extractor)]) == 0
    of_full = {float(row["guidance_scale"]): row for row in rows(work) if row["method"] == "full"}
    (distance,) = [name for name in of_full[1.0] if name.startswith("fd_") and "_vs_" in name]
    assert len({row[distance] for row in of_full.values()}) == len(SCALES)
    row = of_full[1.0]
    for name, value in read_json(output)["values"].items():
        assert float(row[name]) == pytest.approx(value, rel=1e-9), name


def test_one_that_was_killed_goes_on_with_the_same_bytes(work, monkeypatch):
    wanted, record = work.guidance_table.read_bytes(), work.record(work.analyses, "guidance")
    recipe = recipes.guidance(load_experiment("asked.yaml"))
    assert read_json(record)["recipe_digest"] == recipes.recipe_digest(recipe)
    assert read_json(record)["outputs"] == {"guidance.csv": sha256(work.guidance_table)}
    record.unlink()
    begun, before = [], guidance.measure

    def killed(this, scale, yardstick):
        begun.append((this.label, scale))
        if begun.count(("kind@1", 2.0)) == 1 and begun[-1] == ("kind@1", 2.0):
            raise KeyboardInterrupt
        return before(this, scale, yardstick)

    monkeypatch.setattr(guidance, "measure", killed)
    assert main(GUIDANCE) == 130 and not record.exists()
    assert main(GUIDANCE) == 0
    of_full, of_kind = ([(label, scale) for scale in SCALES] for label in ("full@2", "kind@1"))
    assert begun == [*of_full, of_kind[0], *of_kind], "what was done is not done again"
    assert work.guidance_table.read_bytes() == wanted


def test_it_is_of_all_tuning_tasks(work, capsys):
    assert main([*GUIDANCE, "--task", "near"]) == 2
    assert "--analysis guidance is of the tasks of `tune`: it takes no --task" in capsys.readouterr().err


def test_a_rate_that_is_not_tried_any_more_is_one_message(work, capsys):
    path = work.tuned_rate("full")
    before = path.read_bytes()
    write_json(path, {"learning_rate": 0.5})
    try:
        assert main(GUIDANCE) == 2
    finally:
        path.write_bytes(before)
    said = capsys.readouterr().err
    assert "full.rate.json: 0.5 is none of the rates that are tried with full: 0.001, 0.01\n  -> run the choose" in said


def test_without_a_choice_it_is_one_message(work, capsys):
    path = work.tuned_rate("kind")
    before = path.read_bytes()
    path.unlink()
    try:
        assert main(GUIDANCE) == 2
    finally:
        path.write_bytes(before)
    said = capsys.readouterr().err
    assert "kind.rate.json" in said and "Traceback" not in said
