# Tables, plots, grids and the page of an experiment.


def results_of_all_runs(wildcards):
    experiment, layout = experiment_of(wildcards), layout_of(wildcards)
    runs = [layout.run(*run) for run in experiment.runs()]
    return [
        *(path for run in runs for path in (layout.metrics(run), run / "cost.json", run / "train.csv")),
        *(layout.record(run, "sample") for run in runs),
        *(path for name in experiment.backbones for path in layout.backbone_files(name)),
        *(layout.record(layout.backbone(name), "pretrain") for name in experiment.backbones),
        *(layout.reference(task) for task in experiment.tasks),
    ]


rule report:
    input:
        results_of_all_runs,
    output:
        directory(ANY.report_tables),
        directory(ANY.report_summary),
        directory(ANY.report_grids),
        directory(ANY.report_plots),
        ANY.report_files(),
        record=ANY.record(ANY.report, "report"),
    params:
        file=params_file,
        recipe=recipe("report"),
    log:
        ANY.log("report", "report"),
    message:
        "{wildcards.experiment}: report"
    shell:
        command("report")
