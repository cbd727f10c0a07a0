import html
import html.parser
import math
import re
import statistics
import subprocess
import sys
import xml.etree.ElementTree

import pytest
import synthetic_experiment as synthetic
from reports import FD, report, rows, value

from kind.artifacts import read_json, write_json
from kind.reporting.page_plots import inline
from kind.reporting.plots import FONTS, INK, render


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return synthetic.write_experiment(tmp_path_factory.mktemp("results") / "smoke")


@pytest.fixture(scope="module")
def finished(experiment):
    return report(experiment)


def test_all_files_are_written(finished):
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    expected = {
        "metrics.csv",
        "curves.csv",
        "means.json",
        "index.html",
        "summary/classes.csv",
        "plots/pretraining_loss.png",
        "plots/pretraining_loss.svg",
    }
    for task in synthetic.TASKS:
        tables = ("", ".paired", ".distances", ".classes")
        expected |= {f"tables/{task}{name}.{suffix}" for name in tables for suffix in ("csv", "md", "tex")}
        expected |= {f"grids/{task}.png"}
        curves = (
            "fd_digits",
            "sfd_digits",
            "precision_digits",
            "recall_digits",
            "accuracy_svc",
            "loss",
            "trade_off",
            "trade_off_time",
        )
        expected |= {f"plots/{task}_{name}.{suffix}" for name in curves for suffix in ("png", "svg")}
    expected |= {f"plots/overall_{name}.{suffix}" for name in curves[:5] for suffix in ("png", "svg")}
    overall = ("overall", "overall_kernel", "overall_time")
    tables = ("overview", *overall, "cost", "memorisation")
    expected |= {f"summary/{name}.{suffix}" for name in tables for suffix in ("csv", "md", "tex")}
    expected |= {f"summary/{name}.json" for name in overall}
    assert names == expected


def test_metrics_csv_has_a_row_a_run_with_exact_values(experiment, finished):
    table = rows(finished / "metrics.csv")
    assert [(row["task"], row["method"], row["seed"]) for row in table] == [
        (task, method, str(seed)) for task in synthetic.TASKS for method in synthetic.METHODS for seed in (0, 1)
    ]
    assert float(table[1][FD]) == value(experiment, "novel", "kind", 1, FD)
    assert table[1]["parameters_trainable"] == "24832"
    assert table[1]["judge_accuracy_on_real_test"] == "0.983"
    assert table[1]["fd_digits_500_vs_240"] == "", "the other task's metric has no value here"


def test_curves_csv_has_a_row_per_run_and_step(finished):
    table = rows(finished / "curves.csv")
    assert len(table) == 16 * len(synthetic.STEPS)
    assert [row["step"] for row in table[:4]] == ["75", "150", "225", "300"]
    assert float(table[0]["fd_digits_200_vs_180"]) > float(table[3]["fd_digits_200_vs_180"])


def test_means_are_over_seeds_without_what_is_missing(small):
    folder, tasks, methods = small
    path = folder / "runs/novel/full/seed_1/metrics.json"
    values = read_json(path)["values"] | {"is_digits_500": None}
    synthetic.change(path, values=values)
    means = read_json(report(folder, tasks=tasks, methods=methods) / "means.json")
    assert {task: list(of_task) for task, of_task in means.items()} == {"novel": ["kind", "full"]}
    first, second = (value(folder, "novel", "kind", seed, FD) for seed in (0, 1))
    assert means["novel"]["kind"][FD] == pytest.approx((first + second) / 2)
    assert means["novel"]["full"]["is_digits_500"] == value(folder, "novel", "full", 0, "is_digits_500")


def test_table_is_mean_and_sample_deviation_over_seeds(experiment, finished):
    (row,) = [row for row in rows(finished / "tables/novel.csv") if row["method"] == "lora"]
    first, second = (value(experiment, "novel", "lora", seed, FD) for seed in (0, 1))
    assert float(row[f"{FD}.mean"]) == pytest.approx((first + second) / 2)
    assert float(row[f"{FD}.std"]) == pytest.approx(abs(first - second) / math.sqrt(2))
    assert row[f"{FD}.n"] == "2"
    markdown = (finished / "tables/novel.md").read_text()
    assert f"{(first + second) / 2:.2f} ± {abs(first - second) / math.sqrt(2):.2f}" in markdown
    assert "Mean ± sample standard deviation over 2 seeds (0, 1)." in markdown
    assert "500 samples a run (DDIM, 50 steps, guidance 1.5 on all channels) against 180 real test images" in markdown


