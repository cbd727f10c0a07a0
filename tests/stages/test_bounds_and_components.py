"""The analyses bounds and components through the command line, on the tiny experiment."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
import torch
from tiny_experiment import within

from kind import recipes
from kind.__main__ import main
from kind.artifacts import load_arrays, read_json, sha256
from kind.checkpoints import load_backbone, load_learngenes
from kind.data.prepared import load_split
from kind.evaluation.judge import load_judge
from kind.images import to_uint8
from kind.layout import Layout
from kind.params.file import load_experiment
from kind.random_streams import derive_seed, stream
from kind.sampling import sample_batch
from kind.stages import bounds, components
from kind.stages.bounds import draw_balanced
from kind.stages.yardstick import Yardstick

ANALYSES = "\nanalyses: {bounds: {}, components: {num_permutations: 99, images_per_class: 40}}\n"
BOUNDS = ["analyse", "--experiment", "asked.yaml", "--analysis", "bounds", "--task", "novel"]
COMPONENTS = ["analyse", "--experiment", "asked.yaml", "--analysis", "components"]


@pytest.fixture(scope="module")
def asked(tiny, tmp_path_factory):
    """The folder of work, analysed."""
    folder = tmp_path_factory.mktemp("asked")
    shutil.copytree(tiny.results, folder / "results" / "asked")
    text = (tiny.folder / "tiny.yaml").read_text().replace("num_samples: 20", "num_samples: 20, curve_num_samples: 12")
    (folder / "asked.yaml").write_text(text + ANALYSES)
    with within(folder):
        for command in (BOUNDS, COMPONENTS):
            assert main(command) == 0
    return folder


@pytest.fixture
def work(asked):
    with within(asked):
        yield Layout(asked / "results" / "asked")


def rows(path):
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def measured_as_files(work, images, labels=None):
    """What `python -m kind evaluate` says of these images against the task's reference, by name."""
    given, output = work.root / "given.npz", work.root / "given.json"
    np.savez(given, arr_0=images, **({} if labels is None else {"arr_1": labels}))
    command = ["evaluate", str(given), str(work.reference("novel")), "--output", str(output), "--cache", "none"]
    assert main([*command, "--extractor", str(work.extractor)]) == 0
    return read_json(output)


def check(row, wanted):
    """A row of the table has these values, and names of metrics besides that it has none for."""
    for name, value in wanted["values"].items():
        assert float(row[name]) == pytest.approx(value, rel=1e-9), name
    for name, interval in wanted["intervals"].items():
        assert [float(row[f"{name}_{end}"]) for end in ("low", "high")] == [interval["low"], interval["high"]]
    assert row["indicative"].split() == wanted["indicative"]


def real_images(work, count):
    found = load_split(work.data("digits"), "validation", ["7", "8"])
    chosen = draw_balanced(found.labels, np.arange(count) % 2, derive_seed(0, "bounds"))
    return found.take(chosen).images, found.labels[chosen]


def test_real_images_are_measured_as_files_and_by_the_judge(work):
    table = [row for row in rows(work.bounds_table("novel")) if row["what"] == "real"]
    assert [(row["num_samples"], row["num_distinct"]) for row in table] == [("20", "20"), ("12", "12")]
    assert {row["words"] for row in table} == {"real validation images"}
    images, labels = real_images(work, 20)
    np.testing.assert_array_equal(labels, np.arange(20) % 2)
    for row in table:
        count = int(row["num_samples"])
        check(row, measured_as_files(work, images[:count], labels[:count]))
        judge = load_judge(work.judge("novel"))
        own = [judge.class_names.index(f"digits/{name}") for name in ("7", "8")]
        assert float(row[f"accuracy_svc_{count}"]) == judge.accuracy(images[:count], np.array(own)[labels[:count]])


def test_metrics_have_the_names_that_they_have_in_the_table_of_runs(work):
    table, runs = rows(work.bounds_table("novel")), rows(work.root / "report" / "metrics.csv")
    ours = [name for name in table[0] if name.startswith(("fd_", "sfd_", "kd_", "class_", "precision_", "accuracy_"))]
    of_runs = [name for name in ours if "_20" in name]
    assert len(of_runs) > 8 and set(of_runs) <= set(runs[0])
    assert not any("nearest_train" in name for name in table[0])


