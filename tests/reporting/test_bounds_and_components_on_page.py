"""Bounds and components on the report page, from files as the analyse stage writes them."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
import synthetic_experiment as synthetic
from PIL import Image

from kind.artifacts import save_arrays, write_csv
from kind.errors import UserError
from kind.layout import Layout
from kind.reporting.report import write_report

ASKED = {"bounds": {}, "components": {"num_permutations": 99, "images_per_class": 40, "seed": 0}}
REAL = {"novel": 2.5, "shift": 3.5}  # Frechet distances of 500 real images; of 200 one more
CLASSES = "0123456"
NUMBERS = {"rho": 0.25, "p": 0.01, "num_classes": 7, "num_pairs": 21, "num_permutations": 99}


def write_bounds(folder):
    for task, value in REAL.items():
        reference = synthetic.REFERENCE[task]
        rows = []
        for what, backbone, words, worse in (
            ("real", "", "real training images", 0.0),
            ("untouched", "dense", "dense, untouched", 400.0),
            ("untouched", "kind", "learngenes of kind alone", 500.0),
        ):
            for samples, more in ((500, 0.0), (200, 1.0)):
                named = synthetic.values(value + worse + more, samples, reference)
                if what == "untouched":
                    named |= {name: None for name in named if name.startswith("accuracy")}
                named.pop(f"nearest_train_{samples}")
                about = {"task": task, "what": what, "backbone": backbone, "words": words, "num_samples": samples}
                rows.append({**about, "num_distinct": samples if what == "real" else "", **named, "indicative": ""})
        write_csv(Layout(folder).bounds_table(task), rows)


def write_components(folder, pixels=True):
    energy, similarity, correlation, pictures = Layout(folder).component_files()
    write_csv(energy, [
        {"backbone": "kind", "block": block, "matrix": kind, "learngene_energy": 9.0, "tailor_energy_mean": 1.0,
         "tailor_energy_std": 0.1, "tailor_share": 0.1 + 0.05 * block}
        for block in (0, 1) for kind in ("q", "in")
    ])  # fmt: skip
    pairs = [(one, other) for one in CLASSES for other in CLASSES if one < other]
    write_csv(similarity, [  # neighbours in the row of digits are alike by tailors; by features 0 is like 6, too
        {"backbone": "kind", "one": one, "other": other, "tailors": 1 / (int(other) - int(one)),
         "features": 2.0 if one + other == "06" else 1 / (int(other) - int(one)), "pixels": 0.5 if pixels else ""}
        for one, other in pairs
    ])  # fmt: skip
    write_csv(correlation, [
        {"backbone": "kind", "block": block, "pictures": by, **NUMBERS}
        for by in ("features", "pixels")[: 1 + pixels] for block in ("all", 0, 1)
    ])  # fmt: skip
    labels = np.repeat([0, 1, 2, 3, 4, 5, 6], 6)
    drawn = {
        f"kind.{how}": synthetic.images(42, 7, 0.1, seed)[0]
        for seed, how in enumerate(("tailors", "label", "learngenes"))
    }
    save_arrays(pictures, labels=labels, real=synthetic.images(42, 7, 0.1, 9)[0], real_labels=labels, **drawn)


def report(folder, asked, output="report"):
    write_report(
        "smoke", synthetic.params() | {"analyses": asked}, folder, folder / output, seeds=synthetic.SEEDS,
        tasks=synthetic.TASKS, methods=synthetic.METHODS, command=synthetic.COMMAND,
    )  # fmt: skip
    return folder / output


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = synthetic.write_experiment(tmp_path_factory.mktemp("results") / "smoke")
    write_bounds(folder)
    write_components(folder)
    return folder


@pytest.fixture(scope="module")
def finished(experiment):
    return report(experiment, ASKED)


@pytest.fixture(scope="module")
def without(experiment):
    return report(experiment, None, "without")


def rows(path):
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_bounds_stand_beside_scratch_and_the_best_method(finished):
    table = {row["images of"]: row for row in rows(finished / "summary" / "bounds_shift.csv")}
    assert list(table) == [
        "real training images", "dense, untouched", "learngenes of kind alone", "scratch", "kind (best of the methods)",
    ]  # fmt: skip
    name = "fd_digits_500_vs_240.mean"
    assert [float(table[key][name]) for key in list(table)[:3]] == pytest.approx([3.5, 403.5, 503.5])
    quality = {row["method"]: row for row in rows(finished / "tables" / "shift.csv")}
    assert table["scratch"][name] == quality["scratch"][name]
    assert table["kind (best of the methods)"][name] == quality["kind"][name]
    assert table["dense, untouched"]["accuracy_svc_500.mean"] == "" != table["real training images"][name]
    assert not any(key.startswith(("fd_digits_200", "nearest_train")) or key.endswith(".best") for key in rows(
        finished / "summary" / "bounds_shift.csv")[0])  # fmt: skip


def test_plots_have_a_line_at_real_images_of_as_many_samples(finished, without):
    ours, theirs = ((place / "plots" / "novel_fd_digits.svg").read_text() for place in (finished, without))
    assert "dashed: real images" in ours and "dashed" not in theirs
    page = (finished / "index.html").read_text()
    assert "Real images: 3.5." in page, "of 200 samples, as points of the curve are"
    judged = (finished / "plots" / "novel_accuracy_svc.svg").read_text()
    assert "dashed" not in judged, "the judge was trained on these images"


def test_nothing_else_on_the_page_moves(finished, without):
    for name in ("metrics.csv", "tables/novel.csv", "plots/novel_trade_off.svg", "plots/novel_loss.svg"):
        assert (finished / name).read_bytes() == (without / name).read_bytes()
    assert 'id="analyses"' not in (without / "index.html").read_text()


def test_components_have_tables_plots_and_pictures(finished):
    page = (finished / "index.html").read_text()
    assert "Tailors and pictures" in page and "ρ = 0.25, p = 0.01" in page
    assert "What a metric can be at best, and without any adaptation; what learngenes and tailors hold." in page
    assert "and never with a label but without its tailors" in page
    for title in ("with its tailors", "label, no tailors", "learngenes alone"):
        assert f"{title}</figcaption>" in page
    found = [(row["pictures by"], row["tailors of"]) for row in rows(finished / "summary" / "components.csv")]
    blocks = ("all blocks", "block 0", "block 1")
    assert found == [(by, block) for by in ("mean features", "mean images") for block in blocks]
    for name in ("energy", "features", "pixels"):
        assert (finished / "plots" / f"components_kind_{name}.svg").is_file()
    assert Image.open(finished / "grids" / "components_kind.png").width > 300


def test_nearest_classes_are_found_and_counted(finished):
    table = {row["class"]: row for row in rows(finished / "summary" / "components_nearest.csv")}
    assert list(table) == list(CLASSES)
    assert (table["0"]["nearest by tailors"], table["0"]["nearest by mean features"]) == ("1", "6")
    assert (table["6"]["nearest by tailors"], table["6"]["nearest by mean features"]) == ("5", "0")
    assert float(table["0"]["features.mean"]) == 2.0
    said = (finished / "summary" / "components_nearest.md").read_text()
    assert "mean features of 5 of 7" in said


def test_of_latents_there_are_no_pixels(tmp_path):
    folder = synthetic.write_experiment(tmp_path / "smoke")
    write_components(folder, pixels=False)
    found = report(folder, {"components": ASKED["components"]})
    assert not (found / "plots" / "components_kind_pixels.svg").exists()
    assert {row["pictures by"] for row in rows(found / "summary" / "components.csv")} == {"mean features"}
    assert "nearest by mean images" not in rows(found / "summary" / "components_nearest.csv")[0]


def test_every_row_of_every_table_has_as_many_cells_as_the_head(finished):
    page = (finished / "index.html").read_text()
    tables = re.findall(r"<table>(.*?)</table>", page, re.S)
    widths = [[len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr.*?</tr>", one, re.S)] for one in tables]
    assert all(len(set(counts)) == 1 for counts in widths), widths


@pytest.mark.parametrize("lacks", ["bounds_shift.csv", "components_energy.csv", "components_pictures.npz"])
def test_a_missing_file_is_one_message_and_nothing_is_written(tmp_path, lacks):
    folder = synthetic.write_experiment(tmp_path / "smoke")
    write_bounds(folder)
    write_components(folder)
    (folder / "analyses" / lacks).unlink()
    with pytest.raises(UserError, match=rf"{lacks}: no such file\n  -> run the analyse stage"):
        report(folder, ASKED)
    assert not (folder / "report").exists()
