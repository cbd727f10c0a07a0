# Data sources become split images; the experiment's feature network and the reference of each task come from them.


def workers_of(wildcards):
    return experiment_of(wildcards).compute.workers or threads_of(wildcards)


rule prepare:
    output:
        ANY.data_files("{data}"),
        record=ANY.record(ANY.data("{data}"), "prepare"),
    params:
        file=params_file,
        recipe=recipe("prepare", "data"),
    log:
        ANY.log("prepare", "{data}"),
    threads: workers_of
    message:
        "{wildcards.experiment}: prepare data {wildcards.data}"
    shell:
        command("prepare", "data")


rule encode:
    input:
        lambda wildcards: by_description(layout_of(wildcards).data_files(wildcards.data)),
        lambda wildcards: vae_files(experiment_of(wildcards), wildcards.data),
    output:
        ANY.latent_files("{data}"),
        record=ANY.record(ANY.data("{data}"), "encode"),
    params:
        file=params_file,
        recipe=recipe("encode", "data"),
    log:
        ANY.log("encode", "{data}"),
    threads: workers_of
    priority: 100
    resources:
        gpu=gpus_of,
    message:
        "{wildcards.experiment}: encode data {wildcards.data}"
    shell:
        command("encode", "data")


def data_of_all_tasks(wildcards):
    used = dict.fromkeys(task.data for task in experiment_of(wildcards).all_tasks().values())
    return by_description(path for data in used for path in layout_of(wildcards).data_files(data))


rule extractor:
    input:
        data_of_all_tasks,
    output:
        ANY.extractor,
        record=ANY.record(ANY.extractor.parent, "extractor"),
    params:
        file=params_file,
        recipe=recipe("extractor"),
    log:
        ANY.log("extractor", "extractor"),
    threads: threads_of
    message:
        "{wildcards.experiment}: train the feature network"
    shell:
        command("extractor")


def extractor_files(wildcards):
    """The feature network that the experiment trains, or the published one."""
    extractor = experiment_of(wildcards).evaluation.extractor
    if extractor.type == "trained":
        return [layout_of(wildcards).extractor]
    return published_files(extractor.place())


def data_of_task(wildcards):
    return by_description(layout_of(wildcards).data_files(experiment_of(wildcards).task(wildcards.task).data))


def named_among(experiments):
    """A constraint of the wildcard `experiment`: these, or none at all."""
    return "|".join(experiments) or "(?!)"


JUDGED = [name for name, (_, found) in EXPERIMENTS.items() if found.is_judged]


rule reference_part:
    input:
        extractor_files,
        data_of_task,
    output:
        temp(ANY.part("reference", "{task}")),
    params:
        file=params_file,
        recipe=recipe("reference", "task"),
    log:
        ANY.log("reference_part", "{task}", "{part}_of_{parts}"),
    threads: threads_of
    resources:
        gpu=gpus_of,
    message:
        "{wildcards.experiment}: features of the reference of task {wildcards.task}, part {wildcards.part} of "
        "{wildcards.parts}"
    shell:
        command("reference", "task", more=PART)


def record_of_reference(layout, task):
    return {"reference": layout.record(layout.reference(task).parent, task)}


rule reference:
    input:
        extractor_files,
        data_of_task,
        parts_of("reference", reference_jobs, record_of_reference, "task"),
    output:
        ANY.reference("{task}"),
        ANY.judge("{task}"),
        record=ANY.record(ANY.reference("{task}").parent, "{task}"),
    params:
        file=params_file,
        recipe=recipe("reference", "task"),
    log:
        ANY.log("reference", "{task}"),
    wildcard_constraints:
        experiment=named_among(JUDGED),
    threads: threads_of
    resources:
        gpu=gpus_of,
    message:
        "{wildcards.experiment}: reference of task {wildcards.task}"
    shell:
        command("reference", "task")


# Without a judge, which looks at the pixels of all training images.
use rule reference as reference_without_judge with:
    output:
        ANY.reference("{task}"),
        record=ANY.record(ANY.reference("{task}").parent, "{task}"),
    wildcard_constraints:
        experiment=named_among(EXPERIMENTS.keys() - JUDGED),