def test_the_best_is_marked_by_direction(finished):
    table = {row["method"]: row for row in rows(finished / "tables/novel.csv")}
    for name in (FD, "accuracy_svc_500"):
        assert [row[f"{name}.best"] for row in table.values()] == ["1", "0", "0", "0"]
    assert "nearest_train_500.best" not in table["kind"], "a metric without a direction has no best"
    kind = next(line for line in (finished / "tables/novel.md").read_text().splitlines() if line.startswith("| kind"))
    assert kind.count("**") == 2 * 8
    assert (finished / "tables/novel.tex").read_text().count("\\textbf{") == 8
    page = (finished / "index.html").read_text()
    assert page.count('class="best"><strong>') == 8 * 2 + 2 + 3 + 5


def test_memorisation_stands_beside_real_images(finished):
    table = {(row["task"], row["images of"]): row for row in rows(finished / "summary/memorisation.csv")}
    real, full = table["novel", "real test images"], table["novel", "full"]
    assert float(real["median.mean"]) == 10.4
    assert float(full["median_ratio.mean"]) == pytest.approx(float(full["median.mean"]) / 10.4)


def test_cost_table_counts_the_label_table(finished):
    (row,) = [row for row in rows(finished / "summary/cost.csv") if (row["task"], row["method"]) == ("shift", "kind")]
    assert (float(row["trainable.mean"]), float(row["trainable_label_table.mean"])) == (24_832, 256)
    assert float(row["peak_memory_bytes.mean"]) == 9.1e8


def test_every_table_says_which_methods_start_from_an_overcomplete_backbone(experiment, tmp_path, monkeypatch):
    plain = synthetic.params
    backbones = {"dense": {"form": "dense"}, "kind": {"form": "kind", "overcomplete": True}}
    monkeypatch.setattr(synthetic, "params", lambda *given: plain(*given) | {"backbones": backbones})
    output = report(experiment, tmp_path / "report")
    tables = [*output.glob("summary/*.md"), *output.glob("tables/*.md"), *output.glob("summary/*.tex")]
    assert len(tables) >= 8
    for path in tables:
        assert "Overcomplete: kind (backbone kind)." in path.read_text(), path
    assert (output / "index.html").read_text().count("Overcomplete: kind (backbone kind).") >= 7


def test_no_table_speaks_of_overcomplete_backbones_that_there_are_not(finished):
    assert "vercomplete" not in (finished / "index.html").read_text()


def test_tables_of_cost_say_that_trials_are_not_in_them(finished, tmp_path):
    said = "trials of learning rates are not included"
    tasks, methods = {"novel": synthetic.TASKS["novel"]}, {"lora": {}}
    folder = synthetic.write_experiment(tmp_path / "smoke", tasks, methods, [0])
    tried = {
        "means": [{"learning_rate": 1e-3, "mean": 2.0}],
        "edge": None,
        "steps": 9,
        "seed": 7,
        "learning_rate": 1e-3,
    }
    trial = {"learning_rate": 1e-3, "metric": "fd_digits_40_vs_36", "task": "practice"}
    write_json(folder / "tuning/lora.json", tried | {"trials": [trial]})
    output = report(folder, tasks=tasks, methods=methods, seeds=[0], tuned=["lora"])
    assert said in (output / "summary/cost.md").read_text() and said in (output / "index.html").read_text()
    assert said not in (finished / "summary/cost.md").read_text() + (finished / "index.html").read_text()


class Loads(html.parser.HTMLParser):
    """Everything that a page would fetch, and its tags."""

    def __init__(self):
        super().__init__()
        self.addresses, self.tags, self.no_alt = [], set(), 0

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        attributes = dict(attributes)
        self.addresses += [attributes[key] for key in ("src", "srcset", "href", "data", "poster") if key in attributes]
        self.no_alt += tag == "img" and not attributes.get("alt")


def test_the_page_is_self_contained(finished):
    text = (finished / "index.html").read_text()
    loads = Loads()
    loads.feed(text)
    assert loads.addresses
    assert all(address.startswith(("data:", "#")) for address in loads.addresses)
    assert not loads.tags & {"script", "iframe", "object", "embed"}
    assert loads.no_alt == 0
    assert "@import" not in text
    assert not re.search(r"url\((?!#)|https?://", text)
    assert {"h1", "h2", "h3", "figure", "figcaption", "main", "nav"} <= loads.tags
    for said in ("None of these metrics is FID", "98.3 %", synthetic.COMMAND, "0123456789ab", "2.11.0", "EMA decay"):
        assert said in text


def parsed(svg):
    """In a page HTML says what xlink is."""
    known = "xmlns:xlink" in svg
    return xml.etree.ElementTree.fromstring(svg if known else svg.replace("<svg ", '<svg xmlns:xlink="x" ', 1))


