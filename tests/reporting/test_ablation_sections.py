"""Ablations in the report: a table and a plot each, with differences to the base, over numbers, choices and sizes."""

from __future__ import annotations

import csv
import html.parser
import math
import re
import statistics
from dataclasses import replace

import pytest
import synthetic_experiment as synthetic

from kind.artifacts import read_json
from kind.params.ablations import Settings
from kind.reporting.ablations import ablation_sections, mean_interval
from kind.reporting.comparisons import HEADLINE
from kind.reporting.labels import method_styles
from kind.reporting.report import load_runs, write_report

FD = "fd_digits_500_vs_180"
TASKS = {"novel": synthetic.TASKS["novel"]}
METHODS = {
    "kind": {"num_tailors": 2},
    "few": {"method": "kind", "num_tailors": 1},
    "many": {"method": "kind", "num_tailors": 30},
    "full": {},
}
SEEDS = [0, 1, 2]
ABLATIONS = [
    Settings("tailors", "num_tailors", "kind", {"many": 30, "few": 1, "kind": 2}),
    Settings("begin", "tailor_start", "few", {"kind": "zero & <b>", "few": "random"}),
    Settings("parts", None, "kind", {"kind": "gate, factorized", "full": "neither of the two, as it were 100 %"}),
    Settings("listed", None, "full", {"full": None, "kind": None}),
    Settings("size", "trainable_parameters", "kind", dict.fromkeys(METHODS)),
]
NAMES = [one.name for one in ABLATIONS]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return synthetic.write_experiment(tmp_path_factory.mktemp("results") / "smoke", TASKS, METHODS, SEEDS)


@pytest.fixture(scope="module")
def finished(experiment):
    write_report(
        "smoke", synthetic.params(TASKS, METHODS, SEEDS), experiment, experiment / "report", seeds=SEEDS, tasks=TASKS,
        methods=METHODS, command=synthetic.COMMAND, ablations=ABLATIONS,
    )  # fmt: skip
    return experiment / "report"


