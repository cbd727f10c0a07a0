import csv
import html.parser
import math
import re
import statistics
import subprocess
import sys

import pytest
import synthetic_experiment as synthetic

from kind.artifacts import digest, read_json, write_json
from kind.errors import UserError
from kind.reporting.report import load_runs, write_report

FD = "fd_digits_500_vs_180"


def report(folder, output=None, tasks=None, methods=None, seeds=None, **changes):
    tasks, methods, seeds = tasks or synthetic.TASKS, methods or synthetic.METHODS, seeds or synthetic.SEEDS
    output = output or folder / "report"
    arguments = {"command": synthetic.COMMAND} | changes
    write_report(
        "smoke",
        synthetic.params(tasks, methods, seeds),
        folder,
        output,
        seeds=seeds,
        tasks=tasks,
        methods=methods,
        **arguments,
    )
    return output


def rows(path):
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def value(folder, task, method, seed, name):
    return read_json(folder / f"runs/{task}/{method}/seed_{seed}/metrics.json")["values"][name]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return synthetic.write_experiment(tmp_path_factory.mktemp("results") / "smoke")


@pytest.fixture(scope="module")
def finished(experiment):
    return report(experiment)


@pytest.fixture
def small(tmp_path):
    """One task, two methods, two seeds, free to be damaged."""
    tasks, methods = {"novel": synthetic.TASKS["novel"]}, {name: synthetic.METHODS[name] for name in ("kind", "full")}
    return synthetic.write_experiment(tmp_path / "smoke", tasks, methods), tasks, methods


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
    tables = ("overview", "overall", "overall_time", "cost", "memorisation")
    expected |= {f"summary/{name}.{suffix}" for name in tables for suffix in ("csv", "md", "tex")}
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
    assert not re.search(r"url\(|https?://", text)
    assert {"h1", "h2", "h3", "figure", "figcaption", "main", "nav"} <= loads.tags
    for said in ("None of these metrics is FID", "98.3 %", synthetic.COMMAND, "0123456789ab", "2.11.0", "EMA decay"):
        assert said in text


def test_a_report_without_ablations_does_not_speak_of_them(finished):
    assert "blation" not in (finished / "index.html").read_text() and not list(finished.glob("*/*ablation*"))


def test_the_same_input_gives_the_same_bytes(experiment, finished, tmp_path):
    again = report(experiment, tmp_path / "again")
    files = sorted(path.relative_to(finished) for path in finished.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [name for name in files if (finished / name).read_bytes() != (again / name).read_bytes()] == []


def test_missing_files_are_named_together(small):
    folder, tasks, methods = small
    gone = [folder / "runs/novel/full/seed_1/metrics.json", folder / "runs/novel/kind/seed_0/cost.json"]
    for path in gone:
        path.unlink()
    with pytest.raises(UserError) as error:
        report(folder, tasks=tasks, methods=methods)
    assert all(str(path) in str(error.value) for path in gone)
    assert "2 of the 12 files of 4 runs are missing" in str(error.value)


def test_missing_samples_are_named(small):
    folder, tasks, methods = small
    for path in (folder / "samples/novel/full/seed_0/step_000300").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="samples/novel/full/seed_0/step_000300: no sample shards"):
        report(folder, tasks=tasks, methods=methods)


def test_different_protocols_have_no_common_table(small):
    folder, tasks, methods = small
    other = synthetic.protocol("novel") | {"num_samples": 400, "extractor": {"name": "digits", "identity": "another"}}
    synthetic.change(folder / "runs/novel/full/seed_1/metrics.json", protocol=other, protocol_hash=digest(other))
    with pytest.raises(UserError) as error:
        load_runs(folder, tasks, methods, [0, 1])
    for said in ("novel/kind/seed_0", "novel/full/seed_1", "num_samples: 500", "400", "extractor.identity"):
        assert said in str(error.value)
    assert "guidance" not in str(error.value)


def test_a_file_of_another_run_is_refused(small):
    folder, tasks, methods = small
    synthetic.change(folder / "runs/novel/full/seed_1/metrics.json", seed=0)
    with pytest.raises(UserError, match="written for task novel, method full, seed 0"):
        load_runs(folder, tasks, methods, [0, 1])


def test_null_and_nan_are_shown_counted_and_never_best(small):
    folder, tasks, methods = small
    path = folder / "runs/novel/kind/seed_0/metrics.json"
    values = read_json(path)["values"]
    synthetic.change(path, values=values | {FD: None, "recall_digits_500_vs_180": math.nan, "is_digits_500": None})
    path = folder / "runs/novel/kind/seed_1/metrics.json"
    synthetic.change(path, values=read_json(path)["values"] | {"is_digits_500": None})
    output = report(folder, tasks=tasks, methods=methods)
    row = rows(output / "tables/novel.csv")[0]
    assert (row[f"{FD}.n"], row[f"{FD}.std"], row[f"{FD}.best"]) == ("1", "", "0")
    assert float(row[f"{FD}.mean"]) == value(folder, "novel", "kind", 1, FD)
    assert (row["recall_digits_500_vs_180.n"], row["is_digits_500.mean"], row["is_digits_500.n"]) == ("1", "", "0")
    markdown = (output / "tables/novel.md").read_text()
    assert "± – (n = 1 of 2)" in markdown
    assert "| – |" in markdown
    page = (output / "index.html").read_text()
    assert "n = 1 of 2" in page
    assert "nan" not in (output / "metrics.csv").read_text()


