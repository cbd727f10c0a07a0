# The learning rate of each methods entry that has none: the best of its trials.  Trials are runs like any other.
# A checkpoint, so that after it the runs are planned anew: where the rate is the same they are not made again.


localrules: choose


def metrics_of_trials(wildcards):
    experiment, layout = experiment_of(wildcards), layout_of(wildcards)
    return [layout.metrics(layout.run(*trial)) for trial in experiment.trials(wildcards.method)]


checkpoint choose:
    input:
        metrics_of_trials,
    output:
        ANY.tuned_files("{method}"),
        record=ANY.record(ANY.tuning, "{method}.choose"),
    params:
        file=params_file,
        recipe=recipe("choose", "method"),
    log:
        ANY.log("choose", "{method}"),
    wildcard_constraints:
        method="[A-Za-z0-9_-]+",
    priority: 50  # runs and analyses wait for it
    message:
        "{wildcards.experiment}: choose the learning rate of {wildcards.method}"
    shell:
        command("choose", "method")
