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
        *layout.analysis_files(experiment),
        *(layout.tuned(label) for label in experiment.tuned()),
    ]


def results_of(name):
    """The whole of an experiment.  The report alone is no proof of the rest: git has it where nobody ran anything."""
    experiment, layout = EXPERIMENTS[name][1], LAYOUTS[name]
    data = dict.fromkeys([experiment.pretrain.data, *(task.data for task in experiment.all_tasks().values())])
    runs = [layout.run(*run) for run in experiment.runs()]
    methods = {label: METHODS[experiment.method_name(label)] for label in experiment.methods}
    taken_apart = {experiment.backbone_of(label) for label, method in methods.items() if method.start == "kind"}
    return [
        layout.report / "index.html",
        *(path for each in data for path in layout.training_files(experiment, each)),
        *(layout.reference(task) for task in experiment.tasks),
        *(layout.judge(task) for task in experiment.tasks if experiment.is_judged),
        *(path for each in experiment.backbones for path in layout.backbone_files(each)),
        *(place(each) for each in sorted(taken_apart) for place in (layout.learngenes, layout.tailor_folder)),
        *(place(run) for run in runs for place in (layout.adapted_folder, layout.sample_folder, layout.metrics)),
        *layout.analysis_files(experiment),
        *(path for label in experiment.tuned() for path in layout.tuned_files(label)),
        *([layout.extractor] if experiment.evaluation.extractor.type == "trained" else []),
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
