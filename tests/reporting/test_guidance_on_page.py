"""Guidance on the report page, from a file as the analyse stage writes it."""

from __future__ import annotations

import csv

import pytest
import synthetic_experiment as synthetic

from kind.artifacts import write_csv
from kind.errors import UserError
from kind.layout import Layout
from kind.reporting.report import write_report

ASKED = {"guidance": {"scales": [2.0, 1.0, 1.5]}}
TUNE = {"tasks": {"practice": {"guidance_scale": None}, "other": {"guidance_scale": 2.0}}}
FOUND = {  # Frechet distance by scale
    "kind": {2.0: 9.0, 1.0: 4.0, 1.5: 6.0},
    "full": {2.0: 8.0, 1.0: 7.0, 1.5: 5.0},
    "lora": {2.0: None, 1.0: 3.0, 1.5: 3.0},
}


def write_guidance(folder, mark=""):
    write_csv(Layout(folder).guidance_table, [
        {"task": task, "method": method, "learning_rate": 0.001, "guidance_scale": scale, "num_samples": 500,
         **({f"fd_digits_500_vs_{count}": quality, f"kd_digits_500_vs_{count}": 0.5}),
         f"fd_digits_500_vs_{count}_low": 77.0, "indicative": f"fd_digits_500_vs_{count}" if mark else ""}
        for task, count in (("practice", 60), ("other", 90)) for method, scales in FOUND.items()
        for scale, quality in scales.items()
    ], ["task", "method", "learning_rate", "guidance_scale", "num_samples", "fd_digits_500_vs_60",
        "kd_digits_500_vs_60", "fd_digits_500_vs_90", "kd_digits_500_vs_90", "fd_digits_500_vs_60_low",
        "fd_digits_500_vs_90_low", "indicative"])  # fmt: skip


def report(folder):
    asked = {"analyses": ASKED, "tune": TUNE, "sampling": {"guidance_scale": 1.5}}
    write_report(
        "smoke", synthetic.params() | asked, folder, folder / "report", seeds=synthetic.SEEDS, tasks=synthetic.TASKS,
        methods=synthetic.METHODS, command=synthetic.COMMAND,
    )  # fmt: skip
    return folder / "report"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = synthetic.write_experiment(tmp_path_factory.mktemp("results") / "smoke")
    write_guidance(folder)
    return report(folder)


def test_a_method_has_a_row_and_a_scale_a_column(finished):
    for task in TUNE["tasks"]:
        with open(finished / "summary" / f"guidance_{task}.csv", newline="") as handle:
            table = {row["method"]: row for row in csv.DictReader(handle)}
        assert list(table) == list(FOUND)
        means = [name for name in table["kind"] if name.endswith(".mean")]
        assert means == ["scale_1.mean", "scale_1.5.mean", "scale_2.mean"]
        for method, values in FOUND.items():
            found = {name: table[method][f"scale_{name:g}.mean"] for name in values}
            assert found == {scale: "" if value is None else str(value) for scale, value in values.items()}


def test_the_best_of_a_row_is_bold_and_the_protocol_s_scale_named(finished):
    lines = (finished / "summary" / "guidance_practice.md").read_text().splitlines()
    bold = {line.split(" | ")[0].strip("| "): [part.strip(" |") for part in line.split(" | ")[1:]] for line in lines}
    assert bold["kind"] == ["**4.00**", "6.00", "9.00"] and bold["full"] == ["7.00", "**5.00**", "8.00"]
    assert bold["lora"] == ["**3.00**", "**3.00**", "–"], "what reads alike is marked alike"
    assert any("| 1.5, the protocol's | 2 |" in line.replace("\\", "") for line in lines)
    other = (finished / "summary" / "guidance_other.md").read_text().replace("\\", "")
    assert "| 1.5 | 2, the protocol's |" in other, "which a task may have of its own"


def test_the_caption_says_what_it_is_of(finished):
    page = " ".join((finished / "index.html").read_text().split())
    assert "Guidance on practice: Fréchet distance ↓" in page
    for words in (
        "fd_digits_500_vs_60 of 500 samples by guidance scale. Single runs on the tuning task practice",
        "Rates were chosen at the scale 1.5. The reference are validation images, and nothing of the tasks of other",
        "What guidance does to each method.",
    ):
        assert words in page


def test_a_plot_has_a_line_a_method(finished):
    for form in ("svg", "png"):
        assert (finished / "plots" / f"guidance_practice.{form}").is_file()
    page = (finished / "index.html").read_text()
    assert "against guidance scale. Means at the right: kind 9; full 8; lora 3." in page
    text = (finished / "plots" / "guidance_practice.svg").read_text()
    assert all(f">{words}</text>" in text for words in ("1", "1.5", "2", "guidance scale", "kind", "full", "lora"))
    assert "indicative" not in text


def test_too_few_images_are_said_and_a_missing_file_is_one_message(tmp_path):
    folder = synthetic.write_experiment(tmp_path / "smoke")
    write_guidance(folder, mark="yes")
    page = report(folder)
    assert "indicative only" in (page / "plots" / "guidance_practice.svg").read_text()
    assert "† indicative only" in (page / "summary" / "guidance_practice.md").read_text()
    Layout(folder).guidance_table.unlink()
    with pytest.raises(UserError, match="guidance.csv: no such file\n  -> run the analyse stage"):
        report(folder)
