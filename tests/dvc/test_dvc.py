"""`dvc repro` and everything around it, with the real Snakefile and a remote in a temporary folder."""

from __future__ import annotations

import json
import re
import shutil

import pytest

pytestmark = pytest.mark.slow

ALL_JOBS = {
    "prepare": 1, "extractor": 1, "reference": 1, "pretrain": 2, "extract": 1,
    "finetune": 2, "sample": 2, "evaluate": 2, "report": 1, "all": 1,
}  # fmt: skip
OF_ONE_METHOD = {"finetune": 1, "sample": 1, "evaluate": 1, "report": 1, "all": 1}
PIECES = ("data", "extractor", "reference", "backbones", "learngenes", "adapters", "samples", "runs")


def test_repro_on_a_fresh_clone_runs_everything(first):
    project, repro = first
    assert repro.jobs == ALL_JOBS
    assert all(f"path: results/smoke/{piece}\n" in project.lock for piece in (*PIECES, "report"))
    assert "path: .snakemake/metadata\n" in project.lock
    assert "local" not in project.lock, "the executor is no part of a version"


def test_a_second_repro_runs_nothing_also_with_another_executor(first):
    first[0].assert_up_to_date()


def test_report_and_text_are_in_git_and_the_rest_is_not(first):
    tracked = first[0].does("git", "ls-files", "results", ".snakemake").output.split()
    assert {"index.html", "metrics.csv", "means.json"} <= {path.rpartition("/")[2] for path in tracked}
    assert all(path.startswith("results/smoke/report/") for path in tracked)
    assert first[0].does("git", "status", "--short").output == ""


def test_a_changed_parameter_reruns_what_depends_on_it_and_shows_in_diffs(copied):
    copied.edit("lora: {rank: 4}", "lora: {rank: 5}")
    assert "params/smoke.yaml" in copied.does("dvc", "status").output
    before = copied.lock
    for experiment in ("mini", "params/mini.yaml"):  # it would note results of smoke that were not made
        shutil.copy(copied.params, copied.params.with_name("mini.yaml"))
        other = copied.run("dvc", "repro", KIND_EXPERIMENT=experiment)
        assert other.code != 0
        assert f"KIND_EXPERIMENT={experiment}: dvc.yaml versions smoke here" in other.output
    assert copied.interrupt("dvc", "repro", at=copied.results / "logs/finetune/novel.lora.0.log") != 0
    assert not list(copied.folder.glob(".snakemake/locks/*")), "Snakemake had time to end its jobs"
    assert copied.lock == before

    repro = copied.does("dvc", "repro")
    assert repro.jobs == OF_ONE_METHOD
    assert "with kind" not in repro.output
    copied.assert_up_to_date()
    assert "methods.lora.rank" in copied.does("dvc", "params", "diff").output
    metrics = copied.does("dvc", "metrics", "diff").output
    assert "novel.lora.fd_digits_60_vs_60" in metrics
    assert "novel.kind" not in metrics, "it has not changed"

    text = (copied.folder / "dvc.yaml").read_text()
    (copied.folder / "dvc.yaml").write_text(text.replace("fd_digits_200_vs_200", "fd_digits_40_vs_60"))
    copied.commit()
    plots = copied.does("dvc", "plots", "show", "--out", "plots").output
    assert "failed" not in plots, "the curve and every sample grid"
    page = (copied.folder / "plots/index.html").read_text()
    assert '"facet"' in page and "grids_novel.png" in page.replace("grids/novel", "grids_novel")
    assert "failed" not in copied.does("dvc", "plots", "diff", "HEAD~1", "--out", "plots").output


def test_a_raised_stage_version_is_noticed(copied):
    path = copied.folder / "kind" / "recipes.py"
    text = path.read_text()
    raised = re.sub(r'"report": (\d+)', lambda found: f'"report": {int(found[1]) + 1}', text)
    assert raised != text
    path.write_text(raised)
    assert "kind/recipes.py" in copied.does("dvc", "status").output
    assert copied.does("dvc", "repro").jobs == {"report": 1, "all": 1}
    copied.assert_up_to_date()


def test_after_clone_and_pull_nothing_is_to_be_done(first, tmp_path):
    clone = first[0].clone(tmp_path / "clone")
    clone.does("dvc", "pull")
    clone.assert_up_to_date()


def test_pieces_are_pulled_apart_and_results_without_provenance_are_refused(first, tmp_path):
    clone = first[0].clone(tmp_path / "clone")
    clone.does("dvc", "pull", "results/smoke/backbones")
    assert (clone.results / "backbones/kind/model.safetensors").is_file()
    assert not (clone.results / "samples").exists()

    clone.does("dvc", "pull", *(f"results/smoke/{piece}" for piece in PIECES))
    clone.edit("lora: {rank: 4}", "lora: {rank: 5}")
    before = clone.lock
    refused = clone.run("dvc", "repro")
    assert refused.code != 0
    assert "without Snakemake's record of what they were made from" in refused.output
    assert "dvc pull .snakemake/metadata" in refused.output
    assert clone.lock == before

    clone.does("dvc", "pull", ".snakemake/metadata")
    assert clone.snakemake("--dry-run").jobs == OF_ONE_METHOD


def test_plain_snakemake_and_dvc_commit_leave_everything_clean(copied):
    copied.edit("guidance_scale: 1.5", "guidance_scale: 2.0")
    assert copied.snakemake().jobs == {"sample": 2, "evaluate": 2, "report": 1, "all": 1}
    copied.does("dvc", "commit", "--force")
    copied.assert_up_to_date()


def test_a_clone_with_neither_cache_nor_remote_runs_from_the_start(first, tmp_path):
    """Its git holds the report and dvc.lock of results that nobody can fetch."""
    clone = first[0].clone(tmp_path / "clone")
    clone.does("dvc", "remote", "remove", "store")
    assert (clone.results / "report/index.html").is_file()
    assert clone.snakemake("--dry-run").jobs == ALL_JOBS  # what `make` starts
    assert clone.does("dvc", "repro").jobs == ALL_JOBS
    clone.assert_up_to_date()
    assert json.loads((clone.results / "report/means.json").read_text()) == json.loads(
        (first[0].results / "report/means.json").read_text()
    )