@pytest.mark.parametrize("name", ["dense", "kind"])
def test_untouched_backbones_draw_with_the_null_label_and_kind_from_its_learngenes(work, name):
    """Those of kind come from the file of learngenes, which knows no other label."""
    loaded = load_learngenes(work.learngenes(name)) if name == "kind" else load_backbone(work.backbone_model(name))
    protocol, null = load_experiment("asked.yaml").sampling, loaded.model.config.num_classes
    batches = []
    for start in (0, 10):
        generators = [stream(derive_seed(0, 0), "sample", start + place) for place in range(10)]
        labels = torch.full((10,), null)
        drawn = sample_batch(loaded.model.eval(), loaded.diffusion, protocol, labels, generators, 1.0)
        batches.append(to_uint8(drawn))
    (row, fewer) = [row for row in rows(work.bounds_table("novel")) if row["backbone"] == name]
    assert row["words"] == {"dense": "dense, untouched", "kind": "learngenes of kind alone"}[name]
    check(row, measured_as_files(work, np.concatenate(batches)))
    check(fewer, measured_as_files(work, np.concatenate(batches)[:12]))
    no_label = [key for key in row if key.startswith(("accuracy_", "class_"))]
    assert len(no_label) > 5 and not any(row[key] for key in no_label)


def test_images_of_a_class_are_taken_again_only_when_all_have_been():
    there, wanted = np.array([0, 1, 1, 0, 1, 0]), np.arange(9) % 2
    chosen = draw_balanced(there, wanted, seed=4)
    np.testing.assert_array_equal(there[chosen], wanted)
    zeros, ones = chosen[wanted == 0], chosen[wanted == 1]
    assert sorted(zeros[:3]) == [0, 3, 5] and list(zeros[3:]) == list(zeros[:2])
    assert sorted(ones[:3]) == [1, 2, 4] and ones[3] == ones[0]
    assert list(draw_balanced(there, wanted, seed=4)) == list(chosen)
    assert any(list(draw_balanced(there, wanted, seed=seed)) != list(chosen) for seed in range(4))


AMONG = ", which are among the reference"


@pytest.mark.parametrize(
    "reference, count, split, words",
    [
        ("test", 20, "validation", "real validation images"),
        ("train", 20, "validation", "real validation images"),
        ("all", 20, "validation", f"real validation images{AMONG}"),
        ("validation", 20, "train", "real training images"),
        # more than there are validation images
        ("test", 150, "train", "real training images"),
        ("train", 150, "test", "real test images"),
        ("all", 150, "train", f"real training images{AMONG}"),
    ],
)
def test_real_images_are_others_than_the_reference_or_it_is_said(work, monkeypatch, reference, count, split, words):
    experiment = load_experiment("asked.yaml")
    evaluation = experiment.evaluation.model_copy(update={"reference": reference})
    experiment = experiment.model_copy(update={"evaluation": evaluation})
    context = bounds.Context(experiment, work, work.root / "x", None)
    monkeypatch.setattr(bounds, "counts_of", lambda context: [count])
    monkeypatch.setattr(Yardstick, "row", lambda _, images, name: {"pixels": images.read_all()})
    (row,) = bounds.measure_real(context, "novel")
    assert row["words"] == words
    there = {image.tobytes() for image in load_split(work.data("digits"), split, ["7", "8"]).images}
    assert all(image.tobytes() in there for image in row["pixels"])


def test_components_have_a_row_a_matrix_a_pair_and_a_block(work):
    energy, similarity, correlation, _ = work.component_files()
    assert len(rows(energy)) == 12 and {row["backbone"] for row in rows(energy)} == {"kind"}
    assert [(row["one"], row["other"]) for row in rows(similarity)] == [("0", "1"), ("0", "2"), ("1", "2")]
    found = [(row["block"], row["pictures"], row["num_pairs"]) for row in rows(correlation)]
    assert found == [(block, by, "3") for by in ("features", "pixels") for block in ("all", "0", "1")]
    assert all(0.01 <= float(row["p"]) <= 1 and -1 <= float(row["rho"]) <= 1 for row in rows(correlation))


def test_pictures_are_compared_by_the_first_training_images(work):
    images = load_split(work.data("digits"), "train", ["0", "1", "2"])
    means = np.stack([images.images[images.labels == label][:40].mean(0).ravel() for label in range(3)])
    means = means - means.mean(0)
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    found = [float(row["pixels"]) for row in rows(work.component_files()[1])]
    assert found == pytest.approx([unit[0] @ unit[1], unit[0] @ unit[2], unit[1] @ unit[2]], abs=1e-6)


def test_tailors_are_compared_over_all_matrices(work):
    modules = load_backbone(work.backbone_model("kind")).model.modules()
    layers = [layer for layer in modules if hasattr(layer, "tailor_u")]

    def of(label):
        found = [layer.dense_weight(label) - layer.dense_weight(None) for layer in layers]
        return np.concatenate([each.double().numpy().ravel() for each in found])

    vectors = np.stack([of(label) for label in range(3)])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = [float(row["tailors"]) for row in rows(work.component_files()[1])]
    assert found == pytest.approx([unit[0] @ unit[1], unit[0] @ unit[2], unit[1] @ unit[2]], abs=1e-5)


