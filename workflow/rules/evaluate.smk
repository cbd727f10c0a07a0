# Samples against the task's reference.


def judge_of(wildcards):
    return [layout_of(wildcards).judge(wildcards.task)] if experiment_of(wildcards).is_judged else []


rule evaluate_part:
    input:
        ANY.record(RUN, "sample"),
        extractor_files,
        after_choice,
    output:
        temp(ANY.part("evaluate", "{task}", "{method}", "{seed}")),
    params:
        file=params_file,
        recipe=recipe("evaluate", "task", "method", "seed"),
    log:
        ANY.log("evaluate_part", "{task}", "{method}", "{seed}", "{part}_of_{parts}"),
    threads: threads_of
    resources:
        gpu=gpus_of,
    message:
        "{wildcards.experiment}: features of {wildcards.task} by {wildcards.method}, seed {wildcards.seed}, "
        "part {wildcards.part} of {wildcards.parts}"
    shell:
        command("evaluate", "task", "method", "seed", more=PART)


rule evaluate:
    input:
        ANY.record(RUN, "sample"),
        ANY.record(RUN, "finetune"),
        ANY.reference("{task}"),
        judge_of,
        ANY.record(ANY.reference("{task}").parent, "{task}"),
        extractor_files,
        data_of_task,
        after_choice,
        parts_of("evaluate", feature_jobs, records_of_run("evaluate", "sample", "finetune"), "task", "method", "seed"),
    output:
        ANY.metrics(RUN),
        record=ANY.record(RUN, "evaluate"),
    params:
        file=params_file,
        recipe=recipe("evaluate", "task", "method", "seed"),
    log:
        ANY.log("evaluate", "{task}", "{method}", "{seed}"),
    threads: threads_of
    resources:
        gpu=gpus_of,
    message:
        "{wildcards.experiment}: evaluate {wildcards.task} by {wildcards.method}, seed {wildcards.seed}"
    shell:
        command("evaluate", "task", "method", "seed")