def test_one_seed_has_no_spread(tmp_path):
    tasks, methods = {"novel": synthetic.TASKS["novel"]}, {"kind": {}, "full": {}}
    folder = synthetic.write_experiment(tmp_path, tasks, methods, [3])
    output = report(folder, tasks=tasks, methods=methods, seeds=[3])
    markdown = (output / "tables/novel.md").read_text()
    assert "One seed (3), hence no spread." in markdown
    assert "± –" in markdown
    assert rows(output / "tables/novel.csv")[0][f"{FD}.std"] == ""


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


def test_large_colour_images_and_parts_that_are_missing(tmp_path):
    tasks, methods = {"photos": {"classes": [f"class {index}" for index in range(6)]}}, {"full": {}}
    folder = synthetic.write_experiment(tmp_path, tasks, methods, [0], size=64)
    place = folder / "runs/photos/full/seed_0"
    content = read_json(place / "metrics.json")
    for part in ("memorisation", "judge", "parameters", "provenance", "warnings", "steps"):
        del content[part]
    write_json(place / "metrics.json", content)
    write_json(place / "cost.json", {})
    for name in ("dense", "kind"):
        (folder / f"backbones/{name}/preview.npz").unlink()
        (folder / f"backbones/{name}/pretrain.json").unlink()
    output = report(folder, tasks=tasks, methods=methods, seeds=[0])
    page = (output / "index.html").read_text()
    assert "data:image/webp;base64," in page
    assert "4 of 6 classes" in page
    assert not (output / "summary/memorisation.csv").exists()


def test_an_unknown_headline_lists_what_there_is(small):
    folder, tasks, methods = small
    with pytest.raises(UserError, match="no metric is a headline metric .fvd.*fd_digits_500_vs_180"):
        report(folder, tasks=tasks, methods=methods, headline=["fvd"])


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


def test_long_lists_of_classes_are_told_in_short_with_their_set(small):
    folder, tasks, methods = small
    plain = (report(folder, tasks=tasks, methods=methods) / "index.html").read_text()
    assert "10 classes: " not in plain and "classes 0, 1, 2, 3, 4, 5, 6," in plain, "of all: its settings"
    many = [f"c{index}" for index in range(150)]
    changed = synthetic.params(tasks, methods, synthetic.SEEDS)
    changed["pretrain"]["classes"] = many
    sets = {"pretrain": "all 150 classes of the set seen", "tasks.novel": "3 of the 461 classes of the set novel"}
    write_report(
        "smoke", changed, folder, folder / "named", synthetic.SEEDS, tasks, methods, synthetic.COMMAND, class_sets=sets
    )
    page = (folder / "named" / "index.html").read_text()
    assert "all 150 classes of the set seen: c0, c1, " in page and "c11 and 138 more" in page and "c11, c12" not in page
    assert "3 of the 461 classes of the set novel: 7, 8, 9" in page


def test_a_method_stands_in_the_tables_of_the_tasks_that_it_runs_on(tmp_path):
    """`scratch` runs on one task, `full` on the other, `kind` on both."""
    from kind.reporting.comparisons import HEADLINE, cost_table, memorisation_table, overview_table
    from kind.reporting.tables import csv_rows

    entries_on, methods, seeds = (
        {"novel": ["kind", "full"], "shift": ["kind", "scratch"]},
        ["kind", "full", "scratch"],
        [0],
    )
    for task, labels in entries_on.items():
        for label in labels:
            synthetic.write_run(tmp_path, task, label, 0, len(synthetic.TASKS[task]["classes"]), 8)
    runs = load_runs(tmp_path, synthetic.TASKS, methods, seeds, entries_on)
    table = overview_table(runs, entries_on, methods, seeds, HEADLINE)
    overview = {row["method"]: row for row in csv_rows(table)[0]}
    filled = {
        label: [task for task in entries_on if row[f"{task}.mean"] is not None] for label, row in overview.items()
    }
    assert filled == {"kind": ["novel", "shift"], "full": ["novel"], "scratch": ["shift"]}
    assert not any("no seed has a value" in note for note in table.notes)
    pairs = [(task, label) for task, labels in entries_on.items() for label in labels]
    for made in (cost_table, memorisation_table):
        rows = made("T", runs, methods, seeds, by_task=True).rows
        assert [row.labels for row in rows if row.method] == pairs
