# Backbones, dense and factorized, from the same data, steps, batch and seed; learngenes from the factorized ones.


def data_of_pretraining(wildcards):
    """With the VAE that shows what came of it."""
    experiment = experiment_of(wildcards)
    data = experiment.pretrain.data
    files = layout_of(wildcards).training_files(experiment, data)
    return by_description(files) + vae_files(experiment, data)


def start_of_backbone(wildcards):
    """The trained dense backbone that a factorized one is made from, if it is."""
    start = experiment_of(wildcards).start_of_backbone(wildcards.backbone)
    return [layout_of(wildcards).backbone_model(start)] if start else []


def embeddings_of_backbone(wildcards):
    """The user's own class embeddings, for a soft gate."""
    experiment = experiment_of(wildcards)
    soft = experiment.backbones[wildcards.backbone].given_to == "soft"
    return embedding_files(experiment) if soft else []


rule pretrain:
    input:
        data_of_pretraining,
        start_of_backbone,
        embeddings_of_backbone,
    output:
        ANY.backbone_files("{backbone}"),
        record=ANY.record(ANY.backbone("{backbone}"), "pretrain"),
    params:
        file=params_file,
        recipe=recipe("pretrain", "backbone"),
    log:
        ANY.log("pretrain", "{backbone}"),
    threads: threads_of_all_processes("pretrain")
    resources:
        gpu=gpus_of_all_processes("pretrain"),
        runtime=0,
    retries: retries_of_training()
    priority: 100  # everything waits for these
    message:
        "{wildcards.experiment}: pre-train backbone {wildcards.backbone}"
    shell:
        command("pretrain", "backbone", more=MINUTES)


rule extract:
    input:
        ANY.backbone_model("{backbone}"),
    output:
        ANY.learngenes("{backbone}"),
        directory(ANY.tailor_folder("{backbone}")),
        record=ANY.record(ANY.learngenes("{backbone}").parent, "extract"),
    params:
        file=params_file,
        recipe=recipe("extract", "backbone"),
    log:
        ANY.log("extract", "{backbone}"),
    priority: 100
    message:
        "{wildcards.experiment}: take backbone {wildcards.backbone} apart"
    shell:
        command("extract", "backbone")


rule replay:
    input:
        ANY.backbone_model("{backbone}"),
    output:
        ANY.replay("{backbone}"),
        record=ANY.record(ANY.backbone("{backbone}"), "replay"),
    params:
        file=params_file,
        recipe=recipe("replay", "backbone"),
    log:
        ANY.log("replay", "{backbone}"),
    threads: threads_of
    resources:
        gpu=gpus_of,
    message:
        "{wildcards.experiment}: draw images of backbone {wildcards.backbone}"
    shell:
        command("replay", "backbone")
