"""dvc.yaml against the layout and the params that it stands beside."""

from __future__ import annotations

from pathlib import Path

import yaml
from project import ROOT

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


def test_no_out_is_deleted_before_a_run_and_git_has_the_report():
    assert all(options["persist"] for options in OUTS.values()), "Snakemake decides what is made again"
    uncached = [path for path, options in OUTS.items() if options.get("cache") is False]
    assert uncached == [f"results/{VARIABLES['experiment']}/report"]


def test_the_plotted_curve_is_a_column_of_curves_csv():
    experiment = load_experiment(ROOT / "params" / f"{VARIABLES['experiment']}.yaml")
    sampling, evaluation = experiment.sampling, experiment.evaluation
    drawn = sampling.curve_num_samples or sampling.num_samples
    assert VARIABLES["curve"] == f"fd_{evaluation.extractor.name}_{drawn}_vs_{evaluation.num_reference}"
