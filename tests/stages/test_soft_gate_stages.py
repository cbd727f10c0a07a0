"""A backbone with a soft gate, a run that trains nothing, and tailors that begin with seen ones, through all stages."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
from tiny_experiment import within

from kind.__main__ import main
from kind.artifacts import load_tensors, read_header, read_json, sha256
from kind.data.prepared import load_split
from kind.layout import Layout

METHODS = {
    "divgate": "{}",
    "zero-shot": "{method: divgate, train: nothing}",
    "mean": "{method: kind, tailor_start: mean}",
    "nearest": "{method: kind, tailor_start: nearest}",
}


def run_of(label):
    return ("--task", "novel", "--method", label, "--seed", "0")


@pytest.fixture(scope="module")
def layout(tiny, tmp_path_factory):
    """The tiny experiment with such entries, their stages run in this process."""
    folder = tmp_path_factory.mktemp("soft")
    shutil.copytree(tiny.results, folder / "results" / "soft")
    shutil.rmtree(folder / "results" / "soft" / "report")
    added = "".join(f", {label}: {options}" for label, options in METHODS.items())
    text = (tiny.folder / "tiny.yaml").read_text()
    text = text.replace("kind: {}}", f"kind: {{}}{added}}}")
    soft = "  kind-soft: {form: kind, gate: soft, num_learngenes: 20, num_tailors: 12, gate_hidden: [5]}\n"
    compared = "ablations: {begin: {axis: tailor_start, entries: [kind, mean, nearest]}}\n"
    (folder / "soft.yaml").write_text(text.replace("pretrain:", f"{soft}pretrain:") + compared)
    with within(folder):
        runs = [(stage, *run_of(label)) for label in METHODS for stage in ("finetune", "sample", "evaluate")]
        for stage, *chosen in (("pretrain", "--backbone", "kind-soft"), *runs, ("report",)):
            assert main([stage, "--experiment", "soft.yaml", *chosen]) == 0, (stage, chosen)
    return Layout(folder / "results" / "soft")


def test_the_gate_knows_the_classes_by_their_mean_images(layout):
    tensors, header = load_tensors(layout.backbone_model("kind-soft"))
    assert header["factorization"]["soft"] == {"hidden": [5], "scale": "tailors", "embedding_size": 64}
    train = load_split(layout.data("digits"), "train")
    means = np.stack([train.images[train.labels == label].mean(axis=0).ravel() for label in range(3)])
    vectors = means / 127.5 - 1
    np.testing.assert_allclose(tensors["class_shares.mean"], vectors.mean(axis=0), atol=1e-5)
    variance = vectors.var(axis=0)
    standard = (vectors - vectors.mean(axis=0)) / np.sqrt(np.maximum(variance, 0.01 * variance.mean()))
    np.testing.assert_allclose(tensors["class_shares.embeddings"], standard, atol=1e-4)


def test_a_run_that_trains_nothing_is_measured_as_any_other(layout):
    run = layout.run("novel", "zero-shot", 0)
    for step in (1, 3):
        tensors, _ = load_tensors(layout.adapted(run, step))
        assert tensors.keys() == {"class_shares.embeddings"} and tensors["class_shares.embeddings"].std() > 0
    with open(run / "train.csv") as handle:
        rows = list(csv.reader(handle))
    assert len(rows) == 1 and rows[0][:2] == ["step", "loss"]
    metrics = read_json(layout.metrics(run))
    assert metrics["parameters"]["trainable"] == metrics["parameters"]["trainable_label_table"] == 0
    assert read_json(run / "cost.json")["train_seconds"] == 0
    assert "zero-shot" in (layout.report / "metrics.csv").read_text()


def test_what_was_trained_is_kept_beside_the_embeddings(layout):
    tensors, header = load_tensors(layout.adapted(layout.run("novel", "divgate", 0), 3))
    assert header["start"] == sha256(layout.backbone_model("kind-soft"))
    again, _ = load_tensors(layout.adapted(layout.run("novel", "zero-shot", 0), 3))
    assert np.array_equal(tensors["class_shares.embeddings"], again["class_shares.embeddings"])
    assert {"class_shares.mlp.0.weight", "transformer_blocks.0.ff.net.2.tailor_u"} < tensors.keys()


@pytest.mark.parametrize("start", ["mean", "nearest"])
def test_seen_tailors_are_inputs_of_the_job_that_begins_with_them(layout, start):
    run = layout.run("novel", start, 0)
    inputs = {
        str((run / name).resolve()): digest for name, digest in read_json(run / "finetune.json")["inputs"].items()
    }
    for path in layout.tailors("kind", 3):
        assert inputs[str(path.resolve())] == sha256(path)
    assert ("embedding" in read_json(run / "finetune.json")["recipe"]) == (start == "nearest")
    plain = read_json(layout.run("novel", "kind", 0) / "finetune.json")
    assert not any("tailors" in name for name in plain["inputs"])
    assert not {"embedding", "seen"} & plain["recipe"].keys()
    assert read_header(layout.adapted(run, 3))["options"]["tailor_start"] == start


def test_an_ablation_of_the_params_has_its_table_and_plot_in_the_report(layout):
    with open(layout.report_tables / "novel.ablation-begin.csv", newline="") as handle:
        found = [(row["tailor_start"], row["entry"]) for row in csv.DictReader(handle)]
    assert found == [("random", "kind"), ("mean", "mean"), ("nearest", "nearest")]
    assert (layout.report_plots / "novel.ablation-begin.png").is_file()
    assert "Ablation begin on novel" in (layout.report / "index.html").read_text()
