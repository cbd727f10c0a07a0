"""The filter strings of docs/mlflow.md find the rows of the report, with the report's values."""

from __future__ import annotations

import csv
import re

import pytest
from tiny_results import ROOT

EVALUATED = "tags.stage = 'evaluate' and tags.superseded = 'false'"
LORAS = {"lora": {"rank": 27}, "lora-r4": {"method": "lora", "rank": 4}, "lora-r8": {"method": "lora", "rank": 8}}
RANKS = {"lora": 27, "lora-r4": 4, "lora-r8": 8}
SHIFT = {"data": "letters", "classes": ["A", "C", "E", "H", "K", "T"]}

# what each string of that page means in terms of the report's rows
MEANING = {
    f"tags.task = 'novel' and {EVALUATED}": lambda row: row["task"] == "novel",
    f"tags.method = 'kind' and {EVALUATED}": lambda row: row["method"] == "kind",
    f"metrics.fd_digits_500_vs_200 < 0.5 and {EVALUATED}": lambda row: float(row["fd_digits_500_vs_200"]) < 0.5,
    f'metrics."parameters/trainable" < 50000 and {EVALUATED}': lambda row: float(row["parameters_trainable"]) < 50000,
    "params.rank = '27' and tags.superseded = 'false'": lambda row: RANKS.get(row["method"]) == 27,
    f"tags.ablation = 'rank' and {EVALUATED}": lambda row: row["method"] in RANKS,
    "metrics.\"ablation/rank\" >= 8 and tags.superseded = 'false'": lambda row: RANKS.get(row["method"], 0) >= 8,
    "tags.stage = 'pretrain' and tags.superseded = 'false'": None,
    "tags.superseded = 'true'": None,
    "attributes.status = 'RUNNING'": None,
}  # fmt: skip


def filters_of_the_page() -> list[str]:
    table = (ROOT / "docs" / "mlflow.md").read_text().partition("| filter | finds |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(.+?)` \|", table, re.M)


@pytest.fixture
def results(make, track):
    made = make(
        methods={"kind": {}, **LORAS},
        tasks__shift=SHIFT,
        ablations={"lora-rank": {"axis": "rank", "entries": [*LORAS]}},
    )
    made.write_all()
    old = make(methods={"kind": {}, **LORAS, "lora-r4": {"method": "lora", "rank": 5}}, tasks__shift=SHIFT)
    for folder in (old, made):  # an earlier recipe, then the present one
        for seed in (0, 1):
            folder.write_run("novel", "lora-r4", seed)
        assert track()[0] == 0
        make(
            methods={"kind": {}, **LORAS},
            tasks__shift=SHIFT,
            ablations={"lora-rank": {"axis": "rank", "entries": [*LORAS]}},
        )
    made.write_report()
    assert track()[0] == 0
    return made


def test_the_strings_of_the_page_find_the_rows_of_the_report(results, search):
    assert filters_of_the_page() == list(MEANING)
    rows = list(csv.DictReader((results.layout.report / "metrics.csv").open()))
    assert len(rows) == 16
    for string, meaning in MEANING.items():
        found = search(string)
        if meaning is None:
            continue
        by_name = {tuple(run.data.tags[key] for key in ("task", "method", "seed")): run for run in found}
        wanted = {(row["task"], row["method"], row["seed"]): row for row in rows if meaning(row)}
        assert by_name.keys() == wanted.keys() and len(found) == len(wanted) > 0, string
        for name, row in wanted.items():
            metrics = by_name[name].data.metrics
            for column in ("fd_digits_500_vs_200", "recall_digits_500_vs_200"):
                assert metrics[column] == float(row[column])
            for group in ("parameters", "cost", "memorisation", "judge"):
                for metric in (metric for metric in metrics if metric.startswith(f"{group}/")):
                    assert metrics[metric] == float(row[metric.replace("/", "_")]), metric
            assert by_name[name].data.tags["protocol_hash"] == row["protocol_hash"]
    assert [run.info.run_name for run in search("tags.stage = 'pretrain'")] == ["pretrain / dense", "pretrain / kind"]
    assert {run.data.tags["method"] for run in search("tags.superseded = 'true'")} == {"lora-r4"}
    assert search("attributes.status = 'RUNNING'") == []