def test_learngenes_alone_draw_the_same_in_every_row_and_tailors_move_it(work):
    found = load_arrays(work.component_files()[-1])
    assert found["labels"].tolist() == [0] * 6 + [1] * 6 + [2] * 6
    alone, label, own = (found[f"kind.{how}"].reshape(3, 6, 8, 8, 1) for how in ("learngenes", "label", "tailors"))
    assert (alone == alone[0]).all() and not (own[0] == own[1]).all()
    assert not (label == own).all() and not (label == alone).all()
    real = load_split(work.data("digits"), "train", ["0", "1", "2"])
    np.testing.assert_array_equal(found["real"][found["real_labels"] == 1], real.images[real.labels == 1][:6])
    loaded = load_learngenes(work.learngenes("kind"))
    generators = [stream(derive_seed(0, 0), "sample", place) for place in range(6)]
    protocol = load_experiment("asked.yaml").sampling
    wanted = sample_batch(
        loaded.model.eval(), loaded.diffusion, protocol, torch.zeros(6, dtype=torch.long), generators, 1.0
    )
    np.testing.assert_array_equal(alone[2], to_uint8(wanted))


def test_the_jobs_leave_records_and_nothing_of_their_running(work):
    experiment = load_experiment("asked.yaml")
    for recipe, name, files in (
        (recipes.bounds(experiment, "novel"), "bounds_novel", [work.bounds_table("novel")]),
        (recipes.components(experiment), "components", work.component_files()),
    ):
        record = read_json(work.record(work.analyses, name))
        assert record["recipe_digest"] == recipes.recipe_digest(recipe)
        assert record["outputs"] == {path.name: sha256(path) for path in files}
    assert not (work.root / "state" / "analyse").exists() or not list((work.root / "state" / "analyse").rglob("*.json"))


@pytest.mark.parametrize(
    "command, module, part, seen, files",
    [
        (BOUNDS, bounds, "measure_untouched", ["dense", "kind", "kind"], lambda layout: [layout.bounds_table("novel")]),
        (COMPONENTS, components, "draw", ["kind", "kind"], Layout.component_files),
    ],
    ids=["bounds", "components"],
)
def test_one_that_was_killed_goes_on_with_the_same_bytes(work, monkeypatch, command, module, part, seen, files):
    wanted = [path.read_bytes() for path in files(work)]
    record = work.record(work.analyses, files(work)[0].stem.replace("_energy", ""))
    record.unlink()
    begun, before = [], getattr(module, part)
    measured = []

    def killed(context, *chosen):
        name = chosen[1] if part == "measure_untouched" else chosen[0]
        begun.append(name)
        if name == "kind" and begun.count("kind") == 1:
            raise KeyboardInterrupt
        return before(context, *chosen)

    other = "measure_real" if module is bounds else "measure"
    first = getattr(module, other)
    monkeypatch.setattr(module, part, killed)
    monkeypatch.setattr(module, other, lambda *given: measured.append(1) or first(*given))
    assert main(command) == 130 and not record.exists()
    assert main(command) == 0
    assert begun == seen and measured == [1], "what was done is not done again"
    assert [path.read_bytes() for path in files(work)] == wanted


@pytest.mark.parametrize(
    "command, message",
    [
        (BOUNDS[:-2], "--analysis bounds is of one task: give --task\n  -> tasks: novel\n"),
        (
            [*COMPONENTS, "--task", "novel"],
            "is of the backbones that methods start from: it takes no --task",
        ),
    ],
)
def test_what_an_analysis_is_of_must_be_given(work, capsys, command, message):
    assert main(command) == 2
    assert message in capsys.readouterr().err


def test_the_report_has_both(work):
    for stage, method in (("sample", "full"), ("sample", "kind"), ("evaluate", "full"), ("evaluate", "kind")):
        command = [stage, "--experiment", "asked.yaml", "--task", "novel", "--method", method, "--seed", "0"]
        assert main(command) == 0
    assert main(["report", "--experiment", "asked.yaml"]) == 0
    page = (work.report / "index.html").read_text()
    assert "learngenes of kind alone" in page and "What the components of kind draw" in page
    assert (work.report_grids / "components_kind.png").is_file()
    assert [row["images of"] for row in rows(work.report_summary / "bounds_novel.csv")][:3] == [
        "real validation images", "dense, untouched", "learngenes of kind alone",
    ]  # fmt: skip