def test_every_plot_is_in_the_page_once_and_in_its_colours(finished):
    text = (finished / "index.html").read_text()
    drawn = re.findall(r"<svg role=.*?</svg>", text, re.DOTALL)
    files = {path.name: path.read_text() for path in finished.glob("plots/*.svg")}
    words = [sorted(re.findall(r"<text[^>]*>([^<]*)</text>", svg)) for svg in (*drawn, *files.values())]
    assert sorted(words[: len(drawn)]) == sorted(words[len(drawn) :]) and len(drawn) == len(files)
    own = [name for svg in drawn for name in re.findall(r' id="([^"]*)"', svg)]
    assert own and len(own) == len(set(own)), "a name would mean another plot's shape"
    for svg in drawn:
        parsed(svg)
        assert {*re.findall(r"url\(#([^)]*)\)", svg), *re.findall(r'href="#([^"]*)"', svg)} == {
            *re.findall(r' id="([^"]*)"', svg)
        }
        assert "var(--ink)" in svg and "var(--rule)" in svg and not re.search("#1d1f24|#646872|#dfe1e7|#fefefe", svg)
        assert len(svg) < max(map(len, files.values()))


def test_words_of_a_plot_stay_as_they_are(tmp_path):
    words = f'says id="x" {INK} url(#y) <b> & "{FONTS}"'
    plot = render(tmp_path, "x", lambda axes: axes.text(0, 0, words), words, words, words, 0)
    for svg in (plot.svg, str(inline(plot))):
        assert [element.text for element in parsed(svg).iter() if element.tag.endswith("text")].count(words) == 3
    assert html.unescape(re.search('aria-label="([^"]*)"', inline(plot))[1]) == words


def test_a_report_without_ablations_does_not_speak_of_them(finished):
    assert "blation" not in (finished / "index.html").read_text() and not list(finished.glob("*/*ablation*"))


def test_the_same_input_gives_the_same_bytes(experiment, finished, tmp_path):
    again = report(experiment, tmp_path / "again")
    files = sorted(path.relative_to(finished) for path in finished.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [name for name in files if (finished / name).read_bytes() != (again / name).read_bytes()] == []


def test_names_are_data_everywhere(tmp_path):
    method, classes = 'lo_ra|<b>&"50%"$x$ #1^~{y}', ["<script>alert(1)</script>", "a|b_c*d", "$\\alpha$", "犬"]
    tasks, methods = {"novel_&_co": {"classes": classes}}, {"kind": {}, method: {"note": "<i>x</i>"}}
    folder = synthetic.write_experiment(tmp_path, tasks, methods)
    output = report(folder, tasks=tasks, methods=methods, command="a <b> && c")
    page = (output / "index.html").read_text()
    assert "<script" not in page
    assert "<b>&" not in page
    assert "<i>x" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "a &lt;b&gt; &amp;&amp; c" in page
    tex = (output / "tables/novel_&_co.tex").read_text()
    assert r"lo\_ra\textbar{}\textless{}b\textgreater{}\&\textquotedbl{}50\%\textquotedbl{}\$x\$" in tex
    assert r"\#1\textasciicircum{}\textasciitilde{}\{y\}" in tex
    lines = (output / "tables/novel_&_co.md").read_text().splitlines()
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")}
    assert len(bars) == 1, "a bar in a name made another column"
    assert r"lo\_ra\|&lt;b&gt;&amp;" in "\n".join(lines)
    assert rows(output / "tables/novel_&_co.csv")[1]["method"] == method
    assert rows(output / "metrics.csv")[2]["method"] == method


def test_importing_loads_nothing_heavy():
    program = "import sys, kind.reporting.report; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(process.stdout.split())
    assert not loaded & {"numpy", "matplotlib", "jinja2", "PIL", "pandas", "torch"}


def test_mean_of_three_seeds_by_hand():
    from kind.reporting.tables import Column, build_table

    columns = [Column("x", "X", direction="higher"), Column("n", "N", exact=True)]
    made = build_table("T", ("Method",), columns, [
        (("a",), "a", {"x": [1.0, 2.0, 4.0], "n": [1234, 1234, 1234]}),
        (("b",), "b", {"x": [2.333, 2.333, 2.333], "n": [7, 7, 7]}),
        (("c",), "c", {"x": [9.0, None, 9.0], "n": [None] * 3}),
    ], "caption")  # fmt: skip
    (a, a_count), (b, _), (c, c_count) = (row.cells for row in made.rows)
    assert (a.mean_text, a.std_text) == ("2.33", f"{statistics.stdev([1, 2, 4]):.2f}")
    assert (a_count.mean_text, a_count.std_text) == ("1.23 k", "")
    assert a.best, "what reads alike is marked alike"
    assert b.best
    assert (c.best, c.shortfall, c_count.mean_text) == (False, "n = 2 of 3", "–")
