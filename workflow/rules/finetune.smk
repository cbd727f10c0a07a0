# Every (task, method, seed): adapt, then draw images.

RUN = ANY.run("{task}", "{method}", "{seed}")


def start_of(wildcards):
    """The file that the run's method begins with: a dense backbone, learngenes, or nothing."""
    experiment = experiment_of(wildcards)
    form = METHODS[experiment.method_name(wildcards.method)].start
    start = layout_of(wildcards).start(form, experiment.backbone_of(wildcards.method))
    return [start] if start else []


def replay_of(wildcards):
    """Samples of the source model, where the entry's objective trains on them."""
    source = experiment_of(wildcards).replay_of(wildcards.method)
    return [layout_of(wildcards).replay(source)] if source else []


def members_of(wildcards):
    """Records of the runs that a soup is made of."""
    members = experiment_of(wildcards).members_of(wildcards.method)
    runs = [layout_of(wildcards).run(wildcards.task, member, wildcards.seed) for member in members]
    return [layout_of(wildcards).record(run, "finetune") for run in runs]


def after_choice(wildcards):
    """No file, but the job is planned anew once the rates of the run, or of those it is made of, are chosen."""
    experiment = experiment_of(wildcards)
    for label in [wildcards.method, *experiment.members_of(wildcards.method)]:
        if label in experiment.tuned():
            checkpoints.choose.get(experiment=wildcards.experiment, method=label)
    return []


def chosen_rate(wildcards):
    """What tuning found, where the params leave the learning rate open."""
    chosen = wildcards.method in experiment_of(wildcards).tuned()
    return after_choice(wildcards) + ([layout_of(wildcards).tuned_rate(wildcards.method)] if chosen else [])


def material_of(wildcards):
    """What the method is given beside its start: tailors of the pre-training classes, embeddings; mostly nothing."""
    experiment = experiment_of(wildcards)
    needs = experiment.needs(wildcards.method, wildcards.task)
    backbone, data = experiment.backbone_of(wildcards.method), experiment.pretrain.data
    files = layout_of(wildcards).material(needs, backbone, data) if needs else []
    return by_description(files) + (embedding_files(experiment) if "embeddings" in needs else [])


def training_data_of_task(wildcards):
    experiment = experiment_of(wildcards)
    data = experiment.task(wildcards.task).data
    return by_description(layout_of(wildcards).training_files(experiment, data))


def vae_of_task(wildcards):
    experiment = experiment_of(wildcards)
    return vae_files(experiment, experiment.task(wildcards.task).data)


rule finetune:
    input:
        start_of,
        replay_of,
        members_of,
        training_data_of_task,
        chosen_rate,
        material_of,
    output:
        directory(ANY.adapted_folder(RUN)),
        RUN / "train.csv",
        RUN / "cost.json",
        record=ANY.record(RUN, "finetune"),
    params:
        file=params_file,
        recipe=recipe("finetune", "task", "method", "seed"),
    log:
        ANY.log("finetune", "{task}", "{method}", "{seed}"),
    threads: threads_of_all_processes("finetune")
    resources:
        gpu=gpus_of_all_processes("finetune"),
        runtime=0,
    retries: retries_of_training()
    message:
        "{wildcards.experiment}: finetune {wildcards.task} with {wildcards.method}, seed {wildcards.seed}"
    shell:
        command("finetune", "task", "method", "seed", more=MINUTES)


rule sample_part:
    input:
        start_of,
        after_choice,
        ANY.record(RUN, "finetune"),
        vae_of_task,
    output:
        temp(ANY.part("sample", "{task}", "{method}", "{seed}")),
    params:
        file=params_file,
        recipe=recipe("sample", "task", "method", "seed"),
    log:
        ANY.log("sample_part", "{task}", "{method}", "{seed}", "{part}_of_{parts}"),
    threads: threads_of
    resources:
        gpu=gpus_of,
    message:
        "{wildcards.experiment}: sample {wildcards.task} by {wildcards.method}, seed {wildcards.seed}, "
        "part {wildcards.part} of {wildcards.parts}"
    shell:
        command("sample", "task", "method", "seed", more=PART)


rule sample:
    input:
        start_of,
        after_choice,
        ANY.record(RUN, "finetune"),
        vae_of_task,
        parts_of("sample", sampling_jobs, records_of_run("sample", "finetune"), "task", "method", "seed"),
    output:
        directory(ANY.sample_folder(RUN)),
        record=ANY.record(RUN, "sample"),
    params:
        file=params_file,
        recipe=recipe("sample", "task", "method", "seed"),
    log:
        ANY.log("sample", "{task}", "{method}", "{seed}"),
    threads: threads_of
    resources:
        gpu=gpus_of,
    message:
        "{wildcards.experiment}: sample {wildcards.task} by {wildcards.method}, seed {wildcards.seed}"
    shell:
        command("sample", "task", "method", "seed")
