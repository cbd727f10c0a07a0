"""Numbers in the README and on the page of evidence are those of the reports: docs/fill.py."""

import csv
import importlib.util
import math
import re
import shutil
import statistics
from pathlib import Path

import pytest
import synthetic_experiment as synthetic

from kind.params.ablations import Settings
from kind.reporting.report import write_report

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fill():
    spec = importlib.util.spec_from_file_location("fill", ROOT / "docs" / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project with the report of a synthetic experiment."""
    root = tmp_path_factory.mktemp("project")
    folder = synthetic.write_experiment(root / "results" / "smoke")
    write_report(
        "smoke", synthetic.params(), folder, folder / "report", synthetic.SEEDS, synthetic.TASKS, synthetic.METHODS,
        synthetic.COMMAND, ablations=[Settings("parts", None, "lora", {"lora": "low rank", "full": "all weights"})],
    )  # fmt: skip
    return root


def marked(part):
    return f"before\n<!-- fill: {part} -->\nold\n<!-- end -->\nafter\n"


@pytest.mark.parametrize("name", ["README.md", "docs/evidence.md"])
def test_pages_are_what_the_results_say(fill, name):
    text = (ROOT / name).read_text()
    assert fill.MARK.search(text), "a page without any number of results"
    assert fill.filled(text) == text, "run: make docs"


def test_the_headline_has_the_means_of_metrics_csv(fill, root, monkeypatch):
    monkeypatch.setattr(fill, "ROOT", root)
    page = fill.filled(marked("headline smoke"))
    with open(root / "results/smoke/report/metrics.csv", newline="") as handle:
        runs = list(csv.DictReader(handle))
    for method in synthetic.METHODS:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {method} |")]
        shown = [cell.strip() for cell in line.strip("|").split("|")][3:]
        logs = []
        for cell, task in zip(shown, synthetic.TASKS, strict=False):
            name = f"fd_digits_500_vs_{synthetic.REFERENCE[task]}"
            values = {
                (run["method"], run["seed"]): float(run[name]) for run in runs if run["task"] == task and run[name]
            }
            own = [value for (label, _), value in values.items() if label == method]
            mean, deviation = (float(number) for number in cell.split(" ± "))
            assert mean == pytest.approx(statistics.fmean(own), rel=5e-3)
            assert deviation == pytest.approx(statistics.stdev(own), abs=0.06)
            logs.append(statistics.fmean(math.log(values[method, seed] / values["kind", seed]) for seed in "01"))
        ratio = float(shown[-1].split()[0])
        assert ratio == pytest.approx(math.exp(statistics.fmean(logs)), abs=6e-3)


def test_a_changed_number_changes_the_page(fill, root, tmp_path, monkeypatch):
    shutil.copytree(root / "results/smoke/report", tmp_path / "results/smoke/report")
    monkeypatch.setattr(fill, "ROOT", tmp_path)
    parts = ["headline smoke", "quality smoke novel", "facts smoke", "copies smoke", "curves smoke"]
    before = {part: fill.filled(marked(part)) for part in parts}
    assert all("\nold\n" not in page for page in before.values())
    path = tmp_path / "results/smoke/report/metrics.csv"
    rows = list(csv.DictReader(path.open(newline="")))
    for key in (
        "fd_digits_500_vs_180",
        "cost_train_cpu_seconds",
        "cost_train_seconds",
        "memorisation_share_below_test_p5",
    ):
        if rows[0].get(key):
            rows[0][key] = str(9 * float(rows[0][key]) + 9000)
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    path = path.with_name("curves.csv")
    path.write_text(path.read_text().replace("smoke,novel,kind,0,75,", "smoke,novel,kind,0,75,9", 1))
    assert [part for part in parts if fill.filled(marked(part)) == before[part]] == []


def test_findings_stand_on_their_sides(fill, root, monkeypatch):
    monkeypatch.setattr(fill, "ROOT", root)
    lines = fill.filled(marked("finding smoke overall")).splitlines()[2:5]
    assert [line.split(":")[0] for line in lines] == ["- Better than `kind`", "- Not apart from it", "- Worse"]
    assert lines[0].endswith(": none.")
    assert re.findall(r"(\w+) \d+\.\d\d \(", lines[2]) == ["full", "lora", "scratch"]


def test_an_ablation_has_means_and_differences_seed_by_seed(fill, root, monkeypatch):
    monkeypatch.setattr(fill, "ROOT", root)
    head, _, *lines = fill.filled(marked("ablation smoke novel parts")).splitlines()[2:6]
    assert head.startswith("| setting | entry | Fréchet distance ↓ | − lora (95 %) | Precision ↑ | Recall ↑ |")
    with open(root / "results/smoke/report/metrics.csv", newline="") as handle:
        runs = [run for run in csv.DictReader(handle) if run["task"] == "novel"]
    of = {
        label: [float(run["fd_digits_500_vs_180"]) for run in runs if run["method"] == label]
        for label in ("lora", "full")
    }
    for line, (label, values) in zip(lines, of.items(), strict=True):
        setting, entry, mean, apart, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        assert (setting, entry) == ({"lora": "low rank", "full": "all weights"}[label], label)
        assert float(mean.split(" ± ")[0]) == pytest.approx(statistics.fmean(values), abs=0.06)
        gaps = [one - other for one, other in zip(values, of["lora"], strict=True)]
        half = 12.706 * statistics.stdev(gaps) / math.sqrt(2)  # Student's for two seeds
        found = [float(number.replace("−", "-")) for number in re.findall(r"−?[\d.]+", apart)]
        wanted = [statistics.fmean(gaps), statistics.fmean(gaps) - half, statistics.fmean(gaps) + half]
        assert found == ([] if label == "lora" else pytest.approx(wanted, abs=0.06))


def test_a_table_stands_as_in_the_report(fill, root, monkeypatch):
    monkeypatch.setattr(fill, "ROOT", root)
    page = fill.filled(marked("table smoke tables/novel.paired"))
    assert "| full − kind |" in page.replace("\\", "")
    assert "Differences of the two runs" in page


def test_what_there_is_no_report_of_stays(fill, root, monkeypatch):
    monkeypatch.setattr(fill, "ROOT", root)
    assert fill.filled(marked("headline nothing")) == marked("headline nothing")
    with pytest.raises(SystemExit, match="no part is called tabel"):
        fill.filled(marked("tabel smoke summary/overall"))