def rows(finished, name):
    with open(finished / "tables" / f"novel.ablation-{name}.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def values(experiment, method, name=FD):
    runs = [experiment / f"runs/novel/{method}/seed_{seed}" for seed in SEEDS]
    return [read_json(run / "metrics.json")["values"][name] for run in runs]


def test_every_ablation_has_its_table_and_plot_as_files(finished):
    for folder, kinds in {"tables": ("csv", "md", "tex"), "plots": ("png", "svg")}.items():
        found = sorted(path.name for path in (finished / folder).glob("novel.ablation-*"))
        assert found == sorted(f"novel.ablation-{name}.{kind}" for name in NAMES for kind in kinds)


def test_a_row_has_metrics_of_the_setting_and_sizes(experiment, finished):
    found = rows(finished, "tailors")
    assert [(row["num_tailors"], row["entry"]) for row in found] == [("30", "many"), ("1", "few"), ("2", "kind")]
    for row in found:
        each = values(experiment, row["entry"])
        assert float(row[f"{FD}.mean"]) == pytest.approx(statistics.fmean(each))
        assert float(row[f"{FD}.std"]) == pytest.approx(statistics.stdev(each)) and row[f"{FD}.n"] == "3"
        parameters = read_json(experiment / f"runs/novel/{row['entry']}/seed_0/metrics.json")["parameters"]
        for key in ("trainable", "deployed", "macs"):
            assert float(row[f"{key}.mean"]) == parameters[key]
    best = min(found, key=lambda row: float(row[f"{FD}.mean"]))
    assert [row["entry"] for row in found if row[f"{FD}.best"] == "1"] == [best["entry"]]


@pytest.mark.parametrize("name, base", [("tailors", "kind"), ("begin", "few"), ("listed", "full")])
def test_differences_are_to_the_base_and_seed_by_seed(experiment, finished, name, base):
    for row in rows(finished, name):
        pairs = zip(values(experiment, row["entry"]), values(experiment, base), strict=True)
        apart = [ours - theirs for ours, theirs in pairs]
        mean, sd = statistics.fmean(apart), statistics.stdev(apart)
        half = 4.302652729749464 * sd / math.sqrt(3)  # Student's 97.5 % of two degrees of freedom, from tables
        found = [float(row[f"{FD}.difference{end}.mean"]) for end in ("", "_low", "_high")]
        assert found == pytest.approx([mean, mean - half, mean + half]) and (row["entry"] != base or found == [0] * 3)


def test_an_interval_needs_two_values_and_all_of_them():
    assert mean_interval([1.0]) is None and mean_interval([1.0, None, 3.0]) is None
    assert mean_interval([1.0, 3.0]) == pytest.approx((2 - 12.706204736, 2 + 12.706204736))


def test_words_stand_before_entries_and_entries_alone_need_none(finished):
    assert [(row["setting"], row["entry"]) for row in rows(finished, "parts")] == [
        ("gate, factorized", "kind"), ("neither of the two, as it were 100 %", "full"),
    ]  # fmt: skip
    assert "setting" not in rows(finished, "listed")[0] and [row["entry"] for row in rows(finished, "size")] == [
        *METHODS
    ]
    assert "zero \\& \\textless{}b\\textgreater{}" in (finished / "tables/novel.ablation-begin.tex").read_text()


def drawn(finished, name):
    """The words of a plot, in the order in which they are drawn."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", (finished / "plots" / f"novel.ablation-{name}.svg").read_text())


def test_numbers_are_an_axis_and_choices_are_lines_of_their_own(finished):
    assert "num_tailors (log scale)" in drawn(finished, "tailors")  # 1 to 30
    assert drawn(finished, "tailors")[:3] == ["1", "2", "30"]
    assert [word for word in drawn(finished, "begin") if word in ("zero &amp; &lt;b&gt;", "random")] == [
        "zero &amp; &lt;b&gt;", "random",
    ]  # fmt: skip
    assert "trainable parameters (log scale)" in drawn(finished, "size")
    assert {"neither of the two, as", "it were 100 %"} <= set(drawn(finished, "parts"))


class Shape(html.parser.HTMLParser):
    """Ids of sections, titles of tables, alternative texts of pictures inside #ablations, and cells a row."""

    def __init__(self, page):
        super().__init__()
        self.section, self.titles, self.pictures, self.widths = None, [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "section":
            self.section = given["id"]
        if self.section != "ablations":
            return
        if tag == "tr":
            self.widths.append(0)
        elif tag in ("th", "td"):
            self.widths[-1] += 1
        elif tag == "div" and given.get("role") == "region":
            self.titles.append(given["aria-label"])
        elif tag == "svg":
            self.pictures.append(given["aria-label"])


def test_the_page_has_a_section_with_all_of_them(finished):
    page = (finished / "index.html").read_text()
    assert '<a href="#ablations">' in page and "zero &amp; &lt;b&gt;" in page and "<b>;" not in page
    shape = Shape(page)
    assert shape.titles == [f"Ablation {name} on novel" for name in NAMES]
    assert len(shape.pictures) == len(NAMES) and "few" in shape.pictures[-1]
    assert "1 " in shape.pictures[0] and "by num_tailors" in shape.pictures[0]
    assert len(shape.widths) == sum(len(one.values) + 1 for one in ABLATIONS)
    assert len(set(shape.widths[:4])) == 1  # rows of the first table are as wide as its head


def sections(experiment, output, ablations, seeds=SEEDS, change=lambda run: run):
    runs = [change(run) for run in load_runs(experiment, TASKS, METHODS, seeds)]
    return ablation_sections(ablations, runs, output, method_styles(METHODS), seeds, HEADLINE)


def test_tasks_on_which_its_entries_did_not_run_are_left_out(experiment, tmp_path):
    assert sections(experiment, tmp_path, [Settings("other", None, "a", {"a": None, "b": None})]) == []
    assert not list(tmp_path.iterdir())


def test_one_seed_has_no_differences_and_no_spread(experiment, tmp_path):
    (section,) = sections(experiment, tmp_path, ABLATIONS[:1], seeds=[0])
    row = rows(tmp_path, "tailors")[0]
    assert float(row[f"{FD}.mean"]) == values(experiment, "many")[0] and not [key for key in row if "difference" in key]
    assert "One seed (0)" in section.tables[0].caption and "Difference" not in section.tables[0].caption


def without(metric, method, seed):
    """Runs as they are, but for one value."""

    def change(run):
        if (run.method, run.seed) != (method, seed):
            return run
        return replace(run, metrics=run.metrics | {"values": {**run.values, metric: None}})

    return change


def test_ends_are_empty_where_a_seed_has_no_difference(experiment, tmp_path):
    (section,) = sections(experiment, tmp_path, ABLATIONS[:1], change=without(FD, "few", 1))
    many, few, _ = rows(tmp_path, "tailors")
    assert (
        few[f"{FD}.difference.n"] == "2" and few[f"{FD}.difference_low.mean"] == few[f"{FD}.difference_high.mean"] == ""
    )
    assert many[f"{FD}.difference_low.mean"] != ""
    texts = [[cell.mean_text for cell in row.cells] for row in section.tables[0].rows]
    place = [column.key for column in section.tables[0].columns].index(f"{FD}.difference_low")
    assert texts[1][place : place + 2] == ["", ""]


def test_a_difference_and_its_ends_have_as_many_decimals(experiment, tmp_path):
    """An end near 0 would have more than the others in a column of its own."""
    base, apart = values(experiment, "kind"), (0.3, 0.5, 0.701)  # mean 0.500, from 0.002, to 0.998

    def change(run):
        found = base[run.seed] + (apart[run.seed] if run.method != "kind" else 0.0)
        return replace(run, metrics=run.metrics | {"values": {**run.values, FD: found}})

    (section,) = sections(experiment, tmp_path, ABLATIONS[:1], change=change)
    (table,) = section.tables
    places = [place for place, column in enumerate(table.columns) if "difference" in column.key]
    decimals = [{len(row.cells[place].mean_text.partition(".")[2]) for row in table.rows} for place in places]
    assert len(places) == 3 and decimals[0] == decimals[1] == decimals[2] and len(decimals[0]) == 1


def untrained(run):
    return replace(run, metrics=run.metrics | {"final_step": 0})


@pytest.mark.parametrize("backbones, change, said", [
    ({"kind"}, lambda run: run, "how far other fine-tuning seeds would move it. "),
    ({"kind", "dense"}, lambda run: run, "how far other fine-tuning seeds would move it; backbones have one seed each"),
    ({"kind"}, untrained, "how far another draw of samples would move it. "),
    ({"kind", "dense"}, untrained, "how far another draw of samples would move it; backbones have one seed each"),
])  # fmt: skip
def test_a_table_says_what_its_intervals_know(experiment, tmp_path, backbones, change, said):
    one = replace(ABLATIONS[3], backbones=frozenset(backbones))
    (section,) = sections(experiment, tmp_path, [one], change=change)
    assert said in section.tables[0].caption


def test_by_a_measured_size_entries_of_a_method_have_one_colour_and_a_line(experiment, tmp_path):
    families = {"kind": ("kind", "a"), "few": ("kind", "a"), "many": ("kind", "b"), "full": ("full",)}
    (section,) = sections(experiment, tmp_path, [replace(ABLATIONS[4], families=families)])
    picture = section.plots[0].svg
    colours = {style.colour.lower() for style in method_styles(["kind", "full"]).values()}
    assert colours <= set(re.findall(r"#[0-9a-f]{6}", picture))
    others = {style.colour.lower() for style in method_styles(METHODS).values()} - colours
    assert others and not others & set(re.findall(r"#[0-9a-f]{6}", picture))
    assert picture.count("stroke-width: 0.9") == 1, "of the two that differ in numbers alone"
