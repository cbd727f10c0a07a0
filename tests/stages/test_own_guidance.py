"""A methods entry with a guidance scale of its own."""

from __future__ import annotations

import re
import shutil

import pytest
import yaml
from tiny_experiment import TINY, within

from kind.__main__ import main
from kind.artifacts import load_arrays, read_json
from kind.layout import Layout
from kind.params.file import load_experiment
from kind.recipes import sample

AT = ["--task", "novel", "--seed", "0", "--method"]
STAGES = ("finetune", "sample", "evaluate")


@pytest.fixture(scope="module")
def work(tiny, tmp_path_factory):
    """Layouts of `own`, which has an entry at scale 2 beside the protocol, and of `all`, whose protocol has 2."""
    folder = tmp_path_factory.mktemp("guided")
    methods = {"full": {}, "kind": {}, "kind-guided": {"method": "kind", "guidance_scale": 2.0}}
    contents = {"own": yaml.safe_load(TINY) | {"methods": methods}, "all": yaml.safe_load(TINY)}
    contents["all"]["sampling"]["guidance_scale"] = 2.0
    with within(folder):
        for name, content in contents.items():
            shutil.copytree(tiny.results, folder / "results" / name, ignore=shutil.ignore_patterns("report"))
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
        for stage in STAGES:
            assert main([stage, "--experiment", "own.yaml", *AT, "kind-guided"]) == 0
        assert main(["sample", "--experiment", "all.yaml", *AT, "kind"]) == 0
        assert main(["report", "--experiment", "own.yaml"]) == 0
        yield {name: Layout(folder / "results" / name) for name in contents}


def drawn(layout, label):
    return [
        load_arrays(path)["arr_0"].tolist()
        for path in sorted((layout.root / "samples" / "novel" / label).rglob("*.npz"))
    ]


def test_its_samples_are_drawn_at_it_and_those_of_others_as_before(work, tiny):
    guided = drawn(work["own"], "kind-guided")
    assert guided == drawn(work["all"], "kind")
    assert guided != drawn(work["own"], "kind") == drawn(Layout(tiny.results), "kind")


def test_it_is_a_setting_of_the_method_and_not_of_the_protocol(work):
    layout = work["own"]
    guided, plain = (read_json(layout.metrics(layout.run("novel", label, 0))) for label in ("kind-guided", "kind"))
    assert guided["guidance_scale"] == 2.0 and "guidance_scale" not in plain
    assert guided["protocol_hash"] == plain["protocol_hash"] and guided["values"] != plain["values"]
    page = (work["own"].report / "index.html").read_text()
    assert "Guidance of their own: kind-guided 2." in page and re.search(r"guidance_scale 2\b", page)


def test_recipes_of_others_are_as_they_were(work, tiny):
    ours, theirs = load_experiment("own.yaml"), load_experiment(tiny.folder / "tiny.yaml")
    assert sample(ours, "novel", "kind", 0) == sample(theirs, "novel", "kind", 0)
    assert sample(ours, "novel", "kind-guided", 0) == sample(load_experiment("all.yaml"), "novel", "kind", 0)
