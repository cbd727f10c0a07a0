# What samples of runs do not show: where the params have an `analyses` section.


localrules: analyses


def all_analyses(wildcards):
    """Asked for by name, so that to have none is a mistake."""
    files = [path for name, (_, found) in EXPERIMENTS.items() for path in LAYOUTS[name].analysis_files(found)]
    if not files:
        print(f"error: {EXPERIMENT}: no params file has an `analyses` section\n  -> docs/analyses.md shows one",
              file=sys.stderr)  # fmt: skip
        sys.exit(2)
    return files


rule analyses:
    input:
        all_analyses,


def trained(wildcards, task, methods):
    """Records of the runs of these methods entries on a task, and the files that they began with."""
    experiment, layout = experiment_of(wildcards), layout_of(wildcards)
    starts = [
        layout.start(METHODS[experiment.method_name(method)].start, experiment.backbone_of(method)) for method in methods
    ]
    runs = [layout.run(task, method, seed) for method in methods for seed in experiment.seeds]
    return [*dict.fromkeys(filter(None, starts)), *(layout.record(run, "finetune") for run in runs)]


rule analyse_weights:
    input:
        lambda wildcards: trained(wildcards, wildcards.task, experiment_of(wildcards).entries_on(wildcards.task)),
    output:
        ANY.weights_table("{task}"),
        record=ANY.record(ANY.analyses, "weights_{task}"),
    params:
        file=params_file,
        recipe=recipe("weights", "task"),
    log:
        ANY.log("analyse", "weights", "{task}"),
    threads: threads_of
    message:
        "{wildcards.experiment}: weights of all runs on {wildcards.task}"
    shell:
        command("analyse --analysis weights", "task")


def models_put_together(wildcards):
    experiment, layout = experiment_of(wildcards), layout_of(wildcards)
    asked = experiment.analyses.interference
    data = dict.fromkeys(experiment.tasks[task].data for task in asked.tasks)
    return [
        *(path for each in data for path in by_description(layout.training_files(experiment, each))),
        *(
            path
            for task in asked.tasks
            for path in trained(wildcards, task, [asked.entry(label, task) for label in asked.methods])
        ),
    ]


rule analyse_interference:
    input:
        models_put_together,
    output:
        ANY.interference_table,
        record=ANY.record(ANY.analyses, "interference"),
    params:
        file=params_file,
        recipe=recipe("interference"),
    log:
        ANY.log("analyse", "interference"),
    threads: threads_of
    resources:
        gpu=gpus_of,
    message:
        "{wildcards.experiment}: adapted models put together"
    shell:
        command("analyse --analysis interference")


def starting_backbones(wildcards):
    """With the VAE that makes pixels of their latents, if they draw any."""
    experiment, layout = experiment_of(wildcards), layout_of(wildcards)
    data = experiment.tasks[wildcards.task].data
    return [*map(layout.backbone_model, experiment.starting_backbones()), *vae_files(experiment, data)]


rule analyse_bounds:
    input:
        starting_backbones,
        data_of_task,
        extractor_files,
        ANY.reference("{task}"),
        judge_of,
        ANY.record(ANY.reference("{task}").parent, "{task}"),
    output:
        ANY.bounds_table("{task}"),
        record=ANY.record(ANY.analyses, "bounds_{task}"),
    params:
        file=params_file,
        recipe=recipe("bounds", "task"),
    log:
        ANY.log("analyse", "bounds", "{task}"),
    threads: threads_of
    resources:
        gpu=gpus_of,
    message:
        "{wildcards.experiment}: real images and untouched backbones on {wildcards.task}"
    shell:
        command("analyse --analysis bounds", "task")


def rates_of_all(wildcards):
    """Of all methods, so that a plan before the choices has every trial."""
    experiment, layout = experiment_of(wildcards), layout_of(wildcards)
    return [layout.tuned_rate(label) for label in experiment.tuned()]


def trials_at_chosen_rates(wildcards):
    """Known once all rates are chosen: the job is planned anew then."""
    experiment, layout = experiment_of(wildcards), layout_of(wildcards)
    for label in experiment.tuned():
        checkpoints.choose.get(experiment=wildcards.experiment, method=label)
    starts = [
        layout.start(METHODS[experiment.method_name(label)].start, experiment.backbone_of(label))
        for label in experiment.tuned()
    ]
    runs = [layout.run(*trial) for trial in chosen_trials(experiment, layout)]
    return [*dict.fromkeys(filter(None, starts)), *(layout.record(run, "finetune") for run in runs)]


def yardsticks_of_tuning(wildcards):
    """What trials are measured against, and the VAE that makes pixels of their latents, if they are any."""
    experiment, layout = experiment_of(wildcards), layout_of(wildcards)
    data = dict.fromkeys(task.data for task in experiment.tune.tasks.values())
    return [
        *(layout.reference(name) for name in experiment.tune.tasks),
        *(layout.judge(name) for name in experiment.tune.tasks if experiment.is_judged),
        *(layout.record(layout.reference(name).parent, name) for name in experiment.tune.tasks),
        *(path for each in data for path in by_description(layout.data_files(each))),
        *(path for each in data for path in vae_files(experiment, each)),
    ]


rule analyse_guidance:
    input:
        rates_of_all,
        trials_at_chosen_rates,
        yardsticks_of_tuning,
        extractor_files,
    output:
        ANY.guidance_table,
        record=ANY.record(ANY.analyses, "guidance"),
    params:
        file=params_file,
        recipe=recipe("guidance"),
    log:
        ANY.log("analyse", "guidance"),
    threads: threads_of
    resources:
        gpu=gpus_of,
    message:
        "{wildcards.experiment}: trials at several guidance scales"
    shell:
        command("analyse --analysis guidance")


def gated_backbones(wildcards):
    """With the images that they were trained on."""
    experiment, layout = experiment_of(wildcards), layout_of(wildcards)
    data = experiment.pretrain.data
    return [
        *map(layout.backbone_model, experiment.gated_backbones()),
        *by_description(layout.data_files(data)),
        *vae_files(experiment, data),
    ]


rule analyse_components:
    input:
        gated_backbones,
        extractor_files,
    output:
        ANY.component_files(),
        record=ANY.record(ANY.analyses, "components"),
    params:
        file=params_file,
        recipe=recipe("components"),
    log:
        ANY.log("analyse", "components"),
    threads: threads_of
    resources:
        gpu=gpus_of,
    message:
        "{wildcards.experiment}: what learngenes and tailors hold"
    shell:
        command("analyse --analysis components")
