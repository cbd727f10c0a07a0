"""Experiments whose data the user brings, through the real Snakefile on a machine without them: planned whole, run not
at all."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from workspace import ROOT, Workspace

from kind.__main__ import main
from kind.params.file import load_experiments


@pytest.fixture
def empty(tmp_path) -> Workspace:
    """A working folder without params, data and weights."""
    return Workspace(tmp_path)


def of_project(name: str) -> str:
    return str(ROOT / "params" / f"{name}.yaml")


@pytest.mark.parametrize("name", ["imagenet_l", "folder", pytest.param("rivals", marks=pytest.mark.slow)])
def test_a_dry_run_lists_the_jobs_that_the_plan_counts(empty, monkeypatch, tmp_path, name):
    dry = empty.snakemake("--dry-run", experiment=of_project(name))
    assert dry.code == 0, dry.output
    monkeypatch.chdir(tmp_path)  # weights would be there
    main(["plan", of_project(name), "--json", "plan.json"])
    planned = {rule: stage["jobs"] for rule, stage in json.loads(Path("plan.json").read_text())["stages"].items()}
    assert Counter(planned) == dry.planned - Counter({"all": 1})


def test_a_real_run_stops_before_its_first_job_with_all_that_is_missing(empty):
    before = set(empty.folder.iterdir())
    run = empty.snakemake(experiment=of_project("imagenet_lsun"))
    assert run.code == 2, run.output
    _, _, said = run.output.partition("error: missing on this machine:\n")
    assert [line.partition(";")[0] for line in said.splitlines() if line.startswith("  - ")] == [
        "  - data seen: datasets/imagenet/train does not exist",
        "  - data bedroom, church: datasets/lsun does not exist",
    ]
    assert "image-net.org" in said and "github.com/fyu/lsun" in said
    assert {path.name for path in set(empty.folder.iterdir()) - before} <= {".snakemake"}


def test_the_file_for_anyones_images_says_where_they_are_looked_for(empty):
    run = empty.snakemake(experiment=of_project("folder"))
    assert run.code == 2, run.output
    assert run.output.endswith(
        "error: missing on this machine:\n  - data pictures: datasets/pictures does not exist; put the images there, "
        "or name the place where they are as `path`\n"
    )
    assert not (empty.folder / "results").exists()


def test_the_papers_file_names_the_papers_experiments():
    experiments = load_experiments(ROOT / "params" / "paper.yaml")
    assert [one.name for one in experiments.values()] == ["imagenet_b", "imagenet_l", "imagenet_ablations"]
    grid = [one for one in experiments.values() if one.name != "imagenet_ablations"]
    for one in grid:
        rivals = {"full", "lora", "dora", "pissa", "loha", "oft", "svdiff", "heur-lg", "auto-lg"}
        assert set(one.methods) == rivals | {"kind"} and len(one.seeds) == 3
        assert set(one.tasks) == {"novel", "celebahq", "hubble", "mri", "pokemon"}
        assert {task.guidance_scale or one.sampling.guidance_scale for task in one.tasks.values()} == {3.0, 1.5}
        assert one.tasks["novel"].guidance_scale is None and len(one.pretrain.classes) == 150
        assert not set(one.tasks["novel"].classes) & set(one.pretrain.classes)
        for backbone in (one.backbones["kind"],):
            total = backbone.num_learngenes + 150 * backbone.num_tailors
            assert total == one.model.shape().width, "full rank"
