"""dvc.yaml against the layout and the params that it stands beside."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from project import ROOT

from kind.errors import UserError
from kind.layout import Layout
from kind.params.file import load_experiment

CONTENT = yaml.safe_load((ROOT / "dvc.yaml").read_text())
(VARIABLES,) = CONTENT["vars"]
OUTS = {
    path.replace("${experiment}", VARIABLES["experiment"]): options
    for out in CONTENT["stages"]["reproduce"]["outs"]
    for path, options in out.items()
}


def test_every_file_of_an_experiment_lies_in_one_out():
    experiment = load_experiment(ROOT / "params" / f"{VARIABLES['experiment']}.yaml")
    layout = Layout(Path("results") / experiment.name)
    run = layout.run(*next(iter(experiment.runs())))
    files = [
        *layout.data_files("digits"), layout.record(layout.data("digits"), "prepare"), layout.extractor,
        layout.reference("novel"), layout.judge("novel"), *layout.backbone_files("kind"), layout.learngenes("kind"),
        *layout.tailors("kind", 2), *layout.adapted_files(run, [1]), *layout.samples(run, 1, 1, 1), layout.metrics(run),
        layout.record(run, "finetune"), *layout.report_files(), layout.record(layout.report, "report"),
        layout.replay("dense"), *layout.tuned_files("lora"), layout.weights_table("novel"), layout.interference_table,
    ]  # fmt: skip
    used = {path: [out for out in OUTS if path.is_relative_to(out)] for path in files}
    assert all(len(outs) == 1 for outs in used.values()), used
    assert {out for outs in used.values() for out in outs} | {".snakemake/metadata"} == set(OUTS)
    for path in (layout.log("report", "report"), layout.state("report")):
        assert not any(path.is_relative_to(out) for out in OUTS), "neither is a result"


def test_a_file_that_is_extended_must_be_named(monkeypatch, tmp_path):
    sys.path.insert(0, str(ROOT / "workflow"))
    import reproduce

    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "small.yaml").write_text("seeds: [0]\n")
    (tmp_path / "params" / "large.yaml").write_text("extends: small.yaml\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    text = (ROOT / "dvc.yaml").read_text()
    (tmp_path / "dvc.yaml").write_text(text)
    reproduce.check_params("small")
    with pytest.raises(UserError, match=r"not name params/small\.yaml, which params/large\.yaml extends"):
        reproduce.check_params("large")
    (tmp_path / "dvc.yaml").write_text(
        text.replace("      - params/methods.yaml:", "      - params/methods.yaml:\n      - params/small.yaml:")
    )
    reproduce.check_params("large")


def test_no_out_is_deleted_before_a_run_and_git_has_the_report():
    assert all(options["persist"] for options in OUTS.values()), "Snakemake decides what is made again"
    uncached = [path for path, options in OUTS.items() if options.get("cache") is False]
    assert uncached == [f"results/{VARIABLES['experiment']}/report"]


def test_the_plotted_curve_is_a_column_of_curves_csv():
    experiment = load_experiment(ROOT / "params" / f"{VARIABLES['experiment']}.yaml")
    sampling, evaluation = experiment.sampling, experiment.evaluation
    drawn = sampling.curve_num_samples or sampling.num_samples
    assert VARIABLES["curve"] == f"fd_{evaluation.extractor.name}_{drawn}_vs_{evaluation.num_reference}"
